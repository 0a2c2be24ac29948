"""A full disk, a killed agent, a disk that refuses: loud, and the replica is right afterwards."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from pathlib import Path
from unittest import mock

import pytest

from livelift.errors import StoreError
from livelift.model.record import Kind
from livelift.replay import progress
from livelift.replay.replayer import Replayer
from livelift.replay.trouble import Ledger, Notes, ReplicaError, ReplicaFullError, replica_error
from tests.loopfs import loop_filesystem
from tests.replay.conftest import Place
from tests.replay.logbook import ROOT, directory, snapshot
from tests.replay.world import World


@pytest.mark.root
def test_a_full_disk_raises_and_the_same_batch_applies_later(tmp_path: Path) -> None:
    with loop_filesystem("ext4", 16) as disk:
        ballast = disk / "ballast"
        (disk / "replica").mkdir()
        ballast.write_bytes(bytes(8 << 20))
        place = Place(tmp_path / "state", disk / "replica")
        log = place.log
        log.mkdir(10, ROOT, b"d")
        log.base(11, 10, b"moved", b"m")
        log.rename(11, 10, b"moved", 10, b"here")
        log.rename(99, 10, b"nothing", 10, b"there")  # a conflict that must not get lost
        for number in range(60):
            log.base(100 + number, 10, b"f%d" % number, bytes([number]) * (100 << 10))
        log.attributes(10, ROOT, b"d", directory(0o700))
        records = log.take()
        for _ in range(2):
            with pytest.raises(ReplicaFullError) as caught:
                place.replayer.apply(records)
            assert "space" in caught.value.remedy and isinstance(caught.value, StoreError)
            assert place.replayer.applied_lsn < len(records)
        ballast.unlink()
        result = place.replayer.apply(records)
        assert (result.applied_lsn, [conflict.oid for conflict in result.conflicts]) == (len(records), [99])
        place.replayer.checkpoint()
        tree = snapshot(place.top)
        assert {tree[b"d/f%d" % n][-1] == bytes([n]) * (100 << 10) for n in range(60)} == {True}
        assert tree[b"d/here"][-1] == b"m"
        place.replayer.close()


@pytest.mark.root
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_anywhere(ext4: Place, workers: int, rng: random.Random) -> None:
    """A child applies and is killed, again and again, at any moment; the next one goes on from the checkpoint."""
    world = World(rng)
    while len(world.log.records) < 3000:
        world.step()
    records = world.log.records
    state = ext4.state + b"-killed"
    kills = 0
    while True:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                replayer = Replayer(state, ext4.maps, workers)
                at = replayer.durable_lsn
                while at < len(records):
                    result = replayer.apply(records[at : at + 100])
                    assert not result.conflicts, result.conflicts
                    at += 100
                    if rng.random() < 0.1:
                        replayer.checkpoint()
                replayer.checkpoint()
                status = 0
            finally:
                os._exit(status)
        if kills < 12:
            time.sleep(rng.uniform(0.01, 0.1))
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL)
        if code == 0:
            break
        kills += 1
    assert world.differences(ext4.top) == []
    replayer = Replayer(state, ext4.maps, workers)
    assert replayer.durable_lsn == len(records)
    replayer.close()


def test_a_disk_that_loses_pages_at_a_checkpoint(place: Place) -> None:
    """After a failed syncfs the pages may be gone: this replayer stops, the next one has everything read again."""
    log = place.log
    log.base(10, ROOT, b"a", b"a")
    place.apply()
    place.replayer.checkpoint()
    log.write(10, ROOT, b"a", 0, b"A")
    log.link(10, ROOT, b"a", ROOT, b"b")
    log.mkdir(11, ROOT, b"d")
    place.apply()
    with (
        mock.patch.object(progress, "syncfs", side_effect=OSError(errno.EIO, "Input/output error")),
        pytest.raises(ReplicaError, match="writing to disk") as caught,
    ):
        place.replayer.checkpoint()
    assert "dmesg" in caught.value.remedy
    with pytest.raises(ReplicaError, match="cannot go on"):
        place.replayer.apply([])
    place.crash()
    assert place.replayer.durable_lsn == 2
    assert [(c.oid, c.kind) for c in place.replayer.apply(log.records[2:]).conflicts] == [(10, Kind.WRITE)]
    place.replayer.checkpoint()
    place.crash()
    assert place.replayer.apply(log.records).conflicts == []


def test_a_finished_replica_begins_anew_when_it_is_opened_again(place: Place) -> None:
    place.log.base(10, ROOT, b"a", b"a")
    place.apply()
    place.replayer.finish()
    with pytest.raises(ReplicaError):
        place.replayer.apply([])
    place.replayer.close()
    durable = place.replayer.durable_lsn
    place.replayer = Replayer(place.state, place.maps)  # the cut was rolled back: it goes on where it was
    assert place.replayer.durable_lsn == durable
    place.log.base(11, ROOT, b"b", b"b")
    place.apply()


def test_a_replica_whose_disk_is_not_there_is_refused(place: Place) -> None:
    """After a reboot the mount point may be there and the disk not: nothing may be written on the empty directory."""
    place.log.base(10, ROOT, b"a", b"a")
    place.apply()
    place.replayer.checkpoint()
    place.replayer.close()
    away = place.maps[0].target + b"-away"
    os.rename(place.maps[0].target, away)
    os.mkdir(place.maps[0].target)
    with pytest.raises(ReplicaError, match="its mark is missing"):
        Replayer(place.state, place.maps)
    shutil.rmtree(place.maps[0].target)
    os.rename(away, place.maps[0].target)
    place.replayer = Replayer(place.state, place.maps)


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (errno.ENOSPC, ReplicaFullError, "space"),
        (errno.EDQUOT, ReplicaFullError, "quota"),
        (errno.EROFS, ReplicaError, "remount"),
        (errno.EMFILE, ReplicaError, "NOFILE"),
        (errno.EIO, ReplicaError, "dmesg"),
    ],
)
def test_remedies(number: int, kind: type[ReplicaError], remedy: str) -> None:
    error = replica_error(OSError(number, os.strerror(number)), "WRITE f")
    assert type(error) is kind and remedy in error.remedy and "WRITE f" in str(error)


def test_problems_are_counted_with_a_few_examples() -> None:
    ledger, notes = Ledger(lambda oid: b"d%d" % oid if oid else b""), Notes()
    for number in range(20):
        notes.add("lost-owner", OSError(errno.EPERM, "not permitted"), number, b"f", "be root")
    assert [problem.path for problem in ledger.take(notes)] == [b"f"]
    notes.add("lost-owner", OSError(errno.EPERM, "not permitted"), 1, b"g")
    assert ledger.take(notes) == ledger.take(notes) == []
    (problem,) = ledger.problems()
    assert problem.detail == "not permitted: 21 times (e.g. f, d1/f, d2/f, d3/f, d4/f)"
    assert problem.remedy == "be root"

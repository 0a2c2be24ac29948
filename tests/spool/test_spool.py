from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from livelift.errors import LockedError, StateError, StoreError, WireError
from livelift.model.record import Kind, Record
from livelift.spool.spool import Spool, SpoolFullError
from tests.spool.helpers import JOB, base, drain, mark, plain, records, unlink, write


class Stopped:
    def now(self) -> int:
        return 77

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def directory(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path / "spool")


def test_records_get_consecutive_lsns_and_a_time(directory: bytes) -> None:
    with Spool(directory, JOB, clock=Stopped()) as spool:
        first, second = mark(), mark()
        second.time = 5
        assert spool.append([first, second]) == (1, 2)
        assert spool.append([mark()]) == (3, 3)
        assert [(r.lsn, r.time) for r in drain(spool)] == [(1, 77), (2, 5), (3, 77)]
        assert (first.lsn, second.lsn, spool.last_lsn, spool.oldest_lsn) == (1, 2, 3, 1)
        with pytest.raises(ValueError, match="no records"):
            spool.append([])


def test_a_record_that_cannot_be_encoded_changes_nothing(directory: bytes) -> None:
    with Spool(directory, JOB) as spool:
        wrong = Record(Kind.WRITE, mark().body)
        with pytest.raises(TypeError):
            spool.append([mark(), wrong])
        assert wrong.lsn == 0 and spool.last_lsn == 0
        assert spool.append([mark()]) == (1, 1)


def test_base_content_is_sent_from_memory_and_elided_behind_it(directory: bytes) -> None:
    with Spool(directory, JOB) as spool:
        spool.append([base(5, b"content"), write(6, b"data")])
        assert plain(drain(spool)) == [(1, Kind.BASE_FILE, b"content", False, 0), (2, Kind.WRITE, b"data", False, 0)]
        spool.sent(2)
        assert spool.memory_bytes == 0
        elided = [(1, Kind.BASE_FILE, b"", True, 7), (2, Kind.WRITE, b"data", False, 0)]
        assert plain(drain(spool)) == elided
    with open(os.path.join(directory, os.listdir(directory)[0]), "rb") as file:
        assert b"content" not in file.read()
    with Spool(directory, JOB) as spool:
        assert spool.recovered_lsn == 2
        assert plain(drain(spool)) == elided
        assert spool.append([mark()]) == (3, 3)


@pytest.mark.parametrize("memory", [1 << 20, 5000, 0], ids=["memory", "mixed", "disk"])
def test_a_sender_resumes_anywhere(directory: bytes, memory: int) -> None:
    """From memory, from disk, and from batches of which memory has only the base content."""
    with Spool(directory, JOB, memory=memory, segment_size=2000) as spool:
        for n in range(8):
            spool.append([mark(), base(9, b"base%d" % n * 20), write(5, b"%d" % n * 300), unlink(5)])
        everything = plain(drain(spool))
        assert [lsn for lsn, *_ in everything] == list(range(1, 33))
        assert not any(elided for *_, elided, _ in everything), "base content stays until it was sent"
        for after in range(32):
            assert plain(drain(spool, after)) == everything[after:]
        for after in reversed(range(32)):
            assert records(spool.next(after, 0))[0].lsn == after + 1


def test_what_the_disk_has_leaves_memory_first(directory: bytes) -> None:
    with Spool(directory, JOB, memory=100_000) as spool:
        for n in range(100):
            spool.append([write(5, bytes([n]) * 5000), base(6, bytes([n]) * 100)])
            assert spool.memory_bytes < 100_000 + 6000
        assert [bytes(r.payload[:1]) for r in drain(spool)] == [bytes([n]) for n in range(100) for _ in "wb"]
        for _ in range(2000):
            spool.append([mark()])
        assert spool.memory_bytes < 106_000, "records without content count too"


def test_base_content_waits_for_room(directory: bytes) -> None:
    with Spool(directory, JOB, memory=10_000) as spool:
        assert spool.wait_room(50_000, 0), "what is larger than the memory goes alone"
        spool.append([base(5, bytes(6000))])
        assert spool.wait_room(3000, 0)
        assert not spool.wait_room(6000, 0.01)
        waited: list[bool] = []
        thread = threading.Thread(target=lambda: waited.append(spool.wait_room(6000, 5)))
        thread.start()
        spool.sent(1)
        thread.join(5)
        assert waited == [True]


def test_base_content_waits_while_the_disk_is_full_of_unacknowledged_records(directory: bytes) -> None:
    with Spool(directory, JOB, cap=20_000) as spool:
        while spool.disk_bytes < 18_000:
            spool.append([write(5, bytes(500))])
        spool.sent(spool.last_lsn)
        assert not spool.wait_room(1, 0.01)
        spool.acked(spool.last_lsn)
        assert spool.wait_room(1, 0)


def test_next_waits_for_an_append_and_for_close(directory: bytes) -> None:
    spool = Spool(directory, JOB)
    assert spool.next(0, 0.01) is None
    found: list[int] = []

    def sender() -> None:
        after = 0
        while (batch := spool.next(after, 5)) is not None:
            after = batch.last_lsn
            found.append(after)

    thread = threading.Thread(target=sender)
    thread.start()
    spool.append([mark()])
    while not found:
        time.sleep(0.001)
    spool.close()
    thread.join(5)
    assert found == [1] and not thread.is_alive()
    assert not spool.wait_room(1, 5)
    spool.close()
    with pytest.raises(StateError, match="closed"):
        spool.append([mark()])


def test_acknowledged_segments_go_and_the_lsn_stays(directory: bytes) -> None:
    with Spool(directory, JOB, segment_size=1000) as spool:
        for n in range(50):
            spool.append([write(5, bytes([n]) * 200)])
        before = spool.disk_bytes
        spool.acked(20)
        assert 0 < spool.disk_bytes < before
        assert 10 < spool.oldest_lsn <= 21
        spool.acked(10)
        assert spool.acked_lsn == 20
        assert [r.lsn for r in drain(spool, 20)] == list(range(21, 51))
        with pytest.raises(StateError, match="deleted"):
            spool.next(5, 0)
        with pytest.raises(WireError, match="acknowledges LSN 51"):
            spool.acked(51)
        spool.acked(50)
        on_disk = sum(entry.stat().st_size for entry in os.scandir(directory) if entry.name.endswith(b".seg"))
        assert spool.disk_bytes == on_disk < 2000
    with Spool(directory, JOB) as spool:
        assert (spool.last_lsn, spool.acked_lsn) == (50, 50)
        assert spool.next(50, 0) is None
        assert spool.append([mark()]) == (51, 51)
        assert [r.lsn for r in drain(spool, 50)] == [51]


def test_sync_makes_segments_and_their_names_durable(directory: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool(directory, JOB, segment_size=300) as spool:
        flushed: list[int] = []
        real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", lambda fd: (flushed.append(os.fstat(fd).st_ino), real(fd))[1])
        monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_ino))
        for _ in range(3):
            spool.append([write(5, bytes(400))])
        assert (spool.synced_lsn, spool.sync(), spool.synced_lsn) == (0, 3, 3)
        inodes = {entry.inode() for entry in os.scandir(directory) if entry.name.endswith(b".seg")}
        assert len(inodes) == 3 and set(flushed) == inodes | {os.stat(directory).st_ino}
        flushed.clear()
        assert spool.sync() == 3 and not flushed


def test_few_files_are_open_however_long_the_log_is(directory: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        with Spool(directory, JOB, segment_size=300, memory=0) as spool:
            for n in range(30):
                spool.append([write(5, bytes(400))])
                if n % 3 == 0:
                    spool.sync()
            spool.sync()
            assert len(drain(spool)) == spool.last_lsn
            assert len(os.listdir("/proc/self/fd")) <= before + 5
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_failed_flush_is_final(directory: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool(directory, JOB) as spool:
        spool.append([mark()])

        def fail(fd: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(StoreError, match="flushing"):
                spool.sync()
        for call in (spool.sync, spool.collapse, lambda: spool.append([mark()])):
            with pytest.raises(StoreError, match="flushing"):
                call()


def test_one_process_at_a_time(directory: bytes) -> None:
    with Spool(directory, JOB), pytest.raises(LockedError):
        Spool(directory, JOB)
    Spool(directory, JOB).close()


def test_backlog(directory: bytes) -> None:
    with Spool(directory, JOB, memory=1 << 30) as spool:
        assert spool.backlog_bytes(0) == 0
        for _ in range(100):
            spool.append([base(5, bytes(10_000))])
        assert spool.backlog_bytes(100) == 0
        for after in range(100):
            exact = (100 - after) * 10_100
            assert exact - 5000 < spool.backlog_bytes(after) < exact + 75_000
        spool.acked(50)
        assert abs(spool.backlog_bytes(50) - 505_000) < 75_000


def test_files_are_for_root_only(directory: bytes) -> None:
    with Spool(directory, JOB) as spool:
        spool.append([mark()])
        assert os.stat(directory).st_mode & 0o777 == 0o700
        assert {entry.stat().st_mode & 0o777 for entry in os.scandir(directory)} == {0o600}


# ---- pressure


def test_over_the_cap_the_hottest_object_loses_its_content(directory: bytes) -> None:
    lost: list[int] = []
    with Spool(directory, JOB, cap=20_000, on_elided=lost.extend) as spool:
        spool.append([write(5, bytes(8500))])
        spool.append([write(6, bytes(7000))])
        assert not lost
        spool.append([write(6, b"a" * 1000), write(5, b"b" * 1500), write(7, b"c" * 100), unlink(8)])
        assert lost == [5]
        assert plain(drain(spool, 2)) == [
            (3, Kind.WRITE, b"a" * 1000, False, 0),
            (4, Kind.WRITE, b"", True, 1500),
            (5, Kind.WRITE, b"c" * 100, False, 0),
            (6, Kind.UNLINK, b"", False, 0),
        ]
        assert spool.disk_bytes <= 18_000
        spool.append([write(7, bytes(100)), write(5, bytes(500))])
        assert lost == [5, 5], "an object that has to be read again anyhow gives way first"
        for _ in range(10):
            spool.append([unlink(9)])
        assert 18_000 < spool.disk_bytes <= 20_000, "records without content have a reserve"


def test_beyond_the_reserve_the_log_is_given_up(directory: bytes) -> None:
    with Spool(directory, JOB, cap=20_000) as spool:
        spool.append([write(5, bytes(5000))])
        spool.sent(1)
        refused = unlink(9)
        with pytest.raises(SpoolFullError):
            while True:
                spool.append([refused])
        last = spool.last_lsn
        assert refused.lsn == 0 and spool.disk_bytes <= 20_000
        assert spool.collapse(detail="why") == last + 1
        assert spool.disk_bytes < 500
        assert spool.append([mark()]) == (last + 2, last + 2)
        for after in (0, 1, last - 1, last):
            gap, rest = drain(spool, after)
            assert (gap.lsn, gap.kind, gap.body.oid, gap.body.detail) == (last + 1, Kind.GAP, 0, "why")
            assert rest.lsn == last + 2
    with Spool(directory, JOB) as spool:
        assert [r.lsn for r in drain(spool, 5)] == [last + 1, last + 2]
        spool.acked(last + 1)


def test_lsns_go_on_behind_what_the_target_has(directory: bytes) -> None:
    """A power failure took records of which the target has some: their numbers are not used again."""
    with Spool(directory, JOB) as spool:
        spool.append([mark()] * 1)
        assert spool.collapse(at_least=500) == 501
        assert [r.lsn for r in drain(spool, 500)] == [501]
        assert spool.synced_lsn == 501
    with Spool(directory, JOB) as spool:
        assert spool.append([mark()]) == (502, 502)


@pytest.mark.parametrize("old_files_remain", [True, False])
def test_giving_up_survives_a_crash(
    directory: bytes, monkeypatch: pytest.MonkeyPatch, old_files_remain: bool
) -> None:
    spool = Spool(directory, JOB, segment_size=500)
    for _ in range(10):
        spool.append([write(5, bytes(200))])
    spool.acked(4)

    def crash(covers: int, batch: object) -> None:
        if not old_files_remain:
            for segment in spool._chain.segments:
                os.unlink(segment.path)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool._chain, "restart", crash)
    with pytest.raises(StoreError, match="beginning a new log"):
        spool.collapse()
    spool.close()
    with Spool(directory, JOB) as again:
        (gap,) = drain(again, 4)
        assert (gap.lsn, gap.kind) == (11, Kind.GAP)
        assert again.append([mark()]) == (12, 12)
    with Spool(directory, JOB) as again:
        assert [r.lsn for r in drain(again, 4)] == [11, 12]


def test_a_full_disk_is_like_a_full_log(directory: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    room = [10_000]
    real = os.pwritev

    def pwritev(fd: int, parts: list[bytes], offset: int) -> int:
        """Short writes up to what fits, as a file system does, then ENOSPC."""
        data = b"".join(parts)[: room[0]]
        if not data:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= len(data)
        return real(fd, [data], offset)

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        return pwritev(fd, [data], offset)

    lost: list[int] = []
    with Spool(directory, JOB, on_elided=lost.extend) as spool:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", pwritev)
            patch.setattr(os, "pwrite", pwrite)
            spool.append([write(5, bytes(5000))])
            room[0] = 1000
            truncate = os.ftruncate

            def ftruncate(fd: int, size: int) -> None:
                room[0] += os.fstat(fd).st_size - size
                truncate(fd, size)

            patch.setattr(os, "ftruncate", ftruncate)
            spool.append([write(6, bytes(5000)), unlink(7)])
            assert lost == [6]
            room[0] = 50
            with pytest.raises(SpoolFullError, match="no space left"):
                spool.append([write(6, bytes(5000))])
            assert spool.last_lsn == 3
        assert plain(drain(spool))[1:] == [(2, Kind.WRITE, b"", True, 5000), (3, Kind.UNLINK, b"", False, 0)]
        spool.append([mark()])
        spool.sent(4)
        assert [r.lsn for r in drain(spool)] == [1, 2, 3, 4]
    with Spool(directory, JOB) as spool:
        assert (spool.last_lsn, spool.torn_bytes) == (4, 0)


@pytest.mark.root
def test_a_really_full_file_system(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "livelift-test", tmp_path], check=True)
    try:
        lost: list[int] = []
        with Spool(os.fsencode(tmp_path / "spool"), JOB, segment_size=1 << 20, on_elided=lost.extend) as spool:
            with pytest.raises(SpoolFullError, match="no space left"):
                for n in range(1_000_000):
                    spool.append([write(5, bytes([n % 256]) * 3000), unlink(6)])
            assert lost and set(lost) == {5}
            last = spool.last_lsn
            assert [r.lsn for r in drain(spool)] == list(range(1, last + 1))
            assert spool.collapse() == last + 1
            assert spool.append([write(5, bytes(3000))]) == (last + 2, last + 2)
        with Spool(os.fsencode(tmp_path / "spool"), JOB) as spool:
            assert [r.lsn for r in drain(spool)] == [last + 1, last + 2]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# ---- all at once


def test_many_threads(directory: bytes) -> None:
    """Appenders, a sender that falls behind and loses its link, acknowledgements, flushes: all arrives, in order."""
    producers, each = 3, 300
    with Spool(directory, JOB, segment_size=20_000, memory=30_000) as spool:
        failures: list[BaseException] = []
        stop = threading.Event()

        def produce(number: int) -> None:
            for n in range(each):
                spool.append([write(number + 1, b"%d" % n * 40, offset=n), mark(f"{number} {n}")])

        def flush() -> None:
            while not stop.is_set():
                spool.sync()
                time.sleep(0.001)

        def guarded(work: object, *args: int) -> threading.Thread:
            def run() -> None:
                try:
                    work(*args)  # type: ignore[operator]
                except BaseException as error:
                    failures.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        threads = [guarded(produce, number) for number in range(producers)]
        flusher = guarded(flush)
        seen: dict[int, tuple[Kind, bytes]] = {}
        after, breaks, total = 0, 50, producers * each * 2
        while after < total:
            batch = spool.next(after, 10)
            assert batch is not None and batch.first_lsn == after + 1, failures
            for record in records(batch):
                assert seen.setdefault(record.lsn, (record.kind, bytes(record.payload))) == (
                    record.kind,
                    bytes(record.payload),
                )
            after = batch.last_lsn
            if after % 7 == 0:
                spool.sent(after)
            if after > breaks:
                breaks += 50
                spool.acked(after - 30)
                after -= 30 - breaks % 3  # the link broke: the sender begins again at what was acknowledged
        stop.set()
        for thread in [*threads, flusher]:
            thread.join(10)
        assert not failures
        assert sorted(seen) == list(range(1, total + 1))
        assert spool.sync() == total


CHILD = """
import sys
from livelift.model.record import Kind, Record
from livelift.spool.spool import Spool
from tests.spool.helpers import mark, write
spool = Spool(sys.argv[1].encode(), "0123abcd", segment_size=30_000)
n = 0
while True:
    n += 1
    _, last = spool.append([write(5, b"%d" % n * 500), mark(str(n))])
    sys.stdout.write(f"{last}\\n")
    sys.stdout.flush()
    if n % 50 == 0:
        spool.acked(last - 40)
"""


def test_kill_in_the_middle(directory: bytes) -> None:
    """What append returned is there after kill -9 (the page cache survives the process), and the LSNs go on."""
    root = Path(__file__).resolve().parents[2]
    last = 0
    for attempt in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, os.fsdecode(directory)],
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert child.stdout is not None
        told = last
        while told < last + 120 + attempt * 33:
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        told = max([told, *map(int, child.stdout.read().split(b"\n")[:-1])])
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        with Spool(directory, JOB) as spool:
            assert spool.last_lsn >= told
            found = drain(spool, spool.acked_lsn)
            assert [r.lsn for r in found] == list(range(spool.acked_lsn + 1, spool.last_lsn + 1))
            last = spool.last_lsn

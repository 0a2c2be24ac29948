"""What the closing verification finds is made good: real parts of both agents over two directories, with no capture."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from livelift.index.tree import TreeIndex
from livelift.merge.brackets import Brackets
from livelift.model.entry import Attributes, object_id
from livelift.model.job import Map
from livelift.model.record import Changed, Kind, Make, Record, Unlink
from livelift.ports import Dirty as DirtyEvent
from livelift.ports import Event, Exact
from livelift.protocol.messages import VerifyAsk
from livelift.replay.replayer import Replayer
from livelift.source.changes import Changes
from livelift.source.dirty import Dirty
from livelift.source.edge import attributes_at
from livelift.source.exclude import Exclusions
from livelift.source.follower import Follower
from livelift.source.gaps import Gaps
from livelift.source.healer import Healer
from livelift.source.journal import Journal
from livelift.source.live import Live
from livelift.source.repair import Repair
from livelift.source.walk_names import Found
from livelift.source.walk_queue import Listing
from livelift.source.walker import Walker
from livelift.target.verifying import Answerer
from livelift.verify.compare import Difference
from livelift.verify.scan import Scope
from livelift.walk.ignore import OURS
from tests.verify.helpers import differences, fields, verifier

SIZES = (15, 274_432)
"""A file that goes into the log as one record, and one that goes there in pieces."""


class Pair:
    """``exact``: as an in-kernel mode is followed. ``elsewhere``: where the target has what is below ``second``."""

    def __init__(self, tmp_path: Path, exact: bool, elsewhere: Path | None = None) -> None:
        self.source, self.replica = tmp_path / "source", tmp_path / "replica"
        self.replica.mkdir()
        self.maps = [Map(bytes(self.source), bytes(self.replica))]
        tops = [self.source]
        if elsewhere is not None:
            tops.append(tmp_path / "second")
            self.maps.append(Map(bytes(tops[1]), bytes(elsewhere)))
        (tmp_path / "spool").mkdir()
        index = TreeIndex(os.fsencode(tmp_path / "index"))
        self.journal = Journal(os.fsencode(tmp_path / "spool"), "00", index, 1 << 30, 64 << 20, lambda why: None)
        self.unsent: list[Record] = []
        self._emit = self.journal.emit
        self.journal.emit = self._note  # type: ignore[method-assign]
        st = os.stat(self.source)
        roots = {object_id(0, os.stat(top).st_ino): bytes(top) for top in tops}
        self.root = next(iter(roots))
        self.live = Live(index, self.journal.lock, roots, {st.st_dev: 0}.get, attributes_at)
        self.brackets: Brackets[Event] = Brackets()
        self.dirty, self.bulk = Dirty(time.monotonic), Dirty(time.monotonic)
        self.dirty.set_hurry(True)
        self.gaps = Gaps(self.journal, time.monotonic)
        self.exclusions = Exclusions(self.maps, {}, index, [*roots])
        self.walker = Walker(
            self.journal, self.live, self.brackets, self.dirty, self.bulk, self.gaps, lambda: [*roots],
            self.exclusions, 1,
        )  # fmt: skip
        self.follower = Follower(
            self.journal, self.live, self.brackets, self.dirty, self.gaps, self.walker.add, self.exclusions.included
        )
        self.walker.follower = self.follower
        self.walker.capture = SimpleNamespace(watch_directory=lambda oid, path: None)  # type: ignore[assignment]
        self.changes = Changes(
            self.journal, self.live, self.brackets, self.dirty, self.bulk, self.gaps, self.follower, threading.Event(),
            lambda oid, place: None,
        )  # fmt: skip
        if exact:
            self.follower.told.exact = True
            self.changes.follow_exactly()
        self.healer = Healer(self)  # type: ignore[arg-type]
        self.target = Answerer(bytes(tmp_path), self.maps)
        self.target.configure(self.maps)
        self.replayer = Replayer(bytes(tmp_path / "state"), self.maps, 2)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (
                lambda: self.walker.run(self._stop, lambda each: each),
                lambda: self.changes.run(self.dirty, self._stop),
                lambda: self.changes.run(self.bulk, self._stop),
            )
        ]
        for thread in self._threads:
            thread.start()
        plain = Attributes(0o40755, 0, 0, 0, 0, 0, 0)
        for number, root in enumerate(roots):
            self.journal.put(Kind.MKDIR, Make(root, 0, b"%d" % number, plain))
        self.walker.add(0, True)
        self.settle()

    def _note(self, records: list[Record], late: bool = True) -> list[int]:
        lost = self._emit(records, late)
        self.unsent += records
        return lost

    def settle(self) -> None:
        """Until the log has everything and the replica what the log says."""
        deadline = time.monotonic() + 20
        while not (self.walker.queue.idle() and self.dirty.idle() and self.bulk.idle() and self.follower.idle):
            assert time.monotonic() < deadline
            self.follower.process([])
            time.sleep(0.005)
        with self.journal.lock:
            records, self.unsent = self.unsent, []
        assert self.replayer.apply(records).conflicts == []

    def tell(self, kind: Kind, body: Unlink) -> None:
        """A record that an in-kernel mode would have made, whatever is true."""
        self.journal.emit([Record(kind, body)], late=False)
        self.dirty.add(body.parent, False)
        self.settle()

    def of(self, name: str) -> int:
        return object_id(0, os.stat(self.source / name).st_ino)

    def differences(self) -> list[Difference]:
        found = differences(self.source, self.replica, ignore=lambda _map, path: Scope.SKIP * (path == OURS))
        return [each for each in found if each.fails]

    def repair(self) -> dict[tuple[int, bytes], str]:
        """What was said of it."""
        found, repair = self.differences(), Repair(self)  # type: ignore[arg-type]
        with verifier(self.source) as mine:
            told = repair.look(found, mine.pieces, self._ask)
        repair.run(found, told)
        self.settle()
        return told

    def _ask(self, kind: bytes, payload: bytes, deadline: float) -> bytes:
        answer = self.target.answer(VerifyAsk(1, kind, payload))
        assert answer.kind == kind
        return answer.payload

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.target.close()
        self.replayer.close()
        self.journal.close()


@pytest.fixture(params=[True, False], ids=["exact", "hints"])
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pair]:
    (tmp_path / "source").mkdir()
    for size in SIZES:
        (tmp_path / f"source/{size}-a").write_bytes(os.urandom(size))
        for name in "bcd":
            os.link(tmp_path / f"source/{size}-a", tmp_path / f"source/{size}-{name}")
    (tmp_path / "source/with-two-names").write_bytes(b"text")
    os.link(tmp_path / "source/with-two-names", tmp_path / "source/with-two-names-b")
    made = Pair(tmp_path, request.param)
    try:
        assert made.differences() == []
        yield made
    finally:
        made.close()


def spoil(pair: Pair, name: str) -> None:
    """The replica has something else, and nobody was told."""
    with (pair.replica / name).open("r+b") as file:
        file.write(b"wrong")


@pytest.mark.parametrize("spoiled", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("gone", "abcd")
def test_a_name_that_the_log_has_and_the_source_has_not(pair: Pair, size: int, gone: str, spoiled: bool):
    """Its removal was lost. As long as the log goes on with it, it is made again on the target, and what is read again
    goes to a file that has fewer names than the target's."""
    (pair.source / f"{size}-{gone}").unlink()
    pair.dirty.add(pair.root, False)
    pair.settle()
    assert fields(pair.differences()) == {(b"%d-%s" % (size, gone.encode()), "extra on target")}
    if spoiled:
        spoil(pair, f"{size}-{'b' if gone == 'a' else 'a'}")
    pair.repair()
    assert pair.differences() == []
    assert len(pair.gaps) == 0


@pytest.mark.parametrize("gone", "abcd")
def test_a_name_that_the_log_alone_has(pair: Pair, gone: str):
    """It is no difference, and saying the file's names again is not to make it one."""
    oid = pair.of("15-a")
    for top in (pair.source, pair.replica):
        (top / f"15-{gone}").unlink()
    pair.dirty.add(pair.root, False)
    pair.settle()
    assert pair.differences() == []
    spoil(pair, f"15-{'b' if gone == 'a' else 'a'}")
    pair.repair()
    assert pair.differences() == []
    assert len(pair.journal.index.places(oid)) == 3


def test_a_name_that_the_log_alone_gives_to_this_file(pair: Pair):
    """Two files have exchanged a name on both sides, and the log does not know."""
    for top in (pair.source, pair.replica):
        (top / "15-c").rename(top / "aside")
        (top / "274432-c").rename(top / "15-c")
        (top / "aside").rename(top / "274432-c")
    pair.dirty.add(pair.root, False)
    pair.settle()
    assert pair.differences() == []
    spoil(pair, "15-b")
    pair.repair()
    assert pair.differences() == []


@pytest.mark.parametrize("size", SIZES)
def test_a_file_whose_first_name_went_untold_is_read_by_another(pair: Pair, size: int):
    oid = pair.of(f"{size}-a")
    (pair.source / f"{size}-a").unlink()
    spoil(pair, f"{size}-b")
    pair.gaps.open(oid, "a test")
    pair.dirty.add(oid, True)
    pair.settle()
    assert pair.differences() == []
    assert len(pair.gaps) == 0


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_is_read_again_while_one_of_its_names_goes(pair: Pair, size: int):
    """The source has fewer names than the log, whose next record says so: the others are not to keep what they had."""
    oid = pair.of(f"{size}-a")
    (pair.source / f"{size}-d").unlink()
    spoil(pair, f"{size}-a")
    pair.gaps.open(oid, "a test")
    pair.dirty.add(oid, True)
    pair.settle()
    pair.tell(Kind.UNLINK, Unlink(oid, pair.root, b"%d-d" % size))
    assert pair.differences() == []


@pytest.mark.parametrize("size", SIZES)
def test_a_name_of_another_file_on_the_target(pair: Pair, size: int):
    """The target has two files as one, and one as two."""
    other = SIZES[0] + SIZES[1] - size
    for name in "ab":
        (pair.replica / f"{other}-{name}").unlink()
        os.link(pair.replica / f"{size}-a", pair.replica / f"{other}-{name}")
    pair.repair()
    assert pair.differences() == []


@pytest.mark.parametrize("size", SIZES)
def test_a_file_on_the_target_that_has_names_of_two(pair: Pair, size: int):
    """Fewer than either has on the source: so nobody can tell by their number that it is neither of them."""
    for name in ("with-two-names", f"{size}-a"):
        (pair.replica / name).unlink()
    (pair.replica / "with-two-names").write_bytes(b"neither")
    os.link(pair.replica / "with-two-names", pair.replica / f"{size}-a")
    pair.repair()
    assert pair.differences() == []


@pytest.mark.parametrize("size", SIZES)
def test_a_name_that_another_file_has_by_now(pair: Pair, size: int):
    """Two files have exchanged a name, and nobody was told."""
    other = SIZES[0] + SIZES[1] - size
    one, two = pair.source / f"{size}-a", pair.source / f"{other}-a"
    one.rename(pair.source / "aside")
    two.rename(one)
    (pair.source / "aside").rename(two)
    pair.repair()
    assert pair.differences() == []


def test_names_that_are_on_two_file_systems_on_the_target(tmp_path: Path):
    """The second one is a copy of what the first one holds when the log says so: behind the content, therefore."""
    (tmp_path / "source").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "source/a").write_bytes(os.urandom(SIZES[1]))
    os.link(tmp_path / "source/a", tmp_path / "second/b")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        elsewhere = Path(shared)
        if os.stat(shared).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("/dev/shm is on the same file system as everything")
        pair = Pair(tmp_path, True, elsewhere)
        try:
            (elsewhere / "b").write_bytes(b"wrong")
            Repair(pair).run([Difference(1, b"b", "size")], {})  # type: ignore[arg-type]
            pair.settle()
            assert (elsewhere / "b").read_bytes() == (tmp_path / "source/a").read_bytes()
            assert pair.differences() == []
        finally:
            pair.close()


def test_what_only_the_target_has_is_removed(pair: Pair):
    (pair.replica / "more").mkdir()
    (pair.replica / "more" / "below").write_bytes(b"text")
    (pair.replica / "15-e").write_bytes(b"text")
    pair.repair()
    assert pair.differences() == []


@pytest.mark.parametrize("size", SIZES)
def test_a_name_that_nobody_told_of(pair: Pair, size: int):
    os.link(pair.source / f"{size}-a", pair.source / f"{size}-e")
    spoil(pair, f"{size}-a")
    pair.repair()
    assert pair.differences() == []


def test_a_directory_that_went_untold_with_all_that_is_in_it(pair: Pair):
    """The log still has it, so nothing is taken for what only the target has."""
    (pair.source / "more").mkdir()
    (pair.source / "more" / "below").write_bytes(b"text")
    pair.walker.add(0, True)
    pair.settle()
    assert pair.differences() == []
    (pair.source / "more" / "below").unlink()
    (pair.source / "more").rmdir()
    pair.repair()
    assert pair.differences() == []


def test_what_is_told_of_an_object_between_a_listings_look_and_the_log(pair: Pair):
    """The log does not know it yet, so what is told of it alone goes nowhere: the listing has to have it."""
    (pair.source / "more").mkdir()
    link = pair.source / "more" / "link"
    link.symlink_to("nowhere")
    see = pair.walker.names._see

    def see_and_change(job: Listing, name: bytes, found: Found) -> None:
        see(job, name, found)
        if name == b"link":
            os.utime(link, ns=(5, 7), follow_symlinks=False)
            oid = object_id(0, link.lstat().st_ino)
            told = Exact(Record(Kind.CHANGED, Changed(oid, 0, b"", None, None, None, 5, 7)))
            hint = DirtyEvent(oid, False, job.oid, name, b"", 0)
            pair.follower.process([told if pair.follower.told.exact else hint])

    pair.walker.names._see = see_and_change  # type: ignore[method-assign]
    pair.walker.add(0, True)
    pair.settle()
    assert pair.differences() == []


@pytest.mark.parametrize(("field", "kept"), [("unreadable", True), ("content", False)])
def test_what_cannot_be_read_keeps_what_the_target_has(pair: Pair, field: str, kept: bool):
    """A file with several names is made anew, but not if it may stay empty."""
    before = (pair.replica / "15-a").stat().st_ino
    held = (pair.replica / "15-a").open("rb")  # or its number would be used again at once
    Repair(pair).run([Difference(0, b"15-a", field)], {})  # type: ignore[arg-type]
    pair.settle()
    assert ((pair.replica / "15-d").stat().st_ino == before) is kept
    held.close()
    assert pair.differences() == []


def test_it_is_said_what_was_found(pair: Pair, caplog: pytest.LogCaptureFixture):
    """Which bytes, and the names of either side, in the agent's output and in the log's gap."""
    data = bytearray((pair.source / "274432-a").read_bytes())
    for at in (5000, 8191, 274_431):
        data[at] ^= 1
    (pair.replica / "274432-a").write_bytes(data)
    (pair.replica / "274432-d").unlink()
    told = pair.repair()
    assert "bytes 4096-8192, 270336-274432" in told[0, b"274432-a"]
    assert "4 names | 3" in told[0, b"274432-a"]
    assert "missing on target" in told[0, b"274432-d"]
    assert "274432-a" in caplog.text and "270336-274432" in caplog.text
    assert pair.differences() == []

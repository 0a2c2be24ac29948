"""The follower's own decisions, on the model world of `tests.merge` (its journal, its live tree)."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from livelift.merge.names import Seen
from livelift.model.record import Kind, Link, Make, Range, Record, Reflink, Rename, SetAttributes, Unlink, Xattr
from livelift.ports import Dirty as DirtyEvent
from livelift.ports import Exact, Lost, Named, Op
from tests.merge.world import ROOT, World
from tests.source.fakes import FakeCapture, file


def news(world: World) -> list[Record]:
    return [r for r in world.journal.log[world.mark :] if r.kind is not Kind.ATTRIBUTES]


# -- lost events -------------------------------------------------------------------------------------------------------


def test_lost_for_a_volume_walks_every_root_before_the_gap_is_open(world):
    order: list[str] = []
    world.follower.walk = lambda oid, deep: order.append(f"walk {oid} {deep}")
    world.gaps.open = lambda oid, reason: order.append(f"gap {oid} {reason}")
    world.follower.process([Lost(0, 3, "overflow")])
    assert order == ["walk 0 True", "gap -1 overflow"], "the gap closes when nothing is left to walk"


def test_lost_for_a_directory_or_a_file_opens_its_gap(world):
    world.follower.process([Lost(world.directory.oid, 0, "why")])
    assert world.gaps.is_open(world.directory.oid)
    assert [oid for oid, _ in world.stack] == [world.directory.oid]
    world.follower.process([Lost(world.file.oid, 0, "why")])
    assert world.gaps.is_open(world.file.oid)
    assert world.dirty.take(0)[0] == world.file.oid
    world.follower.process([Lost(12345, 0, "why")])
    assert not world.gaps.is_open(12345), "not known: the walk will meet it"


def test_a_failed_capture_is_a_gap_over_everything(world):
    world.follower.run(FakeCapture(OSError(9, "bad descriptor")), threading.Event())
    assert world.gaps.is_open(0)
    assert isinstance(world.follower.failure, OSError)
    assert world.follower.sync(FakeCapture(), 0.1), "whoever waits is not left waiting: the failure is told"


# -- brackets ----------------------------------------------------------------------------------------------------------


def test_names_of_a_directory_being_listed_wait(world):
    world.brackets.open(world.directory.oid)
    world.create(world.directory, b"new", True)
    world.deliver()
    assert news(world) == []
    world.follower.reopen(world.directory.oid)
    assert [r.kind for r in news(world)] == [Kind.MKDIR]


def test_a_new_file_is_read_first_and_then_goes_into_the_log_whole(world):
    file = world.create(world.directory, b"new")
    world.deliver()
    assert news(world) == []
    world._settle_down()
    assert [r.kind for r in news(world) if r.body.oid == file.oid] == [Kind.FILE]


def test_marks_on_an_object_being_read_wait(world):
    world.brackets.open(world.file.oid)
    world.write(world.file, world.directory, b"f")
    world.deliver()
    assert world.dirty.take(0) is None
    world.follower.reopen(world.file.oid)
    assert world.dirty.take(0)[0] == world.file.oid


def test_marks_on_an_unknown_object_wait_for_its_directory_only(world):
    event = DirtyEvent(999, True, world.directory.oid, b"new")
    world.follower.process([event])
    assert world.dirty.take(0) is None, "never begun: dropped, the walk will read the later state"
    world.brackets.open(world.directory.oid)
    world.follower.process([event])
    assert world.brackets.close(world.directory.oid).events == [event]


def test_too_many_held_events_mean_another_look(world):
    world.brackets._limit = 0
    for oid in (world.directory.oid, world.file.oid):
        world.brackets.open(oid)
    world.create(world.directory, b"new")
    world.write(world.file, world.directory, b"f")
    world.deliver()
    world.follower.reopen(world.directory.oid)
    world.follower.reopen(world.file.oid)
    assert world.stack == [(world.directory.oid, False)]
    world.check()


def test_a_mode_that_knows_names_only(world):
    world.follower.process([DirtyEvent(0, True, world.directory.oid, b"f")])
    assert world.dirty.take(0)[0] == world.file.oid
    world.create(world.directory, b"new")
    world.queue.clear()
    world.follower.process([DirtyEvent(0, True, world.directory.oid, b"new")])
    assert [r.kind for r in news(world)] == [Kind.CREATE]


def test_excluded_names_are_not_looked_at(world):
    world.follower._in_scope = lambda parent, name: not name.startswith(b".")
    world.create(world.directory, b".cache")
    world.deliver()
    assert news(world) == []
    world.rename(world.directory, b"f", world.directory, b".f")  # into the excluded: gone for the target
    world.deliver()
    assert [(r.kind, r.body.new_parent) for r in news(world)] == [(Kind.RENAME, -1)]


# -- exact records of in-kernel modes ----------------------------------------------------------------------------------


def exact(kind: Kind, body, payload: bytes = b"") -> Exact:
    return Exact(Record(kind, body, payload))


def test_exact_content_is_located(world):
    world.follower.process([exact(Kind.TRUNCATE, Range(world.file.oid, 0, b"", 5, 0))])
    (record,) = news(world)
    assert (record.body.parent, record.body.name) == (world.directory.oid, b"f")


@pytest.mark.parametrize(
    "body",
    [
        Range(999, 0, b"", 0, 1),
        SetAttributes(999, 0, b"", file()),
        Xattr(999, 0, b"", b"user.k"),
        Make(999, 888, b"n", file()),
        Unlink(999, 888, b"n"),
        Rename(999, ROOT, b"n", 888, b"n"),
        Link(999, 888, b"n", ROOT, b"m"),
    ],
)
def test_exact_records_on_what_was_never_begun_are_dropped(world, body):
    kinds = {Range: Kind.WRITE, SetAttributes: Kind.ATTRIBUTES, Xattr: Kind.XATTR_REMOVE, Make: Kind.CREATE}
    kinds |= {Unlink: Kind.UNLINK, Rename: Kind.RENAME, Link: Kind.LINK}
    world.follower.process([exact(kinds[type(body)], body)])
    assert len(world.journal.log) == world.mark


def test_content_of_a_file_that_is_still_known_as_something_else_is_dropped(world):
    """Its inode number was a directory's: the name events that say so are on their way."""
    world.follower.process([exact(Kind.WRITE, Range(world.directory.oid, 0, b"", 0, 3), b"new")])
    assert news(world) == []


def test_content_that_the_full_spool_dropped_is_a_gap(world, monkeypatch):
    monkeypatch.setattr(world.journal, "emit", lambda records, late=True: [world.file.oid])
    world.follower.process([exact(Kind.WRITE, Range(world.file.oid, 0, b"", 0, 3), b"new")])
    assert world.gaps.is_open(world.file.oid)


def test_exact_records_wait_while_a_bracket_is_open(world):
    content = exact(Kind.TRUNCATE, Range(world.file.oid, 0, b"", 5, 0))
    name = exact(Kind.UNLINK, Unlink(world.file.oid, world.directory.oid, b"f"))
    world.brackets.open(world.file.oid)
    world.brackets.open(world.directory.oid)
    world.follower.process([content, name])
    assert news(world) == []
    world.remove(world.directory, b"f")
    world.follower.reopen(world.file.oid)
    world.follower.reopen(world.directory.oid)  # names that waited are late: they are looked at
    assert [r.kind for r in news(world)] == [Kind.TRUNCATE, Kind.RENAME]


def test_content_that_waits_is_bounded_in_bytes(world, monkeypatch):
    """A big file is written while it is read: what memory cannot hold is read once more."""
    monkeypatch.setattr("livelift.source.told.MAX_WAITING", 1000)
    oid = world.file.oid
    world.brackets.open(oid)
    writes = [exact(Kind.WRITE, Range(oid, 0, b"", n * 400, 400), bytes([n]) * 400) for n in range(1, 5)]
    world.follower.process([*writes, exact(Kind.TRUNCATE, Range(oid, 0, b"", 5, 0))])
    world.follower.reopen(oid)
    assert [(r.kind, r.body.offset) for r in news(world)] == [
        (Kind.WRITE, 400),
        (Kind.WRITE, 800),
        (Kind.TRUNCATE, 5),
    ]
    assert world.dirty.take(0)[0] == oid
    world.brackets.open(oid)
    world.follower.process(writes[:2])
    world.follower.reopen(oid)
    assert len(news(world)) == 5, "what waited was given back"


def test_shared_blocks_are_located_on_both_sides(world):
    other = world.create(world.root, b"other")
    world.deliver()
    world.quiesce()
    world.mark = len(world.journal.log)
    world.journal.read.clear()
    body = Reflink(world.file.oid, 0, b"", 4096, 8192, other.oid, 0, b"", 0)
    world.follower.process([exact(Kind.REFLINK, body)])
    (record,) = news(world)
    assert (record.body.parent, record.body.name) == (world.directory.oid, b"f")
    assert (record.body.source_parent, record.body.source_name) == (ROOT, b"other")


@pytest.mark.parametrize("why", ["unknown", "read late", "being read"])
def test_shared_blocks_of_a_file_that_is_not_as_it_was_then_are_read(world, why):
    """What was read of either after the blocks were shared: sharing them again would bring the wrong ones."""
    source = 999 if why == "unknown" else world.directory.oid
    if why == "read late":
        world.journal.read[source] = 1
    elif why == "being read":
        world.brackets.open(source)
    world.follower.process([exact(Kind.REFLINK, Reflink(world.file.oid, 0, b"", 0, 1, source, 0, b"", 0))])
    assert news(world) == []
    oid, mark = world.dirty.take(0)
    assert oid == world.file.oid and mark.content


@pytest.mark.parametrize("late", ["read later", "still to be read", ""])
def test_what_must_not_happen_twice_is_read_if_the_file_was(world, late):
    """Or is to be: behind one that was not followed came another, which the target could not apply (EINVAL)."""
    if late == "read later":
        world.journal.read[world.file.oid] = 1
    elif late:
        world.dirty.add(world.file.oid, True)
    world.follower.process([exact(Kind.COLLAPSE, Range(world.file.oid, 0, b"", 0, 4096))])
    assert [r.kind for r in news(world)] == ([] if late else [Kind.COLLAPSE])
    taken = world.dirty.take(0)
    assert (taken is not None and taken[1].content) == bool(late)


@pytest.mark.parametrize("kind", [Kind.COLLAPSE, Kind.INSERT, Kind.REFLINK])
def test_what_must_not_happen_twice_does_not_wait_for_a_reading(world, kind):
    oid = world.file.oid
    body = Reflink(oid, 0, b"", 0, 1, oid, 0, b"", 9) if kind is Kind.REFLINK else Range(oid, 0, b"", 0, 4096)
    world.brackets.open(oid)
    world.follower.process([exact(kind, body)])
    world.follower.reopen(oid)
    assert news(world) == []
    assert world.dirty.take(0)[1].content, "the reading may have seen it, or not: once more"


# -- later -------------------------------------------------------------------------------------------------------------


def test_a_name_in_a_directory_that_is_on_its_way_is_looked_at_later(world):
    world.rename(world.root, b"d", world.root, b"e")
    rename = world.queue.pop()
    world.create(world.directory, b"new", True)
    world.deliver()
    assert news(world) == []
    assert not world.follower.idle
    world.follower.process([rename])
    world.now += 1
    world.follower.process([])
    assert [r.kind for r in news(world)] == [Kind.RENAME, Kind.MKDIR]
    assert world.follower.idle


def test_too_many_of_them_are_a_walk_and_a_gap(world):
    world.rename(world.root, b"d", world.root, b"e")
    world.queue.clear()
    world.follower.process([Named(Op.TOUCHED, world.directory.oid, b"%d" % i) for i in range(10_001)])
    assert world.gaps.is_open(-1)
    assert (ROOT, True) in world.stack


def test_a_name_that_a_listing_postpones_while_the_follower_takes_what_is_due_is_not_lost(world):
    """The walker settles a name of which another thread has the bracket, just then: it waits for the merge lock."""
    reading = world.create(world.directory, b"reading")
    world.queue.clear()
    assert world.brackets.open(reading.oid)
    world.follower.look_at(world.directory.oid, b"reading", 0)
    decided = threading.Event()

    def walker() -> None:
        lock = world.journal.lock
        free = lock.acquire(blocking=False)
        if not free:
            decided.set()
            lock.acquire()
        world.follower.settle(world.directory.oid, b"reading", Seen(reading.oid, reading.attributes()), 0)
        lock.release()
        decided.set()

    other = threading.Thread(target=walker)

    class Halfway(list):
        """Read to its end, and not yet replaced by what is left."""

        def __iter__(self):
            yield from super().__iter__()
            other.start()
            assert decided.wait(10)

    world.follower._later._waiting = Halfway(world.follower._later._waiting)
    world.follower.process([])
    other.join()
    world.follower.reopen(reading.oid)
    assert len(world.follower._later) == 2, "of two looks that were put off one is lost"
    world.now += 1
    world.follower.process([])
    assert [r.kind for r in news(world)] == [Kind.CREATE] and world.follower.idle


# -- an in-kernel mode that is behind ----------------------------------------------------------------------------------


@pytest.fixture
def behind() -> Iterator[World]:
    """A directory has moved, and a new one been made in it; of the move nothing has been told yet."""
    world = World(ordered=True)
    with world.running():
        world.directory = world.create(world.root, b"d", is_dir=True)
        world.begin()
        world.quiesce()
        world.rename(world.root, b"d", world.root, b"e")
        world.create(world.directory, b"new", True)
        world.mark = len(world.journal.log)
        yield world


def test_a_name_is_not_looked_at_again_before_what_explains_it_has_been_followed(behind):
    looks: list[bytes] = []
    look = behind.live.look

    def counted(parent, name):
        looks.append(name)
        return look(parent, name)

    behind.live.look = counted
    behind.follower.look_at(behind.directory.oid, b"new", 0)
    behind.follower.look_at(behind.directory.oid, b"new", 0)
    looks.clear()
    for _ in range(50):  # the follower is busy with other things for a minute
        behind.now += 1.2
        behind.follower.process([])
    assert looks == [] and not behind.follower.idle
    behind.deliver()
    behind.follower.process([])
    assert looks == [b"new"] and behind.follower.idle, "once, however often it was asked for"
    behind.check()


class Half:
    """A capture with an order. Each read: (events, reached, passed, settled)."""

    def __init__(self, follower, stop, *reads):
        self.reads = list(reads)
        self.follower = follower
        self.stop = stop
        self.reached = self.passed = 0
        self.settled = False

    def read(self, timeout):
        events, self.reached, self.passed, self.settled = self.reads.pop(0)
        if not self.reads:
            self.stop.set()
        return events


def test_a_position_at_which_something_is_half_told_is_not_at_rest(world):
    """The log goes on behind ``passed`` then: a mark put there would stand between the parts of one operation."""
    stop = threading.Event()
    rests: list[int] = []
    caught_up: list[int] = []
    world.follower.at_rest = rests.append
    world.journal.caught_up = caught_up.append
    reads = [([], 10, 10, True), ([], 20, 10, False), ([], 30, 10, False), ([], 40, 40, True)]
    world.follower.run(Half(world.follower, stop, *reads), stop)
    assert rests == caught_up == [10, 40]
    assert world.journal.reached == 40


def test_what_moves_on_before_it_is_listed_is_found_by_what_was_held_open():
    """A new directory is seen, then it moves, and of that nothing has been told: a listing finds it all the same."""
    world = World(keeps=True, ordered=True)
    with world.running():
        world.begin()
        world.quiesce()
        directory = world.create(world.root, b"d", is_dir=True)
        world.create(directory, b"f")
        world.follower.look_at(world.root.oid, b"d", 0)
        world.rename(world.root, b"d", world.root, b"e")
        while world.step_walk() or world.step_task(0):
            pass
        assert world.index.children(directory.oid)
        world.check()

"""The index against dictionaries, and what is left of it after a crash."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livelift.index.tree import TreeIndex
from livelift.model.entry import Attributes, Stamp
from livelift.model.record import BaseFile, Gap, Kind, Link, Make, Range, Record, Reflink, Rename, SetAttributes, Unlink
from livelift.spool.repair import iterate
from livelift.spool.spool import Spool
from tests.merge.dictview import DictIndex

NAMES = [b"a", b"b", b"\xff\n"]
DIRECTORIES = [2, 3, -1]
FILE, DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


def attributes(mode: int = FILE, ctime: int = 5, nlink: int = 1) -> Attributes:
    return Attributes(mode, 0, 0, 10, ctime, 0, ctime, nlink)


def make(oid: int, parent: int, name: bytes, mode: int = FILE) -> Record:
    kind = Kind.MKDIR if mode == DIRECTORY else Kind.CREATE
    return Record(kind, Make(oid, parent, name, attributes(mode)))


def base(oid: int, parent: int, name: bytes, ctime: int = 5, nlink: int = 1, **more) -> Record:
    return Record(Kind.BASE_FILE, BaseFile(oid, parent, name, attributes(ctime=ctime, nlink=nlink)), **more)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[TreeIndex]:
    index = TreeIndex(os.fsencode(tmp_path / "index"))
    yield index
    index.close()


def rows(index: TreeIndex) -> dict:
    found = index._db.execute("SELECT parent, name, oid, mode, size, mtime, ctime FROM entry").fetchall()
    return {(r[0], r[1]): (r[2], r[3], Stamp(*r[4:])) for r in found}


oids = st.integers(10, 13)
places = st.tuples(st.sampled_from(DIRECTORIES), st.sampled_from(NAMES))
ctimes = st.integers(1, 9)
bodies = st.one_of(
    st.builds(lambda o, p: make(o, *p), oids, places),
    st.builds(lambda o, p: make(o + 10, *p, DIRECTORY), oids, places),
    st.builds(
        lambda o, p, c, n, e: base(o, *p, c, n, elided=e), oids, places, ctimes, st.integers(1, 2), st.booleans()
    ),
    st.builds(
        lambda kind, o, p, c: Record(kind, BaseFile(o, *p, attributes(ctime=c))),
        st.sampled_from([Kind.BASE_BEGIN, Kind.BASE_END]),
        oids,
        places,
        ctimes,
    ),
    st.builds(lambda o, p, q: Record(Kind.LINK, Link(o, *p, *q)), oids, places, places),
    st.builds(lambda o, p: Record(Kind.UNLINK, Unlink(o, *p)), oids, places),
    st.builds(
        lambda o, p, q, f: Record(Kind.RENAME, Rename(o, *p, *q, f)), oids, places, places, st.sampled_from([0, 2])
    ),
    st.builds(lambda o, p, c: Record(Kind.ATTRIBUTES, SetAttributes(o, *p, attributes(ctime=c))), oids, places, ctimes),
    st.builds(lambda o: Record(Kind.GAP, Gap(o, "why")), st.one_of(oids, st.just(0))),
    st.builds(
        lambda o, p, e: Record(Kind.WRITE, Range(o, *p, 0, 3), b"" if e else b"abc", elided=e, length=3 * e),
        oids,
        places,
        st.booleans(),
    ),
)


def sensible(record: Record, oracle: DictIndex) -> bool:
    """What the planner emits: no object gets a second directory entry by creation, nothing moves onto itself."""
    body = record.body
    if isinstance(body, Rename):
        return (body.parent, body.name) != (body.new_parent, body.new_name)
    if isinstance(body, Make) or record.kind in (Kind.BASE_FILE, Kind.BASE_BEGIN):
        return not oracle.places(body.oid) and not oracle.lookup(body.parent, body.name)
    if isinstance(body, Link):
        return not oracle.lookup(body.parent, body.name)
    return True


@settings(max_examples=150, deadline=None)
@given(st.lists(bodies, max_size=40))
def test_the_fold_is_that_of_the_dictionaries(records):
    index, oracle = TreeIndex(b":memory:"), DictIndex()
    try:
        lsn = 0
        for record in records:
            if not sensible(record, oracle):
                continue
            lsn += 1
            record.lsn = lsn
            oracle.fold(record)
            index.apply([record])
            assert rows(index) == {place: tuple(row) for place, row in oracle.rows.items()}
            assert index.count == len(oracle.rows)
            assert index.lsn == lsn
        for oid in range(10, 25):
            assert sorted(index.places(oid)) == oracle.places(oid)
            assert index.is_dir(oid) == oracle.is_dir(oid)
            assert (index.of(oid) is None) == (oracle.of(oid) is None)
        for parent in DIRECTORIES:
            assert list(index.children(parent)) == list(oracle.children(parent))
            assert index.has_children(parent) == oracle.has_children(parent)
        assert index.which(list(range(30))) == oracle.which(list(range(30)))
        applied = [r for r in records if r.lsn]
        index.apply(applied)
        assert rows(index) == {place: tuple(row) for place, row in oracle.rows.items()}, "folding twice changes nothing"
    finally:
        index.close()


def test_many_files_at_once_are_folded_as_one_by_one(index):
    index.apply([base(100 + i, 2, b"%d" % i) for i in range(50)])
    assert index.count == 50
    assert index.known(2, b"7") == (b"7", 107, FILE, Stamp(10, 5, 5))


def test_hard_links_share_their_stamp_and_live_until_the_last_name(index):
    index.apply([base(10, 2, b"a", nlink=2), Record(Kind.LINK, Link(10, 3, b"b", 2, b"a"))])
    index.set_blocks(10, 16384, b"d" * 16)
    index.apply([Record(Kind.ATTRIBUTES, SetAttributes(10, 2, b"a", attributes(ctime=9)))])
    assert index.known(2, b"a").stamp == index.known(3, b"b").stamp == Stamp(10, 9, 9)
    index.apply([Record(Kind.UNLINK, Unlink(10, 2, b"a"))])
    assert index.places(10) == [(3, b"b")]
    assert index.blocks(10) == (16384, b"d" * 16)
    index.apply([Record(Kind.UNLINK, Unlink(10, 3, b"b"))])
    assert index.place(10) is None
    assert index.blocks(10) is None, "digests of a removed object would meet the next one with its number"


def test_paths_and_limbo(index):
    index.apply([make(2, 0, b"0", DIRECTORY), make(3, 2, b"d", DIRECTORY), base(10, 3, b"f")])
    assert index.path(10) == [b"0", b"d", b"f"]
    index.apply([Record(Kind.RENAME, Rename(3, 2, b"d", -1, b"3"))])
    assert index.path(10) == [b"limbo", b"3", b"f"]
    assert index.path(99) is None
    index.apply([Record(Kind.RENAME, Rename(3, -1, b"3", 3, b"loop"))])
    assert index.path(10) is None, "a loop ends, too"


def test_what_was_never_read_whole_is_unsure(index):
    index.apply([make(10, 2, b"new"), base(11, 2, b"read"), base(12, 2, b"lost", elided=True)])
    index.apply([make(13, 2, b"d", DIRECTORY)])
    assert sorted(index.unsure()) == [10, 12]
    assert index.unsure_of(10)
    assert not index.unsure_of(11)
    index.apply([Record(Kind.BASE_BEGIN, BaseFile(11, 2, b"read", attributes()))])
    assert index.unsure_of(11), "between BEGIN and END"
    index.apply([Record(Kind.BASE_END, BaseFile(11, 2, b"read", attributes()))])
    assert not index.unsure_of(11)
    index.set_blocks(11, 16384, b"x" * 16)
    index.forget(11)
    assert index.unsure_of(11)
    assert index.blocks(11) is None
    assert not index.unsure_of(99)


def test_racy_stamps_are_not_trusted_but_known(index):
    index.apply([base(10, 2, b"a")])
    index.set_racy(10)
    assert index.of(10).stamp == Stamp(10, 5, 0)
    assert not index.unsure_of(10)


def test_listings_come_in_pages_and_bear_changes(index):
    index.apply([base(100 + i, 2, b"%04d" % i) for i in range(2500)])
    names = []
    for known in index.listing(2, page=100):
        names.append(known.name)
        index.apply([Record(Kind.UNLINK, Unlink(known.oid, 2, known.name))])
    assert names == [b"%04d" % i for i in range(2500)]
    assert index.count == 0


def test_only_what_was_committed_is_there_after_a_crash(tmp_path):
    path = os.fsencode(tmp_path / "index")
    index = TreeIndex(path)
    for lsn, name in ((1, b"a"), (2, b"b")):
        record = base(10 + lsn, 2, name)
        record.lsn = lsn
        index.apply([record])
        if lsn == 1:
            index.commit()
    index.close()  # without a commit
    index = TreeIndex(path)
    assert (index.lsn, index.count, index.lookup(2, b"a"), index.lookup(2, b"b")) == (1, 1, 11, 0)
    index.close()


def test_refolding_the_spool_gives_the_same_index(tmp_path):
    """Commit, go on, crash: what the spool has beyond the commit is folded again, and the digests it outdates go."""
    directory, path = os.fsencode(tmp_path / "spool"), os.fsencode(tmp_path / "index")
    spool, index = Spool(directory, "0123abcd"), TreeIndex(path)

    def put(*records: Record) -> None:
        spool.append(list(records))
        index.apply(list(records))

    put(make(2, 0, b"0", DIRECTORY), base(10, 2, b"a"), base(11, 2, b"b"))
    index.set_blocks(10, 16384, b"A" * 16)
    index.set_blocks(11, 16384, b"B" * 16)
    spool.sync()
    index.commit()
    put(Record(Kind.WRITE, Range(10, 2, b"a", 0, 3), b"new"))
    put(Record(Kind.ATTRIBUTES, SetAttributes(10, 2, b"a", attributes(ctime=77))))
    put(Record(Kind.RENAME, Rename(11, 2, b"b", 2, b"c")), make(12, 2, b"d"))
    before, lsn = rows(index), index.lsn
    index.close()
    spool.close()
    index = TreeIndex(path)
    assert index.lsn < lsn
    index.refold(iterate(directory, index.lsn + 1))
    assert rows(index) == before
    assert index.lsn == lsn
    assert index.blocks(10) is None, "its content changed after the digests were kept"
    assert index.blocks(11) == (16384, b"B" * 16)
    index.close()


def test_clear_and_meta(index):
    index.apply([base(10, 2, b"a")])
    index.set_blocks(10, 1, b"x")
    index.set_meta("k", 7)
    index.clear(500)
    assert (index.count, index.lsn, index.lookup(2, b"a"), index.blocks(10), index.meta("k")) == (0, 500, 0, None, 7)
    assert index.meta("never set") == 0


def test_a_hundred_thousand_entries_are_small_and_quick(tmp_path):
    path = tmp_path / "index"
    index = TreeIndex(os.fsencode(path))
    began = time.process_time()
    for start in range(0, 100_000, 1000):
        index.apply([base(1000 + i, 2 + i // 100, b"file-%06d" % i) for i in range(start, start + 1000)])
    index.commit()
    took = time.process_time() - began
    index.close()
    assert took < 5.0, f"{took:.1f} s of CPU for 100,000 entries; 0.9 s on the reference machine"
    size = sum(f.stat().st_size for f in tmp_path.iterdir())
    assert size < 20_000_000, f"{size} bytes"


def test_stamps_hold_the_change_time(index):
    """chmod, setxattr and a write through an old mtime (utimensat) change nothing else."""
    index.apply([Record(Kind.BASE_FILE, BaseFile(10, 2, b"a", Attributes(FILE, 0, 0, 10, 5, 0, 99)))])
    assert index.of(10).stamp == Stamp(10, 5, 99)


def test_a_small_file_written_anew_is_no_further_entry(index):
    """FILE is the record of new and of changed small files."""
    index.apply([base(7, 2, b"f")])
    index.set_blocks(7, 4096, b"x" * 16)
    before = index.count
    again = base(7, 2, b"f", ctime=9)
    index.apply([Record(Kind.FILE, again.body)])
    assert index.count == before
    known = index.of(7)
    assert known is not None and known.stamp.ctime == 9
    index.apply([Record(Kind.FILE, again.body, elided=True, length=5)])
    assert index.unsure_of(7), "its content was dropped"
    index.apply([Record(Kind.FILE, base(8, 2, b"new").body)])
    assert index.count == before + 1
    assert index.lookup(2, b"new") == 8


# -- content that nobody read ------------------------------------------------------------------------------------------


def wrote(kind: Kind, offset: int, length: int = 0, flags: int = 0) -> Range:
    return Range(7, 2, b"f", offset, length, flags)


@pytest.mark.parametrize(
    ("kind", "body", "size", "touched"),
    [
        (Kind.WRITE, wrote(Kind.WRITE, 20, 8), 30, {2}),
        (Kind.WRITE, wrote(Kind.WRITE, 29, 10), 39, {2, 3}),
        (Kind.WRITE, wrote(Kind.WRITE, 500, 1), 501, set()),
        (Kind.TRUNCATE, wrote(Kind.TRUNCATE, 11), 11, {1, 2, 3}),
        (Kind.TRUNCATE, wrote(Kind.TRUNCATE, 90), 90, set()),
        (Kind.PUNCH, wrote(Kind.PUNCH, 0, 1000), 30, {0, 1, 2, 3}),
        (Kind.ALLOCATE, wrote(Kind.ALLOCATE, 35, 10, 1), 30, {3}),
        (Kind.ALLOCATE, wrote(Kind.ALLOCATE, 35, 10), 45, {3}),
        (Kind.ZERO, wrote(Kind.ZERO, 25, 10), 35, {2, 3}),
        (Kind.ZERO, wrote(Kind.ZERO, 25, 10, 1), 30, {2, 3}),
        (Kind.COLLAPSE, wrote(Kind.COLLAPSE, 10, 10), 20, {1, 2, 3}),
        (Kind.INSERT, wrote(Kind.INSERT, 20, 10), 40, {2, 3}),
        (Kind.REFLINK, Reflink(7, 2, b"f", 20, 20, 8, 2, b"g", 0), 40, {2, 3}),
    ],
)
def test_a_record_of_an_in_kernel_mode_leaves_nothing_to_be_trusted(index, kind, body, size, touched):
    """Blocks of ten bytes: what it touched is unknown, what it did not touch is as it was."""
    index.apply([Record(Kind.BASE_FILE, BaseFile(7, 2, b"f", Attributes(FILE, 0, 0, 30, 5, 0, 5)))])
    index.set_blocks(7, 10, b"".join(bytes([n]) * 16 for n in range(1, 5)))
    index.wrote([(kind, body)])
    assert index.of(7).stamp == Stamp(size, 5, 0)
    block, digests = index.blocks(7)
    known = [digests[n * 16 : n * 16 + 16] == bytes([n + 1]) * 16 for n in range(4)]
    assert (block, len(digests)) == (10, 64)
    assert {n for n, same in enumerate(known) if not same} == touched


def test_a_file_whose_content_is_not_known_stays_so(index):
    index.apply([make(7, 2, b"f")])
    index.wrote([(Kind.WRITE, wrote(Kind.WRITE, 0, 8))])
    assert index.unsure_of(7)


def test_directories_whose_times_only_the_replay_has_set(tmp_path):
    """Names of them are told behind the last word about their attributes: that holds over a crash."""
    path = os.fsencode(tmp_path / "index")
    index = TreeIndex(path)

    def told(*oids: int) -> list[Record]:
        return [Record(Kind.ATTRIBUTES, SetAttributes(oid, 1, b"-", attributes(DIRECTORY))) for oid in oids]

    made = [make(oid, 1, b"%d" % oid, DIRECTORY) for oid in (10, 11, 12)]
    changes: list[tuple[list[Record], set[int]]] = [
        ([*made, *told(1, 10, 11, 12)], set()),
        ([base(20, 10, b"a")], {10}),
        (told(10), set()),
        ([base(21, 10, b"l", nlink=2)], {10}),
        ([*told(10), Record(Kind.LINK, Link(21, 11, b"l", 10, b"l"))], {11}),
        ([*told(11), make(22, 11, b"c")], {11}),
        ([*told(11), Record(Kind.RENAME, Rename(20, 10, b"a", 12, b"a"))], {10, 12}),
        ([*told(12), Record(Kind.UNLINK, Unlink(22, 11, b"c"))], {10, 11}),
        ([Record(Kind.UNLINK, Unlink(21, 11, b"l")), Record(Kind.RMDIR, Unlink(11, 1, b"11"))], {10, 1}),
        ([Record(Kind.FILE, BaseFile(20, 12, b"a", attributes(ctime=9)))], {10, 1}),  # known: written anew
    ]
    for records, expected in changes:
        index.apply(records)
        assert set(index.untimed) == expected, records
    before = index.of(10)
    assert before is not None and before.stamp.ctime
    index.commit()
    index.close()
    index = TreeIndex(path)
    after = index.of(10)
    assert after is not None and not after.stamp.ctime, "the next walk tells its attributes again"
    index.clear(5)
    assert not index.untimed
    index.close()

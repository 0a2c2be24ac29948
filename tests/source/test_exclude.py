from __future__ import annotations

import stat

import pytest

from livelift.index.tree import TreeIndex
from livelift.model.entry import Attributes
from livelift.model.job import Map
from livelift.model.record import Kind, Make, Record
from livelift.source.exclude import Exclusions
from livelift.walk.scope import LEFT, OWN

LEFT_OUT = {(2, b"proc"): "a memory-only file system", (2, b"state"): OWN, (3, b"swap"): LEFT}


@pytest.fixture
def index():
    index = TreeIndex(b":memory:")
    directory = Attributes(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 0)
    for oid, parent, name in ((2, 0, b"0"), (3, 2, b"var"), (4, 3, b"cache"), (9, 0, b"1"), (5, -1, b"5")):
        index.apply([Record(Kind.MKDIR, Make(oid, parent, name, directory))])
    yield index
    index.close()


def exclusions(index: TreeIndex, *patterns: bytes, include: tuple[bytes, ...] = ()) -> Exclusions:
    maps = (Map(b"/", b"/r", patterns, include), Map(b"/other", b"/o"))
    return Exclusions(maps, LEFT_OUT, index, [2, 9])


def test_without_patterns_only_mounts_and_own_directories_are_out(index):
    rules = exclusions(index)
    assert not rules.included(2, b"proc")
    assert not rules.included(3, b"swap")
    assert rules.included(3, b"proc"), "the same name elsewhere"
    assert rules.included(99, b"x")


def test_patterns_are_matched_below_their_own_map(index):
    rules = exclusions(index, b"*.tmp", b"var/cache/*", include=(b"keep.tmp",))
    assert not rules.included(3, b"a.tmp", False)
    assert rules.included(3, b"keep.tmp", False)
    assert not rules.included(4, b"x", False)
    assert rules.included(3, b"cache")
    assert rules.included(9, b"a.tmp", False), "the second map has no patterns"


def test_what_has_no_path_is_not_excluded(index):
    rules = exclusions(index, b"*.tmp")
    assert rules.included(5, b"a.tmp", False), "in limbo: its place will decide"
    assert rules.included(77, b"a.tmp", False)


def test_only_foreign_mounts_leave_an_empty_directory(index):
    rules = exclusions(index)
    assert rules.mount_point(2, b"proc")
    assert not rules.mount_point(2, b"state")
    assert not rules.mount_point(3, b"swap")
    assert not rules.mount_point(2, b"var")

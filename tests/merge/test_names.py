"""The cases that kill a naive design, each by its name (design: walk and capture meet without locks)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from livelift.merge.names import exchanges, is_exchange
from livelift.model.entry import limbo
from livelift.model.record import Kind
from livelift.ports import Named, Op
from tests.merge.world import World, find


@pytest.fixture(params=[False, True], ids=["by path", "by descriptor"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(keeps=request.param)
    with world.running():
        yield world


def walk_root(world: World) -> None:
    """Only the root directory is walked: what is in it is known, what is below is not."""
    world.begin()
    while True:
        listing = world.lister or world.stack[-1:] == [(world.root.oid, True)]
        if listing:
            world.step_walk()
        elif not world.tasks and world.dirty.idle():
            return
        world.step_task(0)
        world.step_dirty()


def kinds(world: World) -> list[Kind]:
    return [r.kind for r in world.journal.log]


def test_subtree_moves_from_a_directory_not_yet_walked_into_one_already_walked(world):
    far = world.create(world.root, b"far", is_dir=True)
    near = world.create(world.root, b"near", is_dir=True)
    sub = world.create(far, b"sub", is_dir=True)
    world.create(sub, b"f")
    walk_root(world)
    world.stack.remove((near.oid, True))
    world.stack.append((near.oid, True))
    while world.stack[-1:] == [(near.oid, True)] or world.lister:
        world.step_walk()
    world.rename(far, b"sub", near, b"sub")
    world.deliver()
    assert world.index.lookup(near.oid, b"sub") == sub.oid
    world.check()
    assert find(world, "near/sub/f")


def test_subtree_moves_from_a_walked_directory_into_one_not_yet_walked(world):
    near = world.create(world.root, b"near", is_dir=True)
    far = world.create(world.root, b"far", is_dir=True)
    inner = world.create(far, b"inner", is_dir=True)
    sub = world.create(near, b"sub", is_dir=True)
    world.create(sub, b"f")
    walk_root(world)
    while not (world.index.lookup(sub.oid, b"f") and world.dirty.idle() and not world.tasks):
        world.stack.sort(key=lambda item: item[0] in (far.oid, inner.oid), reverse=True)  # far comes last
        world.step_walk()
        world.step_task(0)
        world.step_dirty()
    assert not world.index.is_dir(inner.oid)
    world.rename(near, b"sub", inner, b"sub")
    world.deliver()
    assert world.index.places(sub.oid)[0][0] == limbo(0)
    world.check()
    assert find(world, "far/inner/sub/f")
    made = [r.body.oid for r in world.journal.log if r.kind is Kind.MKDIR]
    assert made.count(sub.oid) == 1, "moved, not sent again"


def test_rename_of_a_parent_of_the_directory_being_walked(world):
    top = world.create(world.root, b"top", is_dir=True)
    mid = world.create(top, b"mid", is_dir=True)
    for name in (b"a", b"b", b"c"):
        world.create(mid, name)
    world.begin()
    while not world.brackets.is_open(mid.oid):
        world.step_walk()
    world.rename(world.root, b"top", world.root, b"elsewhere")
    world.check()
    assert [r.kind for r in world.journal.log if r.kind is Kind.MKDIR and r.body.oid == mid.oid] == [Kind.MKDIR]


def test_unlink_of_an_open_file_that_is_still_written(world):
    file = world.create(world.root, b"f")
    world.begin()
    world.quiesce()
    sent = len(world.journal.log)
    world.held_open.add(file)
    world.remove(world.root, b"f")
    for _ in range(3):
        world.write(file)
        world.deliver(1)
    world.check()
    new = [r for r in world.journal.log[sent:] if r.kind is not Kind.ATTRIBUTES]
    assert [r.kind for r in new] == [Kind.UNLINK], "nothing is sent for what nobody can open"


def test_create_rename_delete_faster_than_the_walk(world):
    world.begin()
    for i in range(20):
        directory = world.create(world.root, b"d", is_dir=True)
        world.create(directory, b"f")
        world.rename(directory, b"f", world.root, b"g%d" % i)
        world.remove(world.root, b"d")
        world.remove(world.root, b"g%d" % i)
        if i % 5 == 0:
            world.deliver(3)
            world.step_walk()
    world.check()
    assert world.picture() == {}


def test_hard_links_over_several_directories(world):
    one, two, three = (world.create(world.root, name, is_dir=True) for name in (b"1", b"2", b"3"))
    file = world.create(one, b"f")
    world.link(file, two, b"g")
    world.begin()
    while not (world.brackets.is_open(file.oid) and world.index.is_dir(three.oid)):
        world.step_walk()
    assert not world.brackets.is_open(three.oid)
    world.link(file, three, b"h")  # while it is being read under another name
    world.deliver()
    world.write(file, one, b"f")
    world.check()
    assert len(world.index.places(file.oid)) == 3
    makers = (Kind.CREATE, Kind.BASE_FILE, Kind.FILE)
    created = [r for r in world.journal.log if r.kind in makers and r.body.oid == file.oid]
    assert len(created) == 1
    world.remove(one, b"f")
    world.check()
    assert len(world.index.places(file.oid)) == 2


@pytest.mark.parametrize("events_lost", [False, True])
@pytest.mark.parametrize("second_is_dir", [False, True])
@pytest.mark.parametrize("first_is_dir", [False, True])
def test_an_inode_number_is_used_again(first_is_dir, second_is_dir, events_lost):
    world = World(reuse=True)
    with world.running():
        old = world.create(world.root, b"old", is_dir=first_is_dir)
        world.begin()
        world.quiesce()
        world.remove(world.root, b"old")
        new = world.create(world.root, b"new", is_dir=second_is_dir)
        assert new.oid == old.oid
        if events_lost:
            world.overflow()
        world.check()


def test_replacement_by_atomic_rename(world):
    world.create(world.root, b"conf")
    world.begin()
    world.quiesce()
    for i in range(5):
        new = world.create(world.root, b".conf.tmp")
        world.write(new, world.root, b".conf.tmp")
        world.rename(world.root, b".conf.tmp", world.root, b"conf")
        if i % 2:
            world.deliver()
    world.check()
    assert world.index.lookup(world.root.oid, b"conf") == new.oid


def test_exchange_is_one_record_and_no_content(world):
    one, two = world.create(world.root, b"one"), world.create(world.root, b"two", is_dir=True)
    world.create(two, b"f")
    world.begin()
    world.quiesce()
    sent = len(world.journal.log)
    world.exchange(world.root, b"one", world.root, b"two")
    world.check()
    names = [r for r in world.journal.log[sent:] if r.kind not in (Kind.ATTRIBUTES, Kind.WRITE)]
    assert [(r.kind, r.body.flags, r.body.oid, r.body.victim) for r in names] == [(Kind.RENAME, 2, one.oid, two.oid)]


def test_exchange_whose_halves_arrive_apart(world):
    world.create(world.root, b"one")
    world.create(world.root, b"two", is_dir=True)
    world.begin()
    world.quiesce()
    world.exchange(world.root, b"one", world.root, b"two")
    world.deliver(1)
    world.check()


def test_a_directory_moves_into_one_that_was_below_it(world):
    """The log must not be told to rename a directory into itself: rename(2) says EINVAL, and the tree has a loop."""
    top = world.create(world.root, b"top", is_dir=True)
    below = world.create(top, b"below", is_dir=True)
    world.create(below, b"f")
    world.begin()
    world.quiesce()
    world.brackets.open(top.oid)  # somebody reads it: the first rename waits
    world.rename(top, b"below", world.root, b"below")
    world.rename(world.root, b"top", below, b"top")
    world.deliver()
    world.follower.reopen(top.oid)
    world.check()


def test_a_rename_that_waited_does_not_undo_what_came_after_it(world):
    one, two = (world.create(world.root, name, is_dir=True) for name in (b"1", b"2"))
    world.create(one, b"x")
    world.begin()
    world.quiesce()
    unknown = world.create(world.root, b"unknown", is_dir=True)
    world.queue.clear()
    world.brackets.open(one.oid)  # somebody reads it
    world.rename(one, b"x", two, b"y")
    world.deliver()
    world.rename(two, b"y", unknown, b"z")
    world.deliver()
    new = world.create(two, b"y")
    world.deliver()
    world.follower.reopen(one.oid)
    assert world.index.lookup(two.oid, b"y") == new.oid
    world.walk(0, True)
    world.check()


def test_what_happens_in_limbo_is_not_lost(world):
    near = world.create(world.root, b"near", is_dir=True)
    world.begin()
    world.quiesce()
    far = world.create(world.root, b"far", is_dir=True)
    world.queue.clear()  # far is not known
    world.rename(world.root, b"near", far, b"near")
    world.deliver()
    assert world.index.places(near.oid)[0][0] == limbo(0)
    world.create(near, b"meanwhile")
    world.deliver()
    world.walk(0, True)
    world.check()
    assert find(world, "far/near/meanwhile")


def named(op: Op, parent: int, name: bytes, child: int, new_parent: int = 0, new_name: bytes = b"") -> Named:
    return Named(op, parent, name, child, new_parent, new_name)


def test_an_exchange_is_two_adjacent_renames_each_the_reverse_of_the_other():
    first, second = named(Op.RENAMED, 2, b"a", 10, 3, b"b"), named(Op.RENAMED, 3, b"b", 11, 2, b"a")
    assert is_exchange(first, second)
    assert exchanges([first, second]) == [(first, 11)]
    back = second._replace(child=10)  # mv a b; mv b a: of one object
    assert exchanges([first, back]) == [(first, 0), (back, 0)]
    between = named(Op.CREATED, 2, b"x", 12)
    assert [swap for _, swap in exchanges([first, between, second])] == [0, 0, 0]
    assert exchanges([first._replace(child=0), second])[0][1] == 0
    assert exchanges([first, second, first]) == [(first, 11), (first, 0)]

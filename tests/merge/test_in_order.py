"""A mode that tells everything in order: the replica ends as the live tree, and at every position at which nothing is
being read late it is what the live tree was there."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livelift.model.record import BaseFile, Kind
from tests.merge.test_model import Monkey, setups, some, steps
from tests.merge.world import ROOT, Node, World


def catch_up(world: World) -> None:
    """All that is to be read is read first, then the follower comes to that: an event at a time."""
    for _ in range(100):
        world.now += 0.3
        if not (world.step_walk() | world.step_task(0) | world.step_dirty()):
            break
    while world.queue:
        world.deliver(1)


def run(before, during, keeps, reuse, names=3, calm=False) -> World:
    """``calm``: the first walk has ended before the work begins."""
    world = World(keeps, reuse, ordered=True)
    monkey = Monkey(world, names)
    with world.running():
        for step in before:
            monkey.work(*step)
        world.begin()
        if calm:
            world.quiesce()
        for number, step in enumerate(during):
            monkey.act(*step)
            if number % 16 == 15:
                catch_up(world)
        world.check()
    return world


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(setups, st.lists(steps, max_size=80), st.booleans(), st.booleans(), st.sampled_from([3, 12]), st.booleans())
def test_the_replica_ends_as_the_live_tree(before, during, keeps, reuse, names, calm):
    run(before, during, keeps, reuse, names, calm)


def test_long_runs(rng):
    cuts = 0
    for number in range(60):
        before, during = some(rng, 12, 2), some(rng, rng.choice([100, 200]), 16 if number % 3 else 17)
        cuts += run(before, during, rng.random() < 0.5, rng.random() < 0.5, rng.choice([3, 12]), number % 2 > 0).cuts
    assert cuts > 100, "there was hardly a position to look at"


def test_when_nothing_is_read_every_position_is_a_cut(rng: random.Random):
    """Without looks at attributes in between, and from a finished walk on."""
    for _ in range(40):
        world = World(reuse=True, ordered=True)
        monkey = Monkey(world, rng.choice([3, 12]))
        with world.running():
            for step in some(rng, 12, 2):
                monkey.work(*step)
            world.begin()
            world.quiesce()
            late = world.journal.late
            for step in some(rng, 150, 8):
                monkey.work(*step)
                while rng.random() < 0.6 and world.queue:
                    world.deliver(1)
            world.deliver()
            assert world.journal.late == late, "something was read"
            assert world.dirty.content() == 0
            world.check()


def with_a_number_that_is_used_again() -> tuple[World, Node]:
    """A file is in limbo when its inode number becomes a directory's; of that nothing has been told yet."""
    world = World(reuse=True, ordered=True)
    directory = world.create(world.root, b"d", is_dir=True)
    file = world.create(world.root, b"f")
    world.begin()
    world.quiesce()
    world.follower.set_aside(world.root.oid, b"f", 0)
    world.remove(world.root, b"f")
    assert world.create(directory, b"c", is_dir=True).oid == file.oid
    return world, directory


def test_a_look_that_shows_nothing_is_ahead_all_the_same():
    """What the event made is elsewhere by now: no position is a cut until that has been told."""
    world, directory = with_a_number_that_is_used_again()
    world.rename(directory, b"c", world.root, b"c")
    for _ in range(2):
        world.deliver(1)  # judged by the pictures
    assert world.journal.late > world.passed
    world.check()


def test_the_mode_of_what_got_the_number_is_not_taken_for_that_of_the_old_object():
    world, directory = with_a_number_that_is_used_again()
    world.chmod(directory.names[b"c"], directory, b"c")
    number = directory.names[b"c"].oid
    world.brackets.open(directory.oid)
    world.deliver()  # the name waits for the listing, the mode does not
    assert not world.index.is_dir(number)
    world.follower.reopen(directory.oid)
    world.check()


def test_what_was_told_of_the_old_object_while_the_new_ones_directory_is_listed_is_read_again():
    """The new file is empty, so nothing is told of it but its name, which waits for the listing."""
    world = World(reuse=True, ordered=True)
    old = world.create(world.root, b"old")
    world.begin()
    world.stack.clear()  # the listing is made by hand
    world.write(old)
    world.remove(world.root, b"old")
    new = world.create(world.root, b"new")
    assert new.oid == old.oid
    world.queue.pop()  # it is not written
    world.told -= 1
    world.brackets.open(ROOT)
    world.journal.put(Kind.BASE_FILE, BaseFile(new.oid, ROOT, b"new", new.attributes()))
    world.deliver()
    world.follower.reopen(ROOT)
    world.check()


def test_a_listing_that_misses_a_name_is_ahead_all_the_same():
    """It was moved between the listing and the look, and moved back since: that has not been told yet."""
    world = World(ordered=True)
    directory = world.create(world.root, b"d", is_dir=True)
    world.begin()
    while not world.lister:
        world.step_walk()
    world.rename(world.root, b"d", world.root, b"e")
    for _ in range(3):  # the listing has it as e
        world.step_walk()
    world.rename(world.root, b"e", world.root, b"d")
    while world.lister:
        world.step_walk()
    assert not world.index.place(directory.oid)
    world.deliver(1)  # judged by the pictures
    assert world.journal.late > world.passed
    world.check()

"""Random workloads against the walk and the capture: whatever happens in between, the replica ends as the live tree."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.merge.world import Node, World


class Monkey:
    """Turns numbers into whatever operation they can mean on the tree as it is. ``names``: in use in a directory; few
    make every name change often (then the capture adds second looks), many leave the events to themselves."""

    def __init__(self, world: World, names: int) -> None:
        self.world = world
        self.names = [b"%c" % (97 + i) for i in range(names)]

    def directories(self) -> list[Node]:
        found, todo = [], [self.world.root]
        while todo:
            node = todo.pop(0)
            found.append(node)
            todo += [child for _, child in sorted(node.names.items()) if child.is_dir]
        return found

    def entries(self) -> list[tuple[Node, bytes]]:
        return [(directory, name) for directory in self.directories() for name in sorted(directory.names)]

    def below(self, node: Node, top: Node) -> bool:
        return node is top or any(self.below(node, child) for child in top.names.values() if child.is_dir)

    def work(self, what: int, a: int, b: int, c: int) -> None:
        world = self.world
        directories, entries = self.directories(), self.entries()
        directory, name = directories[a % len(directories)], self.names[c % len(self.names)]
        if what <= 1:
            if name not in directory.names and len(directories) < 8:
                world.create(directory, name, is_dir=what == 1, large=b % 4 == 0)
            return
        if not entries:
            return
        parent, old = entries[a % len(entries)]
        node = parent.names[old]
        if what == 2 and not node.names:
            if b % 3 == 0 and not node.is_dir:
                world.held_open.add(node)  # somebody has it open, and writes on
            world.remove(parent, old)
            if node in world.held_open:
                world.write(node)
        elif what in (3, 4):
            new_parent = directories[b % len(directories)]
            victim = new_parent.names.get(name)
            if node.is_dir and self.below(new_parent, node):
                return
            if victim is None or (victim.is_dir == node.is_dir and not victim.names and victim is not parent):
                world.rename(parent, old, new_parent, name)
        elif what == 5:
            other_parent, other = entries[b % len(entries)]
            two = other_parent.names[other]
            if node is two or (node.is_dir and self.below(other_parent, node)):
                return
            if two.is_dir and self.below(parent, two):
                return
            world.exchange(parent, old, other_parent, other)
        elif what == 6 and not node.is_dir:
            target = directories[b % len(directories)]
            if name not in target.names:
                world.link(node, target, name)
        elif what == 7 and (node.is_dir or b % 4 == 0):
            world.chmod(node, parent, old)
        elif what == 7:
            world.write(node, parent, old)

    def act(self, what: int, a: int, b: int, c: int) -> None:
        world = self.world
        if what <= 7:
            self.work(what, a, b, c)
        elif what == 8:
            world.deliver(a % 4 + 1)
        elif what == 9:
            world.deliver()
        elif what in (10, 11, 12):
            world.step_walk()
        elif what in (13, 14):
            world.step_task(a)
        elif what == 15:
            world.step_dirty()
        elif what == 16:
            world.now += 0.25
            if c == 0 and b % 4 == 0:
                world.overflow()
            elif c == 1:
                directories = self.directories()
                world.walk(directories[a % len(directories)].oid, bool(b & 1))


steps = st.tuples(st.integers(0, 16), st.integers(0, 11), st.integers(0, 11), st.integers(0, 11))
setups = st.lists(st.tuples(st.sampled_from([0, 1, 1, 6]), st.integers(0, 11), st.integers(0, 11), st.integers(0, 11)))


def run(before, during, keeps, reuse, names=3) -> World:
    world = World(keeps, reuse)
    monkey = Monkey(world, names)
    with world.running():
        for step in before:
            monkey.work(*step)
        world.begin()
        for step in during:
            monkey.act(*step)
        world.check()
    return world


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(setups, st.lists(steps, max_size=80), st.booleans(), st.booleans(), st.sampled_from([3, 12]))
def test_the_replica_ends_as_the_live_tree(before, during, keeps, reuse, names):
    run(before, during, keeps, reuse, names)


def some(rng: random.Random, count: int, kinds: int) -> list[tuple[int, int, int, int]]:
    return [(rng.randrange(kinds), rng.randrange(12), rng.randrange(12), rng.randrange(12)) for _ in range(count)]


def test_long_runs(rng):
    """Longer than Hypothesis likes them."""
    for number in range(60):
        before, during = some(rng, 12, 2), some(rng, rng.choice([100, 200]), 16 if number % 3 else 17)
        run(before, during, rng.random() < 0.5, rng.random() < 0.5, rng.choice([3, 12]))

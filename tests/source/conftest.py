"""The model world of `tests.merge`, at rest, for the parts of the follower."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.merge.world import World


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.running():
        world.directory = world.create(world.root, b"d", is_dir=True)
        world.file = world.create(world.directory, b"f")
        world.begin()
        world.quiesce()
        world.mark = len(world.journal.log)
        yield world

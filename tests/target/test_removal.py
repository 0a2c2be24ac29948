"""A server job leaves nothing behind on the target but the system that stands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from livelift.errors import StateError
from livelift.platform.linux import inode_flags
from livelift.takeover.server import Standing
from livelift.target.removal import Removal, lines_of
from tests.machines import debian_source
from tests.target.scene import Scene

pytestmark = pytest.mark.root


def removal(scene: Scene, state: Path) -> Removal:
    return Removal(str(state), scene.maps, str(scene.target), scene.takeover)  # type: ignore[arg-type]


@pytest.fixture
def state(scene: Scene) -> Path:
    """As of a job: the agent's directory in the base, and the agent file beside it."""
    base = scene.replica.parent
    state = base / "target"
    state.mkdir()
    maps = [[os.fsdecode(m.source), os.fsdecode(m.target)] for m in scene.maps]
    (state / "job.json").write_text(json.dumps({"id": "1", "kind": "server", "maps": maps}))
    (base / "livelift-agent").write_text("#!/bin/sh\n")
    (base / "cache").mkdir()
    scene.state = state
    return state


def test_everything_goes(scene: Scene, state: Path) -> None:
    server = scene.server()
    server.facts({"facts": msgspec.to_builtins(debian_source())})
    server.adapt({})
    guarded = scene.replica / "etc/fstab"
    fd = os.open(guarded, os.O_RDONLY)
    inode_flags.set_flags(fd, inode_flags.get_flags(fd) | inode_flags.IMMUTABLE)
    os.close(fd)
    assert lines_of(str(state)) == tuple(scene.maps)
    gone = removal(scene, state)
    gone.check()
    assert str(scene.boot.parent) in gone.places()
    gone.clear()
    assert not scene.boot.parent.exists() and not scene.replica.exists() and state.exists()
    assert not (scene.target / "etc/systemd/system/livelift-target.service").exists()
    assert scene.calls[-1] == "uninstall"
    gone.clear()  # again, after an interruption
    gone.finish()
    assert not scene.replica.parent.exists()
    assert (scene.target / "boot/grub/core.img").exists()


def test_a_new_system_is_not_pulled_away(scene: Scene, state: Path) -> None:
    scene.takeover.found = Standing("new", "confirmed")
    with pytest.raises(StateError, match="the new system stands"):
        removal(scene, state).check()
    server = scene.server()
    server.handover.commit({})
    removal(scene, state).check()
    scene.calls.clear()
    removal(scene, state).clear()
    assert not scene.calls and not scene.replica.exists(), "what is staged after a commit is the old system"


def test_other_jobs_are_none_of_its_business(tmp_path: Path) -> None:
    assert lines_of(str(tmp_path)) == ()
    (tmp_path / "job.json").write_text(json.dumps({"id": "1", "maps": [["/a", "/b"]]}))
    assert lines_of(str(tmp_path)) == ()

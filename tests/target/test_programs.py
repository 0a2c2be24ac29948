"""Who changes the staged system is alone, also with what an agent before it has left at work."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from livelift.errors import LockedError
from livelift.target import programs
from livelift.target.programs import Programs
from tests.edits.snapshot import snapshot
from tests.machines import debian_source
from tests.target.scene import Scene


def held_elsewhere(path: Path) -> bool:
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def test_a_program_inherits_the_lock(tmp_path: Path) -> None:
    given: list[Any] = []
    lock = tmp_path / programs.NAME
    one = Programs(str(tmp_path), lambda *words: given.append(words) or "said")
    assert one.run(3, ("true",)) == "said" and given[-1][3] == (), "nothing is changed: nothing is held"
    with one.alone(), one.alone():
        one.run(3, ("true",), 60)
        assert given[-1][:3] == (3, ("true",), 60)
        (fd,) = given[-1][3]
        assert os.path.samestat(os.fstat(fd), lock.stat()) and held_elsewhere(lock)
    assert not held_elsewhere(lock)
    lock.unlink()
    with Programs(str(tmp_path / "gone"), lambda *words: given.append(words) or "said").alone():
        assert not (tmp_path / "gone").exists(), "somebody has deleted all of it: that can still be cleaned up"


def test_what_is_still_at_work_is_waited_for_a_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "WAIT", 0.2)
    one, other = Programs(str(tmp_path)), Programs(str(tmp_path))
    with one.alone():
        with pytest.raises(LockedError, match="still at work") as error, other.alone():
            pass
        assert str(tmp_path / programs.NAME) in error.value.remedy
    with other.alone():
        pass


@pytest.mark.root
def test_the_next_agent_leaves_the_layers_to_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of an agent that was killed: the descriptor that it has inherited is all that is left of that."""
    monkeypatch.setattr(programs, "WAIT", 0.0)
    server = scene.server()
    server.facts({"facts": msgspec.to_builtins(debian_source())})
    server.adapt({})
    upper = scene.replica.parent / "overlay"
    before = snapshot(upper)
    left = os.open(scene.replica.parent / programs.NAME, os.O_RDWR)
    fcntl.flock(left, fcntl.LOCK_EX)
    for verb in (lambda: server.adapt({"again": True}), lambda: server.drop({})):
        with pytest.raises(LockedError, match="still at work"):
            verb()
    assert snapshot(upper) == before and len(scene.built) == 1
    os.close(left)
    server.adapt({"again": True})
    assert len(scene.built) == 2

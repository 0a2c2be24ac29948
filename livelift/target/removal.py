"""What a server job leaves behind on the target, taken away: the layers, the staged trees (after a commit: the old
system's), the take-over, the unit, the agent file. The system that stands is not touched."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence

from livelift.adapt.linux import agent_unit
from livelift.edits.overlay import Part
from livelift.errors import StateError
from livelift.model.job import Map
from livelift.takeover.freeing import delete_tree
from livelift.takeover.server import TakeOver
from livelift.target.memory import Memory
from livelift.target.server import ServerTarget, parts


def lines_of(state: str) -> tuple[Map, ...]:
    """The lines of the server job in this state directory; none if it keeps another kind of job."""
    try:
        with open(os.path.join(state, "job.json"), encoding="utf-8") as file:
            job = json.load(file)
    except FileNotFoundError:
        return ()
    if job.get("kind") != "server":
        return ()
    return tuple(Map(os.fsencode(source), os.fsencode(target)) for source, target in job["maps"])


class Removal:
    """``root``, ``takeover``: for tests."""

    def __init__(self, state: str, maps: Sequence[Map], root: str = "/", takeover: TakeOver | None = None) -> None:
        self._state = state
        self._maps = maps
        self._parts = parts(maps)
        self._root = root.rstrip("/")
        self._takeover = takeover or TakeOver()

    def check(self) -> None:
        """StateError: the new system stands and has not been committed, or is half there."""
        system = self._takeover.standing().system
        if system != "old" and not Memory(self._state).stage.committed:
            raise StateError(
                f"the {system} system stands here", remedy="livelift commit, or livelift rollback, first"
            )

    def places(self) -> list[str]:
        """What will be gone."""
        return [part.place for part in self._parts] + [f"{self._root}/{agent_unit.PATH}"]

    def clear(self) -> None:
        """The agent has ended. May be interrupted and repeated; the state directory goes last but one, so that there
        is a job to go on with."""
        if not Memory(self._state).stage.committed:
            target = ServerTarget(self._state, self._maps, lambda: False, takeover=self._takeover)
            target.undo()
            target.drop({})
        for path in (agent_unit.LINK, agent_unit.PATH):
            try:
                os.unlink(f"{self._root}/{path}")
            except FileNotFoundError:
                pass
        if not self._root and os.path.isdir("/run/systemd/system"):
            subprocess.run(["systemctl", "daemon-reload"], check=False, stdin=subprocess.DEVNULL)
        for part in self._parts:
            self._clear(part)

    def _clear(self, part: Part) -> None:
        """The places on this file system. Of the root's the agent and its state are the caller's to remove last."""
        for name in sorted(os.listdir(part.place)) if os.path.isdir(part.place) else []:
            path = f"{part.place}/{name}"
            if part.mountpoint == "/" and name in ("livelift-agent", "cache", os.path.basename(self._state)):
                continue
            if os.path.isdir(path) and not os.path.islink(path):
                delete_tree(path)
            else:
                os.unlink(path)
        if part.mountpoint != "/" and os.path.isdir(part.place):
            os.rmdir(part.place)

    def finish(self) -> None:
        """Last of all: the state directory, and the directory that the agent runs from."""
        delete_tree(self._state)
        base = next(part.place for part in self._parts if part.mountpoint == "/")
        if os.path.dirname(self._state) == base:
            delete_tree(base)


def stop_unit() -> None:
    """The agent of a server job is a unit that would be started again."""
    if os.path.isdir("/run/systemd/system"):
        words = ["systemctl", "disable", "--now", "--quiet", agent_unit.NAME]
        subprocess.run(words, check=False, stdin=subprocess.DEVNULL, capture_output=True)

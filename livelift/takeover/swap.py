"""The staged system becomes the live one, and back: an exchange of the names at the top of each file system.

Crash-safe as a whole: the state file on the root's file system says in which direction, the journals what was where.
Whatever an interruption leaves, `recover` brings all of it to one side. Nobody else may change the top directories
meanwhile: it runs in the take-over stage, before the system's init.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from livelift.errors import StateError
from livelift.takeover.swap_journal import State, parse_state, read_whole, render_state, write_durably
from livelift.takeover.swap_volume import Volume

STATE = "state"


class Swap:
    """``places``: each file system that takes part, by its mount point in the system ("/" is one of them), to where it
    is mounted now. Every one has its part of the staged tree in ``.livelift/new``."""

    def __init__(self, places: Mapping[str, str], exchange: bool = True) -> None:
        if "/" not in places:
            raise StateError("the root's file system is not among those to be swapped", remedy="mount it first")
        self._volumes: dict[str, Volume] = {}
        try:
            for mountpoint in sorted(places):
                self._volumes[mountpoint] = Volume(places[mountpoint], mountpoint == "/", exchange)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for volume in self._volumes.values():
            volume.close()

    def state(self) -> State | None:
        """None: never swapped. CorruptError: the state file is damaged."""
        raw = read_whole(self._volumes["/"].own, STATE)
        return parse_state(raw) if raw is not None else None

    def standing(self) -> str:
        """old, new, or mixed while a swap is unfinished."""
        return _standing(self.state())

    def forward(self) -> None:
        """The staged system stands in the live place afterwards. An unfinished swap is finished in its own direction
        first. StateError, CorruptError: as `Volume` says; `back` still works."""
        self._to("new")

    def back(self) -> None:
        """The old system stands in the live place again, exactly as it was; what the new system has made at the top
        since goes to the staged place with it. An unfinished swap is taken back directly."""
        state = self.state()
        if state is not None and not state.settled and state.live == "old":
            self._settle(state._replace(direction="back"))
        self._to("old")

    def recover(self) -> str:
        """After an interruption: go on in the direction that was under way. Which system stands now."""
        state = self.state()
        if state is not None and not state.settled:
            self._settle(state)
        return self.standing()

    def _to(self, wanted: str) -> None:
        if self.recover() == wanted:
            return
        state = self.state()
        generation = (state.generation if state else 0) + 1
        for volume in self._volumes.values():
            volume.write(generation)
        live = "old" if wanted == "new" else "new"
        self._settle(State(generation, "forward", False, live, tuple(self._volumes)))

    def _settle(self, state: State) -> None:
        """From the first line on the swap is under way: it is finished or taken back, never forgotten."""
        missing = [mount for mount in state.mounts if mount not in self._volumes]
        if missing:
            raise StateError(
                f"the swap took {', '.join(missing)} too, which is not here", remedy="mount it in the take-over stage"
            )
        write_durably(self._volumes["/"].own, STATE, render_state(state._replace(settled=False)))
        for mount in state.mounts:
            volume = self._volumes[mount]
            volume.settle(volume.read(state.generation), state.direction == "forward")
        write_durably(self._volumes["/"].own, STATE, render_state(state._replace(settled=True)))


def standing_at(root: str) -> str:
    """As `Swap.standing`, from the state file alone. ``root``: where the root's file system is mounted now."""
    try:
        fd = os.open(os.path.join(root, ".livelift", "swap"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return "old"
    try:
        raw = read_whole(fd, STATE)
    finally:
        os.close(fd)
    return _standing(parse_state(raw) if raw is not None else None)


def _standing(state: State | None) -> str:
    if state is None:
        return "old"
    return state.standing if state.settled else "mixed"


def place_for(mount: str) -> str:
    """The directory that takes the staged tree of a file system."""
    return os.path.join(mount, ".livelift", "new")

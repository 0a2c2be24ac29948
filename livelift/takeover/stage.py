"""The take-over stage: one system takes the other's place, in the initramfs, while nothing else runs on the disks.

The order, so that a crash at any point leads to exactly one of both systems:

1. the attempt is counted (state: trying; on the way back: back);
2. both boot directories say "stage", and that is in its place on disk, where GRUB sees it: from here on every boot
   comes here again;
3. the swap, by its own journal; in its place on disk;
4. forward: the new system's start is counted; the switch stays at "stage", so that a system that does not confirm leads
   here again. Back: the state says returned, then the old system's switch says "idle".

Trouble on the way forward: back, and on with the old system. Trouble that leaves a mixture is raised: nothing may be
started then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from livelift.errors import CorruptError, LiveliftError, StateError
from livelift.platform.linux.confine import open_in_root
from livelift.takeover import reserve, switch
from livelift.takeover.boot_files import BootDirectory
from livelift.takeover.decide import FORWARD, STAY, Limits, decide
from livelift.takeover.records import BACK, CONFIRMED, RETURNED, TRYING, Config, Records, State
from livelift.takeover.swap import Swap, place_for, standing_at

TROUBLE = (OSError, LiveliftError, ValueError)
LABELLING = 6
"""Times as long may a start take that is not the last one allowed: it writes SELinux labels to every file."""


class Hands(Protocol):
    """What the stage needs of the machine. All of it may be called more than once."""

    def open(self) -> None:
        """All file systems that take part are mounted for writing. OSError, LiveliftError: one cannot be."""

    def settle(self, path: str) -> None:
        """Everything written to the file system at ``path`` is in its place on disk, not only in a journal."""

    def guard(self, seconds: int, hardware: bool) -> None:
        """From now on the machine reboots by itself after so many seconds."""

    def calm(self) -> None:
        """It does not."""

    def say(self, text: str, urgent: bool = False) -> None:
        """To the console and the kernel's log."""

    def now(self) -> int:
        """ns since 1970."""


class Outcome(NamedTuple):
    """``system``: old or new, which stands and may be started. ``text``: what was done, and why."""

    system: str
    text: str


class Stage:
    """``places``: mount point of each file system that takes part to where it is mounted now; empty until `Hands.open`
    has filled it, but for the root's."""

    def __init__(self, config: Config, records: Records, places: Mapping[str, str], hands: Hands) -> None:
        self._config = config
        self._records = records
        self._places = places
        self._hands = hands

    def run(self, wish: str) -> Outcome:
        """``wish``: of the kernel's command line. LiveliftError, OSError: nothing may be started."""
        config = self._config
        try:
            state = self._records.state()
        except CorruptError as error:
            self._hands.say(str(error), urgent=True)
            state = None
        limits = Limits(config.attempts, config.starts, config.tries, config.counting, config.seconds)
        standing = standing_at(self._places["/"])
        decision = decide(state, standing, wish, limits, self._hands.now(), self._records.failing())
        state = state or State()
        self._tell(f"{standing} stands, the take-over is {state.phase}: {decision.way} {decision.reason}".rstrip())
        if decision.way == STAY:
            return self._stay(state, standing)
        reason = decision.reason
        seconds = config.seconds if state.starts + 1 >= config.starts else config.seconds * LABELLING
        if decision.way == FORWARD:
            try:
                self._hands.guard(seconds, config.hardware)
                self._hands.open()
                return self._forward(state)
            except TROUBLE as error:
                reason = f"the take-over failed: {error}".replace("\n", ";")
                self._tell(reason, urgent=True)
        else:
            self._attempt(lambda: self._hands.guard(config.seconds, config.hardware))
        return self._back(reason)

    def _forward(self, state: State) -> Outcome:
        state = state._replace(
            phase=TRYING, attempts=state.attempts + (not state.entered), at=self._hands.now(), reason=""
        )
        self._records.write_state(state)
        self._lead_here()
        self._move(Swap.forward)
        self._mount_points()
        self._settle()
        now = self._hands.now()
        self._records.write_state(state._replace(entered=now, at=now, starts=state.starts + 1))
        return Outcome("new", "the new system stands and is started; it has to confirm")

    def _back(self, reason: str) -> Outcome:
        """A system that stands already needs no other file system for that."""
        reserve.release([self._places["/"]])
        self._write(BACK, reason)
        if standing_at(self._places["/"]) != "old":
            self._hands.open()
            reserve.release(self._places.values())
            self._lead_here()
            self._move(Swap.back)
            self._settle()
        else:
            self._attempt(self._hands.open)
        self._write(RETURNED, reason)
        self._attempt(self._lead_nowhere)
        self._settle()
        self._hands.calm()
        return Outcome("old", f"the old system stands: {reason}")

    def _write(self, phase: str, reason: str) -> None:
        try:
            state = self._records.state() or State()
        except CorruptError:
            state = State()
        self._records.write_state(state._replace(phase=phase, reason=reason, at=self._hands.now()))

    def _move(self, way: Callable[[Swap], None]) -> None:
        swap = Swap(self._places)
        try:
            way(swap)
        finally:
            swap.close()

    def _stay(self, state: State, standing: str) -> Outcome:
        if standing == "old":
            self._attempt(self._hands.open)
            self._attempt(self._lead_nowhere)
            return Outcome("old", "the old system stands, nothing is to be done")
        if standing != "new":
            raise StateError(f"a {standing} system stands", remedy="look at both trees by hand")
        if state.phase == CONFIRMED and self._config.counting == "stage":
            self._records.write_state(state._replace(starts=state.starts + 1, at=self._hands.now()))
        return Outcome("new", "the new system stands and has confirmed")

    def _attempt(self, action: Callable[[], None]) -> None:
        """What is not needed for the system that stands to start."""
        try:
            action()
        except TROUBLE as error:
            self._tell(str(error), urgent=True)

    # the switch

    def _directories(self) -> list[BootDirectory]:
        """GRUB's directories that there are: live, staged. In the middle of a swap one may be under way."""
        place = self._places[self._config.boot]
        found = []
        for top in (place, place_for(place)):
            try:
                found.append(BootDirectory(top, self._config.directory))
            except (FileNotFoundError, NotADirectoryError):
                self._tell(f"{top}/{self._config.directory} is missing")
        return found

    def _lead_here(self) -> None:
        """Both systems' switches lead to this stage."""
        found = self._directories()
        if not found:
            raise StateError("neither system has a directory of GRUB's", remedy="boot from a rescue medium")
        for directory in found:
            with directory:
                directory.set_mode(switch.STAGE, self._config)
        self._hands.settle(self._places[self._config.boot])

    def _lead_nowhere(self) -> None:
        """The old system, in the live place, starts by its own menu again."""
        if self._config.boot not in self._places:
            return  # could not be mounted, which has been told
        with BootDirectory(self._places[self._config.boot], self._config.directory) as directory:
            if directory.mode():
                directory.set_mode(switch.IDLE, self._config)
            if directory.environment().get("next_entry") == switch.ENTRY:
                directory.drop("next_entry")  # a GRUB that cannot write has left it

    def _mount_points(self) -> None:
        """The replica of a file system has nothing where another one is mounted."""
        for mountpoint in sorted(self._places):
            above = max((m for m in self._places if _is_above(m, mountpoint)), key=len, default="")
            if above:
                _make_directories(self._places[above], mountpoint[len(above.rstrip("/")) :])

    def _settle(self) -> None:
        for path in dict.fromkeys(self._places.values()):
            self._hands.settle(path)

    def _tell(self, text: str, urgent: bool = False) -> None:
        self._hands.say(text, urgent)
        self._records.log(f"{self._hands.now() // 1_000_000_000} {text}")


def _make_directories(root: str, path: str) -> None:
    """``path`` below ``root``; symlinks lead nowhere else."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        parts = path.strip("/").split("/")
        for number in range(len(parts)):
            above = open_in_root(top, os.fsencode("/".join(parts[:number])), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.mkdir(parts[number], 0o755, dir_fd=above)
            except FileExistsError:
                pass
            finally:
                os.close(above)
    finally:
        os.close(top)


def _is_above(mountpoint: str, other: str) -> bool:
    return mountpoint != other and f"{other}/".startswith(f"{mountpoint.rstrip('/')}/")

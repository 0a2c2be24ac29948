"""The fence of a whole server: all of it stands still but what must live (`choice`), and nothing new is started.

A sweeper looks again twice a second for as long as the fence is up: what systemd starts meanwhile (by a socket, by a
timer that could not be stopped) is frozen too. Units that the operator has named are stopped before, in order.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from livelift.cutover import addresses, block, choice, systemd, taken
from livelift.cutover.addresses import Held
from livelift.cutover.choice import Decision
from livelift.cutover.fence import HeldFence
from livelift.cutover.taken import Taken
from livelift.errors import LiveliftError, ProgramError, RetryError, StateError
from livelift.platform.linux import gather
from livelift.platform.linux.cgroups import Freezer, freeze_all
from livelift.platform.linux.unit_tree import Units, cgroup_of, populated_units, with_program

log = logging.getLogger(__name__)

SWEEP: Final = 0.5
ROUNDS: Final = 10
SSHD: Final = (b"sshd", b"sshd-session", b"sshd-auth", b"dropbear")


class ServerFence(HeldFence):
    """``named``: cgroups to freeze instead of everything (``only_named``: also if there are none). ``stopping``: units
    that are stopped. ``operator``: the cgroup of the one who asked. ``keep``: units that live, too. ``command``,
    ``environment``: start the source agent after a reboot. ``tree``: a part of the cgroup tree that is the whole one,
    and ``root``: of the system whose boot is blocked (for tests)."""

    def __init__(
        self,
        directory: bytes,
        lets_go: Sequence[str],
        named: Sequence[bytes] = (),
        stopping: Sequence[str] = (),
        operator: str = "",
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        keep: Sequence[str] = (),
        only_named: bool = False,
        timeout: float = 10.0,
        tree: bytes = b"",
        root: str = "/",
    ) -> None:
        super().__init__(directory, lets_go)
        self._named = [Freezer(g) for g in named]
        self._only_named = only_named or bool(named)
        self._stopping = list(stopping)
        self._operator = operator
        self._command = command
        self._environment = environment or {}
        self._keep = tuple(keep)
        self._timeout = timeout
        self._tree = tree
        self._root = root
        self._lock = threading.RLock()
        self._halt = threading.Event()
        self._sweeper: threading.Thread | None = None
        self._trouble = ""
        self._moved = False
        self.notes: list[str] = []
        """What is weaker than it should be."""

    @property
    def name(self) -> str:
        groups = ", ".join(os.fsdecode(f.path) for f in self._named)
        parts = [f"stop {', '.join(self._stopping)}"] if self._stopping else []
        parts += [f"freeze {groups}"] if groups else []
        if not self._only_named:
            count = sum(d.freeze for d in self.decisions())
            parts.append(f"freeze all but what must live ({count} units now)")
        return ", ".join(parts)

    def decisions(self) -> list[Decision]:
        """For every unit that holds processes now. With named groups nothing is decided here."""
        return [] if self._only_named else self._decide(self._units())

    def ready(self) -> None:
        """Everything here is nothing that a client of the workload would notice."""
        super().ready()
        self.notes.clear()
        self._take(keep=self._keep, named=self._only_named)
        if self._only_named or not systemd.is_there():
            return
        timers = [name for name in systemd.active("timer", "path") if not name.startswith("systemd-ask-password")]
        if timers:
            self._take(timers=tuple(timers))
            systemd.stop(timers)
        if systemd.has_watchdogs():  # a service that is frozen does not report
            self._take(watchdogs=True)
            systemd.watchdogs_off()
        if os.path.isdir("/var/log/journal"):
            self._take(journal=True)
            try:
                systemd.journal_to_memory()
            except ProgramError as error:
                self._take(journal=False)
                self.notes.append(f"the journal goes on writing to the disk: {error.args[0]}")

    def up(self) -> None:
        if self._stopping:
            self._take(stopped=tuple(self._stopping))
            systemd.stop(self._stopping)
        self._halt.clear()
        with self._lock:
            self._freeze_named() if self._only_named else self._freeze_all()
        self._sweep()

    def again(self) -> None:
        """A new agent, behind a fence that stands: what runs now is frozen, what is taken stays taken."""
        self._taken = found = taken.load(self._directory) or Taken()
        self._keep = found.keep
        self._only_named = found.named
        groups = found.groups if found.named else ()
        self._named = [Freezer(os.fsencode(g)) for g in groups if os.path.isdir(g)]
        self._halt.clear()
        self.move_addresses()
        with self._lock:
            if self._only_named:
                freeze_all(self._named, self._timeout, may_go=True)
            else:
                self._freeze_new(logins=False)
        self._sweep()

    def check(self) -> None:
        super().check()
        if self._trouble:
            raise StateError(f"the fence does not hold: {self._trouble}", remedy="see the log; try the cutover again")
        for group in self._taken.groups:
            if os.path.isdir(group) and Freezer(os.fsencode(group)).pids() and not Freezer(os.fsencode(group)).frozen:
                raise StateError(f"{group} is not frozen any more", remedy="who thawed it?")

    def down(self) -> None:
        self._halt.set()
        with self._lock:  # a sweep that is under way ends first, so that nothing is frozen after this
            sweeper, self._sweeper = self._sweeper, None
            super().down()
        if sweeper is not None and sweeper is not threading.current_thread():
            sweeper.join(5)
        self._trouble = ""
        self._moved = False

    # -- what only a hand-over needs ---------------------------------------------------------------------------------

    def check_block(self) -> None:
        """PreflightError, StateError: after a reboot this machine would serve again, handed over or not."""
        if not systemd.is_there():
            raise StateError("this machine does not run systemd", remedy="a whole server can only be moved with it")
        with open("/proc/cmdline", encoding="utf-8", errors="replace") as file:
            block.check(file.read())
        block.look(self._root)

    def block(self, held: Sequence[Held]) -> None:
        """From here on this machine does not serve after a reboot. ``held``: the addresses that will move."""
        self._take(block=block.look(self._root), addresses=tuple(held))
        moves = [(address, one.interface) for one in held for address in one.moves]
        block.put(self._command, self._environment, systemd.active("service", "socket"), moves, self._root)

    def move_addresses(self) -> None:
        """The hand-over stands: what moves is taken off now, and whenever it comes back."""
        self._moved = True
        self.address_off()

    def address_off(self) -> None:
        """What has moved is taken off, however it came back (a lease, a reload). ProgramError is only told: the hand-
        over stands."""
        if not self._moved or not any(addresses.is_here(a) for one in self._taken.addresses for a in one.moves):
            return
        try:
            addresses.take_off(self._taken.addresses)
        except (LiveliftError, ValueError, OSError) as error:
            log.error("an address that has moved is still here: %s", error)

    # -- freezing ----------------------------------------------------------------------------------------------------

    def _units(self) -> Units:
        units = populated_units(self._tree)
        if not units.mount:
            raise StateError(
                "no cgroups are mounted here", remedy="name what is to stop: --stop-unit UNIT, --fence-cgroup DIR"
            )
        return units

    def _decide(self, units: Units) -> list[Decision]:
        paths = [os.fsdecode(path) for path in units.paths]
        own = [place for place in (os.fsdecode(cgroup_of("self")), self._operator) if place]
        ssh = [p for p in paths if "/session-" in p and with_program(units, os.fsencode(p), SSHD)]
        return choice.decide(paths, own, ssh, self._keep)

    def _freeze_named(self) -> None:
        self._take(groups=tuple(os.fsdecode(f.path) for f in self._named))
        freeze_all(self._named, self._timeout)

    def _freeze_all(self) -> None:
        """Until nothing new is found: what is being started now is found in the next round."""
        for _ in range(ROUNDS):
            if not self._freeze_new():
                return
        raise RetryError("services are started faster than they are frozen", remedy="what starts them? Try again")

    def _freeze_new(self, logins: bool = True) -> bool:
        """Whether there was something. ``logins``: those too."""
        units = self._units()
        known = set(self._taken.groups)
        chosen = [
            os.fsencode(d.path)
            for d in self._decide(units)
            if d.freeze and (logins or not choice.is_login(d.path))
        ]
        found = [f for f in gather.freezers(units, chosen) if os.fsdecode(f.path) not in known or not f.frozen]
        if not found:
            return False
        names = dict.fromkeys([*self._taken.groups, *(os.fsdecode(f.path) for f in found)])
        self._take(groups=tuple(names))
        freeze_all(found, self._timeout, may_go=True)
        return True

    def _sweep(self) -> None:
        self._sweeper = threading.Thread(target=self._keep_sweeping, name="sweeper", daemon=True)
        self._sweeper.start()

    def _keep_sweeping(self) -> None:
        while not self._halt.wait(SWEEP):
            with self._lock:
                if self._halt.is_set():
                    return
                self.address_off()
                if self._only_named:
                    continue
                try:
                    if self._freeze_new(logins=False):
                        log.warning("something was started behind the fence; it is frozen now")
                    self._trouble = ""
                except (LiveliftError, OSError) as error:
                    self._trouble = str(error)
                    log.error("behind the fence: %s", error)
                    time.sleep(SWEEP)

"""The fence: from here on the source acknowledges no more writes. It can be taken down at any time, within a moment,
and comes down by itself when the agent dies (`keeper`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from livelift.cutover import keeper, taken
from livelift.cutover.keeper import Keeper
from livelift.cutover.taken import Taken
from livelift.errors import StateError
from livelift.platform.linux.cgroups import Freezer, freeze_all
from livelift.platform.linux.gather import let_go


class Fence(Protocol):
    @property
    def name(self) -> str: ...

    def ready(self) -> None:
        """Nothing is fenced yet: what takes time and disturbs nobody."""

    def up(self) -> None: ...

    def check(self) -> None:
        """StateError: it does not hold any more as it should."""

    def hold(self) -> None:
        """It stays, whatever becomes of this process."""

    def down(self) -> None:
        """Everything is given back; also what was taken by an agent that is gone."""


class HeldFence:
    """What is taken is written down before (`taken`), and watched by a `keeper`. ``lets_go``: see there."""

    def __init__(self, directory: bytes, lets_go: Sequence[str]) -> None:
        self._directory = directory
        self._keeper = Keeper(directory, lets_go)
        self._taken = Taken()

    @property
    def keeper_place(self) -> str:
        return self._keeper.place

    def ready(self) -> None:
        taken.give_back(self._directory)  # what an earlier one could not
        self._keeper.start()

    def check(self) -> None:
        if not self._keeper.is_alive():
            raise StateError(
                "the fence keeper has ended", remedy="who ended it? Try the cutover again; it is started anew"
            )

    def hold(self) -> None:
        self._keeper.release()

    def down(self) -> None:
        """StateError: something because of which the workload does not serve could not be given back."""
        returned = taken.give_back(self._directory)
        self._keeper.release()
        self._taken = Taken()
        if returned.stuck:
            raise StateError(
                f"the fence is not down: {'; '.join(returned.stuck)}", remedy="give that back by hand; see the log"
            )

    def _take(self, **more: Any) -> None:
        self._taken = msgspec.structs.replace(self._taken, **more)
        taken.save(self._directory, self._taken)


class FreezeFence(HeldFence):
    """Freezes the cgroups that the operator has named: every task of the service stands still at once, clients see
    silence, nothing is lost. All or none: if one cannot be frozen the others are let go."""

    def __init__(
        self, directory: bytes, groups: Sequence[bytes], lets_go: Sequence[str], timeout: float = 10.0
    ) -> None:
        super().__init__(directory, lets_go)
        self._freezers = [Freezer(g) for g in groups]
        self._timeout = timeout
        self.name = "freeze " + ", ".join(f.path.decode(errors="replace") for f in self._freezers)

    def up(self) -> None:
        self._take(groups=tuple(os.fsdecode(f.path) for f in self._freezers))
        try:
            freeze_all(self._freezers, self._timeout)
        except BaseException:
            self.down()
            raise

    def check(self) -> None:
        super().check()
        for freezer in self._freezers:
            if not freezer.frozen:
                raise StateError(f"{os.fsdecode(freezer.path)} is not frozen any more", remedy="who thawed it?")


class OpenFence:
    """No fence: the operator has stopped the writers. What still writes shows as a difference."""

    name = "none (the writers were stopped by the operator)"
    keeper_place = ""

    def ready(self) -> None:
        return

    def up(self) -> None:
        return

    def check(self) -> None:
        return

    def hold(self) -> None:
        return

    def down(self) -> None:
        return


def give_back(directory: bytes, groups: Sequence[bytes]) -> None:
    """For an agent that begins after one that died behind its fence. ``groups``: those that the operator has named; an
    earlier release froze them without writing it down."""
    taken.give_back(directory)
    for group in groups:
        try:
            let_go(group)
        except (OSError, StateError):
            continue  # gone: it holds nobody


def account(directory: bytes) -> dict[str, Any]:
    """For the status: ``taken`` (what the source goes without now) and ``keeper`` (what one did when it found its agent
    gone; see `keeper.report`)."""
    found = taken.load(directory)
    return {"taken": msgspec.to_builtins(found) if found else None, "keeper": keeper.report(directory)}

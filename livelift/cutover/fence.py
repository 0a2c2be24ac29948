"""The fence: from here on the source acknowledges no more writes. It can be taken down at any time, within a moment."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Protocol

from livelift.platform.linux.cgroups import Freezer


class Fence(Protocol):
    name: str

    def up(self) -> None: ...

    def down(self) -> None: ...


class FreezeFence:
    """Freezes cgroups: every task of the service stands still at once, clients see silence, nothing is lost.

    All or none: if one cannot be frozen the others are let go.
    """

    def __init__(self, groups: Sequence[bytes], timeout: float = 10.0) -> None:
        self._freezers = [Freezer(g) for g in groups]
        self._timeout = timeout
        self.name = "freeze " + ", ".join(f.path.decode(errors="replace") for f in self._freezers)

    def up(self) -> None:
        try:
            for freezer in self._freezers:
                freezer.freeze(self._timeout)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Every group is let go, whatever happens to the others; the first error is told. A group that is gone holds
        nobody."""
        errors = []
        for freezer in self._freezers:
            try:
                freezer.thaw()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENODEV):
                    errors.append(error)
        if errors:
            raise errors[0]


class OpenFence:
    """No fence: the operator has stopped the writers. What still writes shows as a difference."""

    name = "none (the writers were stopped by the operator)"

    def up(self) -> None:
        return

    def down(self) -> None:
        return

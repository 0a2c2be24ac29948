"""What can go wrong on the replica: three families, told apart by errno.

- `Conflict`: the tree is not as the log says. A value; the agent asks the source for the object again.
- `Problem` (collected in a `Ledger`): this target cannot hold what the source has. A value; counted, the weaker replica
  is said openly.
- `ReplicaError`: the target itself is in trouble (full, broken, read-only). An exception; the batch can be applied
  again.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from livelift.errors import StoreError
from livelift.model.problem import Problem
from livelift.model.record import Kind

EXAMPLES: Final = 5


class ReplicaError(StoreError):
    """replica: {0}"""

    code = "replica"


class ReplicaFullError(ReplicaError):
    """replica is full: {0}"""

    code = "replica-full"


class Conflict(NamedTuple):
    """One record that could not be applied. ``oid`` is what must be read again (0: unknown, then (parent, name))."""

    oid: int
    parent: int
    name: bytes
    lsn: int
    kind: Kind
    detail: str


class Disagreement(Exception):
    """Raised inside this room: becomes a `Conflict` about ``oid``."""

    def __init__(self, oid: int, detail: str) -> None:
        super().__init__(detail)
        self.oid = oid
        self.detail = detail


DISAGREE: Final = frozenset(
    {
        errno.ENOENT,
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENOTEMPTY,
        errno.ELOOP,
        errno.ESTALE,
        errno.EXDEV,
        errno.EBUSY,  # a mount point of the target where the log has an ordinary directory
        errno.ENXIO,
    }
)
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
REFUSED: Final = frozenset(
    {
        errno.EPERM,
        errno.EACCES,
        errno.EOPNOTSUPP,
        errno.ENOTTY,
        errno.ENOSYS,
        errno.EINVAL,
        errno.EILSEQ,  # a name that is no UTF-8 on a case-folding directory
        errno.ENAMETOOLONG,
        errno.EMLINK,  # ext4: 65,000 names for one file
        errno.EOVERFLOW,
        errno.EFBIG,
        errno.E2BIG,
        errno.ERANGE,
        errno.ENODEV,
    }
)
"""The file system or our privileges do not allow it. What is in none of the sets is trouble of the target itself."""


def replica_error(error: OSError, what: str) -> ReplicaError:
    """The exception for trouble of the target itself."""
    text = f"{what}: {error.strerror or error}"
    if error.errno in FULL:
        return ReplicaFullError(
            text, remedy="free or add space (or raise the quota) on the target's file system; replay goes on from there"
        )
    if error.errno == errno.EROFS:
        return ReplicaError(text, remedy="look into dmesg for the reason, then remount the file system read-write")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return ReplicaError(text, remedy="raise LimitNOFILE of the agent's service")
    return ReplicaError(text, remedy="look into dmesg on the target; check the disk, then start the agent again")


class Notes:
    """Problems of one worker: counted by (code, reason), with the first places as examples. Not thread-safe by itself.

    A place is (directory id, name): a worker must not ask the directory map for paths, so `Ledger.take` does.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.places: dict[tuple[str, str], list[tuple[int, bytes]]] = {}
        self.remedies: dict[tuple[str, str], str] = {}

    def add(self, code: str, error: OSError, directory: int, name: bytes, remedy: str = "") -> None:
        key = code, error.strerror or os.strerror(error.errno or 0)
        self.counts[key] += 1
        places = self.places.setdefault(key, [])
        if len(places) < EXAMPLES:
            places.append((directory, name))
        self.remedies.setdefault(key, remedy)

    def clear(self) -> None:
        self.counts.clear()
        self.places.clear()


class Ledger:
    """All problems of a replica so far. ``path_of`` names a directory id."""

    def __init__(self, path_of: Callable[[int], bytes]) -> None:
        self._path_of = path_of
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[bytes]] = {}
        self._remedies: dict[tuple[str, str], str] = {}

    def take(self, notes: Notes) -> list[Problem]:
        """Take over what a worker noted and empty it; answers a Problem for each (code, reason) that is new."""
        fresh = []
        for key, count in notes.counts.items():
            known = self._counts[key]
            self._counts[key] += count
            self._remedies.setdefault(key, notes.remedies[key])
            examples = self._examples.setdefault(key, [])
            for directory, name in notes.places[key][: EXAMPLES - len(examples)]:
                examples.append(b"/".join(part for part in (self._path_of(directory), name) if part))
            if not known:
                fresh.append(Problem(examples[0], key[0], key[1], self._remedies[key]))
        notes.clear()
        return fresh

    def problems(self) -> list[Problem]:
        """One Problem for each (code, reason); the detail says how often and shows examples."""
        found = []
        for (code, reason), count in self._counts.items():
            examples = self._examples[code, reason]
            shown = ", ".join(os.fsdecode(path) for path in examples)
            detail = f"{reason}: {count} times (e.g. {shown})"
            found.append(Problem(examples[0], code, detail, self._remedies[code, reason]))
        return found

"""The contracts between rooms, in prose first. Pure: nothing here does input or output.

Capture
-------
One thread calls ``start``, then ``read`` again and again, then ``close``. A change that finished (its system call
returned) before ``read`` was called is in the answer of that call or of a later one, never lost without a ``Lost``:
that is the whole promise. Events of one directory come in the order in which they happened. After an exception from any
method the capture is failed: call ``close`` and nothing else; whoever holds it records a gap on every volume.
``sync`` puts a mark into the stream and ``read`` reports it (``Synced``) only after every event that happened before:
it is how a drain knows that it has seen everything.

Late-read modes (fanotify, inotify) report *hints* (``Dirty``, ``Named``): look again at this object or name.
In-kernel modes report ``Wrote`` and friends as ready records; see `livelift.merge`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple, Protocol, cast

from livelift.model.record import Record


class Op(IntEnum):
    CREATED = 1
    REMOVED = 2
    RENAMED = 3
    TOUCHED = 4  # something happened to this name; look at it (modes that cannot pair or identify)


class Named(NamedTuple):
    """A name changed. ``child`` 0: the mode cannot tell. ``parent`` 0: outside every watched directory."""

    op: Op
    parent: int
    name: bytes
    child: int = 0
    new_parent: int = 0
    new_name: bytes = b""
    is_dir: bool = False
    handle: bytes = b""  # file handle of the child, for open_by_handle_at, when the mode has it
    time: int = 0


class Dirty(NamedTuple):
    """An object's content or attributes changed. ``parent``/``name``: where it was then, if the mode knows."""

    oid: int
    content: bool
    parent: int = 0
    name: bytes = b""
    handle: bytes = b""
    time: int = 0


class Lost(NamedTuple):
    """Events are missing: for an object, a directory (look at it again), or with oid 0 for a whole volume (-1: all)."""

    oid: int
    volume: int
    reason: str
    time: int = 0


class Synced(NamedTuple):
    """Everything that happened before ``sync(token)`` was called has been reported."""

    token: int


class Exact(NamedTuple):
    """An in-kernel mode's record: bytes and order are exact. Of content and attributes the locator (parent, name) is
    0 and empty; merge fills it in. Names have theirs: `Make` (of a known object: a further name), `Unlink`, `Rename`.
    """

    record: Record


Event = Named | Dirty | Lost | Synced | Exact


class WatchedVolume(NamedTuple):
    """A volume that takes part: its index, where it is mounted, an open directory on it, its st_dev."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls
    mountpoint: bytes
    fstype: str
    device: int


class Capture(Protocol):
    """See the module docstring for the contract."""

    name: str  # "fanotify"
    promise: str  # one sentence for the operator
    blind_to: tuple[str, ...]  # what it cannot see: "mmap", "inode-flags", ...; caught by rescan before a cut

    def start(self, volumes: Iterable[WatchedVolume], ignore: Callable[[bytes], bool]) -> None: ...

    def watch_directory(self, oid: int, path: bytes) -> None:
        """Called by the walk before it lists a directory. Modes that see the whole file system do nothing."""

    def read(self, timeout: float) -> list[Event]:
        """Wait up to ``timeout`` seconds for events; an empty list means that none came."""

    def sync(self, token: int) -> None: ...

    def close(self) -> None: ...


class Ordered(Protocol):
    """What a capture offers besides, if its stream is in the order in which everything changed.

    Positions only grow. ``reached`` is the position up to which everything has been given out by `read`. ``passed`` is
    the same at the last moment at which nothing was half told; ``settled``: that moment is now (else a part of what
    came behind ``passed`` has been given out as well). All are read by the thread that reads.
    """

    reached: int
    passed: int
    settled: bool

    def produced(self) -> int:
        """The position now: what changed before this call is before it. From any thread."""

    def why_not(self) -> str:
        """Why no position can be a cut, or an empty string."""


def ordered(capture: Capture) -> Ordered | None:
    """The order of a capture that has one."""
    return cast(Ordered, capture) if hasattr(capture, "passed") else None


class Ring(Protocol):
    """What a capture offers besides, if what nobody takes in time is lost to it."""

    def filled(self) -> float:
        """The part of its room that waits to be read, 0 to 1. From any thread."""


def ring(capture: Capture) -> Ring | None:
    """That room of a capture that has one."""
    return cast(Ring, capture) if hasattr(capture, "filled") else None


class TreeView(Protocol):
    """The tree as the log has described it so far: the fold of all records. What the target will hold at this LSN."""

    def lookup(self, parent: int, name: bytes) -> int:
        """Object id behind a name, or 0."""

    def places(self, oid: int) -> list[tuple[int, bytes]]:
        """Every (parent, name) of an object; empty if unknown."""

    def children(self, parent: int) -> Iterator[tuple[bytes, int]]: ...

    def is_dir(self, oid: int) -> bool: ...

    def type_of(self, oid: int) -> int:
        """S_IFMT of the object's mode, 0 if it is not known."""


class Clock(Protocol):
    def now(self) -> int:
        """Wall clock, ns since the epoch."""

    def monotonic(self) -> float: ...

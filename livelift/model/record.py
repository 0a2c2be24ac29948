"""The log record: one entry of the change log. Kinds, bodies, and which body belongs to which kind.

A record is addressed by object id (volume, inode) and, for names, by (parent object id, name). Content and attribute
records also carry the *locator* (parent, name) that the object has **at this position of the log**, so the target needs
a map of directories only, not of a million files, and a renamed directory is still one record.

Kind numbers are part of the format. A kind with ``OPTIONAL`` set may be skipped by a reader that does not know it;
an unknown kind without it stops the reader. Free numbers inside the ranges are reserved.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from livelift.model.entry import Attributes

OPTIONAL: Final = 0x8000


class Kind(IntEnum):
    # names: 1..31
    CREATE = 1
    MKDIR = 2
    SYMLINK = 3
    MKNOD = 4  # device nodes, FIFOs, sockets
    LINK = 5
    UNLINK = 6
    RMDIR = 7
    RENAME = 8
    RMTREE = 9  # a name that only the target has, with all below it: repair after a verification
    # base copy: 32..47
    BASE_FILE = 32  # begin, extents and end in one record
    BASE_BEGIN = 33
    BASE_EXTENT = 34
    BASE_END = 35
    # content: 48..79
    WRITE = 48
    TRUNCATE = 49
    ALLOCATE = 50
    PUNCH = 51
    ZERO = 52
    COLLAPSE = 53
    INSERT = 54
    REFLINK = 55
    FILE = 56  # a small file, new or changed, whole, as a captured change
    # attributes: 80..95
    ATTRIBUTES = 80
    XATTR_SET = 81
    XATTR_REMOVE = 82
    CHANGED = 83
    # control: 96..127
    VOLUME = 96
    GAP = 97
    GAP_CLOSED = 98
    SYNC = 99
    FENCE = 100
    CUT = 101
    BASE_DONE = 102


class Make(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """CREATE, MKDIR, SYMLINK, MKNOD: a new object under its first name. Attributes are those at capture."""

    oid: int
    parent: int
    name: bytes
    attributes: Attributes
    generation: int = 0


class BaseFile(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """BASE_FILE, FILE, BASE_BEGIN, BASE_END. BASE_FILE and FILE carry the data of ``extents`` back to back.

    ``allocated`` lists extents that are allocated but unwritten (fallocate). ``since`` is the LSN of the bracket's
    beginning (BASE_END only). The object is valid from BASE_FILE, FILE or BASE_END on.
    """

    oid: int
    parent: int
    name: bytes
    attributes: Attributes
    extents: tuple[tuple[int, int], ...] = ()
    allocated: tuple[tuple[int, int], ...] = ()
    generation: int = 0
    since: int = 0


class Range(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """WRITE and BASE_EXTENT (payload: the bytes), TRUNCATE (offset: size), ALLOCATE, PUNCH, ZERO, COLLAPSE, INSERT."""

    oid: int
    parent: int
    name: bytes
    offset: int
    length: int
    flags: int = 0  # ALLOCATE, ZERO, WRITE: 1 = the size stays (as FALLOC_FL_KEEP_SIZE)


class Reflink(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """REFLINK: ``length`` bytes at ``offset`` now share the source's bytes at ``source_offset``."""

    oid: int
    parent: int
    name: bytes
    offset: int
    length: int
    source_oid: int
    source_parent: int
    source_name: bytes
    source_offset: int


class Link(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """LINK: the object known as (old_parent, old_name) gets the further name (parent, name)."""

    oid: int
    parent: int
    name: bytes
    old_parent: int
    old_name: bytes


class Unlink(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """UNLINK, RMDIR: the name goes. The object goes with its last name."""

    oid: int
    parent: int
    name: bytes


class Rename(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """RENAME: flags as renameat2(2): 0 replaces, 1 NOREPLACE, 2 EXCHANGE, 4 WHITEOUT. ``victim``: replaced, or 0."""

    oid: int
    parent: int
    name: bytes
    new_parent: int
    new_name: bytes
    flags: int = 0
    victim: int = 0


class SetAttributes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """ATTRIBUTES: the whole set of attributes (not the size) is now this one."""

    oid: int
    parent: int
    name: bytes
    attributes: Attributes


class Xattr(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """XATTR_SET (payload = the value), XATTR_REMOVE."""

    oid: int
    parent: int
    name: bytes
    key: bytes


class Changed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """CHANGED: these attributes are now so, as chmod, chown and utimes set them; None: as it was. Times in ns."""

    oid: int
    parent: int
    name: bytes
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime: int | None = None
    mtime: int | None = None


class Volume(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """VOLUME: a file system of the source takes part from here on under this index."""

    index: int
    fstype: str
    device: str
    uuid: str
    mountpoint: bytes


class Gap(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """GAP, GAP_CLOSED: what is known to be missing on the target: an object, or with oid 0 a whole volume."""

    oid: int
    reason: str
    detail: str = ""


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """SYNC, FENCE, CUT, BASE_DONE: a position that somebody asked for."""

    label: str = ""


Body = (
    Make | BaseFile | Range | Reflink | Link | Unlink | Rename | SetAttributes | Xattr | Changed | Volume | Gap | Mark
)

BODY_OF: Final[dict[Kind, type[Body]]] = {
    Kind.CREATE: Make,
    Kind.MKDIR: Make,
    Kind.SYMLINK: Make,
    Kind.MKNOD: Make,
    Kind.LINK: Link,
    Kind.UNLINK: Unlink,
    Kind.RMDIR: Unlink,
    Kind.RENAME: Rename,
    Kind.RMTREE: Unlink,
    Kind.BASE_FILE: BaseFile,
    Kind.FILE: BaseFile,
    Kind.BASE_BEGIN: BaseFile,
    Kind.BASE_EXTENT: Range,
    Kind.BASE_END: BaseFile,
    Kind.WRITE: Range,
    Kind.TRUNCATE: Range,
    Kind.ALLOCATE: Range,
    Kind.PUNCH: Range,
    Kind.ZERO: Range,
    Kind.COLLAPSE: Range,
    Kind.INSERT: Range,
    Kind.REFLINK: Reflink,
    Kind.ATTRIBUTES: SetAttributes,
    Kind.XATTR_SET: Xattr,
    Kind.XATTR_REMOVE: Xattr,
    Kind.CHANGED: Changed,
    Kind.VOLUME: Volume,
    Kind.GAP: Gap,
    Kind.GAP_CLOSED: Gap,
    Kind.SYNC: Mark,
    Kind.FENCE: Mark,
    Kind.CUT: Mark,
    Kind.BASE_DONE: Mark,
}

NAMESPACE: Final = frozenset({Kind.MKDIR, Kind.LINK, Kind.UNLINK, Kind.RMDIR, Kind.RENAME, Kind.RMTREE})
"""Kinds that change which name leads where: barriers for parallel replay."""

RELOADABLE: Final = frozenset({Kind.BASE_FILE, Kind.BASE_EXTENT})
"""Kinds whose payload the source can always read again, so it never goes to the spool."""


class Record(msgspec.Struct, gc=False):
    """One log entry. ``lsn`` 0 = not yet sequenced. ``time``: ns since the epoch at capture.

    ``elided``: the payload is ``length`` bytes long but is not here (base content is not spooled; under pressure the
    spool drops the content of hot files). An elided record still creates what it creates; the object is then a gap
    until it is read again.
    """

    kind: Kind
    body: Body
    payload: bytes | bytearray | memoryview = b""
    time: int = 0
    lsn: int = 0
    elided: bool = False
    length: int = 0  # length of the payload when it is elided, else 0

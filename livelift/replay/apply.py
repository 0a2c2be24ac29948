"""Which function applies which kind, and what its errors mean."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from typing import Final, cast

from livelift.model.record import Changed, Kind, Record, SetAttributes, Xattr
from livelift.replay import attributes, content, names
from livelift.replay.barriers import attempt
from livelift.replay.directories import Directory
from livelift.replay.hands import Hands
from livelift.replay.trouble import DISAGREE, REFUSED, Conflict, Disagreement, replica_error

Action = Callable[[Hands, Directory, Record], None]
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def set_attributes(hands: Hands, directory: Directory, record: Record) -> None:
    """ATTRIBUTES of anything but a directory."""
    body = cast(SetAttributes, record.body)
    a = body.attributes
    mode = os.stat(body.name, dir_fd=directory.fd, follow_symlinks=False).st_mode
    if stat.S_IFMT(mode) != stat.S_IFMT(a.mode):
        raise Disagreement(body.oid, "another type of object is there")
    if not stat.S_ISREG(mode):
        attributes.complete(hands, directory, body.name, -1, a)
        return
    fd = os.open(body.name, _OPEN, dir_fd=directory.fd)
    try:
        attributes.complete(hands, directory, body.name, fd, a)
    finally:
        os.close(fd)


def set_xattr(hands: Hands, directory: Directory, record: Record) -> None:
    body = cast(Xattr, record.body)
    where = b"/proc/self/fd/%d/%b" % (directory.fd, body.name)
    attributes.set_xattr(hands, directory, body.name, where, body.key, bytes(record.payload))


def remove_xattr(hands: Hands, directory: Directory, record: Record) -> None:
    body = cast(Xattr, record.body)
    where = b"/proc/self/fd/%d/%b" % (directory.fd, body.name)
    attributes.remove_xattr(hands, directory, body.name, where, body.key)


def change(hands: Hands, directory: Directory, record: Record) -> None:
    """CHANGED of anything but a directory."""
    body = cast(Changed, record.body)
    attributes.change(hands, directory, body.name, b"/proc/self/fd/%d/%b" % (directory.fd, body.name), body)


PARALLEL: Final[dict[Kind, Action]] = {
    Kind.CREATE: names.create,
    Kind.SYMLINK: names.make_symlink,
    Kind.MKNOD: names.make_special,
    Kind.BASE_FILE: content.base_file,
    Kind.FILE: content.base_file,
    Kind.BASE_BEGIN: content.base_begin,
    Kind.BASE_EXTENT: content.write,
    Kind.BASE_END: content.base_end,
    Kind.WRITE: content.write,
    Kind.TRUNCATE: content.truncate,
    Kind.ALLOCATE: content.allocate,
    Kind.PUNCH: content.punch,
    Kind.ZERO: content.zero,
    Kind.ATTRIBUTES: set_attributes,
    Kind.XATTR_SET: set_xattr,
    Kind.XATTR_REMOVE: remove_xattr,
    Kind.CHANGED: change,
}
"""Kinds that concern one object in one directory; on different objects they may run at the same time."""

ONCE: Final = frozenset(
    {Kind.RENAME, Kind.LINK, Kind.UNLINK, Kind.RMDIR, Kind.RMTREE, Kind.COLLAPSE, Kind.INSERT, Kind.REFLINK}
)
"""Steps that must not happen twice: bracketed by a mark."""

CONTENT: Final = frozenset(
    {
        Kind.BASE_FILE,
        Kind.FILE,
        Kind.BASE_BEGIN,
        Kind.BASE_EXTENT,
        Kind.BASE_END,
        Kind.WRITE,
        Kind.TRUNCATE,
        Kind.ALLOCATE,
        Kind.PUNCH,
        Kind.ZERO,
        Kind.COLLAPSE,
        Kind.INSERT,
        Kind.REFLINK,
    }
)
"""What is refused here leaves wrong content: that is a conflict, not a weaker replica."""


def apply_one(hands: Hands, directory: Directory, record: Record) -> Conflict | None:
    """A record of a PARALLEL kind."""
    try:
        PARALLEL[record.kind](hands, directory, record)
        return None
    except PermissionError:
        pass
    except (OSError, Disagreement) as error:
        return judge(hands, directory, record, error)
    action = PARALLEL[record.kind]
    name: bytes = record.body.name  # type: ignore[union-attr]
    return guarded(hands, [directory], [(directory, name)], record, lambda: action(hands, directory, record))


def guarded(
    hands: Hands,
    directories: Sequence[Directory],
    named: Sequence[tuple[Directory, bytes]],
    record: Record,
    action: Callable[[], None],
) -> Conflict | None:
    """Run ``action`` for ``record``, if need be without the barriers of what it touches."""
    try:
        attempt(hands, record.kind, directories, named, action)
    except (OSError, Disagreement) as error:
        return judge(hands, directories[0], record, error)
    return None


def judge(hands: Hands, directory: Directory | None, record: Record, error: OSError | Disagreement) -> Conflict | None:
    """Conflict, problem (None) or ReplicaError."""
    body = record.body
    oid: int = body.oid  # type: ignore[union-attr]
    parent: int = body.parent  # type: ignore[union-attr]
    name: bytes = body.name  # type: ignore[union-attr]
    hands.files.drop(oid)
    if isinstance(error, Disagreement):
        return Conflict(error.oid, parent, name, record.lsn, record.kind, error.detail)
    if error.errno in DISAGREE or (error.errno in REFUSED and record.kind in CONTENT):
        detail = f"{record.kind.name} {name!r}: {error.strerror}"
        return Conflict(oid, parent, name, record.lsn, record.kind, detail)
    if error.errno in REFUSED and directory is not None:
        hands.note(f"refused-{record.kind.name.lower()}", error, directory, name)
        return None
    raise replica_error(error, f"{record.kind.name} {os.fsdecode(name)}") from error

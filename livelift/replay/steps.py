"""Records that run alone: those that change which name leads where, and those on directories."""

from __future__ import annotations

import stat
from typing import cast

from livelift.errors import WireError
from livelift.model.record import Changed, Kind, Link, Make, Record, Reflink, Rename, SetAttributes, Unlink, Xattr
from livelift.platform.linux.files import RENAME_EXCHANGE
from livelift.replay import attributes, content, names
from livelift.replay.apply import guarded
from livelift.replay.directories import Directories, Directory, check_name
from livelift.replay.hands import Hands
from livelift.replay.trouble import Conflict
from livelift.replay.workers import Workers


def is_step(record: Record, directories: Directories) -> bool:
    """Whether a record of a parallel kind must run alone all the same: attributes of a directory."""
    if record.kind is Kind.ATTRIBUTES:
        return stat.S_ISDIR(cast(SetAttributes, record.body).attributes.mode)
    return directories.has(cast(Xattr | Changed, record.body).oid)  # XATTR_SET, XATTR_REMOVE, CHANGED


def other_place(record: Record) -> tuple[int, bytes] | None:
    """The second (parent, name) of a record that has one."""
    body = record.body
    if isinstance(body, Rename):
        return body.new_parent, body.new_name
    if isinstance(body, Link):
        return body.old_parent, body.old_name
    if isinstance(body, Reflink):
        return body.source_parent, body.source_name
    return None


def make_directory(hands: Hands, directories: Directories, record: Record) -> Conflict | None:
    body = cast(Make, record.body)
    if body.oid <= 0:
        raise WireError(f"a record makes a directory with the id {body.oid}")
    if body.parent == 0:
        return _bind_root(hands, directories, record)
    parent = directories.open(body.parent)
    conflict = guarded(
        hands, [parent], [(parent, body.name)], record, lambda: names.make_directory(hands, parent, record)
    )
    if conflict is None:
        fold(directories, record)
    return conflict


def _bind_root(hands: Hands, directories: Directories, record: Record) -> Conflict | None:
    """The root of a map: its directory is there already, only its attributes are set."""
    body = cast(Make, record.body)
    fold(directories, record)
    root = directories.open(body.oid)

    def action() -> None:
        names.set_directory(hands, root, b"", root.fd, body.attributes, final=False)

    conflict = guarded(hands, [root], [], record, action)
    root.look()
    return conflict


def change_directory(hands: Hands, directories: Directories, record: Record) -> Conflict | None:
    """ATTRIBUTES, XATTR_SET, XATTR_REMOVE, CHANGED of a directory."""
    body = cast(SetAttributes | Xattr | Changed, record.body)
    here = directories.open(body.oid)

    def action() -> None:
        if isinstance(body, SetAttributes):
            attributes.complete(hands, here, b"", here.fd, body.attributes)
        elif isinstance(body, Changed):
            attributes.change(hands, here, b"", here.fd, body)
        elif record.kind is Kind.XATTR_SET:
            attributes.set_xattr(hands, here, b"", here.fd, body.key, bytes(record.payload))
        else:
            attributes.remove_xattr(hands, here, b"", here.fd, body.key)

    conflict = guarded(hands, [here], [], record, action)
    here.look()
    return conflict


def perform(
    hands: Hands, workers: Workers, directories: Directories, here: Directory, there: Directory | None, record: Record
) -> Conflict | None:
    """One of the steps that must not happen twice, then what it means for the map and for open files."""
    body = record.body
    if isinstance(body, Rename):
        to = there or here
        conflict = guarded(
            hands,
            [here, to],
            [(here, body.name), (to, body.new_name)],
            record,
            lambda: names.rename(hands, here, to, record),
        )
        workers.drop(body.victim)
    elif isinstance(body, Link):
        old = there or here
        conflict = guarded(
            hands,
            [here, old],
            [(old, body.old_name), (here, body.name)],
            record,
            lambda: names.link(hands, here, old, record),
        )
    elif isinstance(body, Reflink):
        source = there or here
        conflict = guarded(
            hands, [here], [(here, body.name)], record, lambda: content.reflink(hands, here, source, record)
        )
    elif isinstance(body, Unlink):
        apply = _REMOVERS[record.kind]
        conflict = guarded(hands, [here], [(here, body.name)], record, lambda: apply(hands, here, record))
        workers.drop(body.oid)
    else:
        name: bytes = body.name  # type: ignore[union-attr]
        conflict = guarded(hands, [here], [(here, name)], record, lambda: content.shift(hands, here, record))
    if conflict is None:
        fold(directories, record)
    return conflict


_REMOVERS = {
    Kind.UNLINK: names.unlink,
    Kind.RMDIR: names.remove_directory,
    Kind.RMTREE: names.remove_tree,
}


def fold(directories: Directories, record: Record) -> None:
    """What a record means for the map of directories alone."""
    body = record.body
    if isinstance(body, Make):
        if record.kind is not Kind.MKDIR:
            return
        if body.parent == 0:
            if not body.name.isdigit():
                raise WireError(f"a record announces the root of map {body.name!r}")
            directories.bind(int(body.name), body.oid)
        else:
            directories.put(body.oid, body.parent, body.name)
        directories.forget(body.oid)
    elif isinstance(body, Rename):
        victim = body.victim
        if body.flags & RENAME_EXCHANGE:
            victim = victim or directories.find(body.new_parent, body.new_name)
            if victim and directories.has(victim):
                directories.put(victim, body.parent, body.name)
        elif victim and victim != body.oid:
            directories.remove(victim)
        if directories.has(body.oid):
            directories.put(body.oid, body.new_parent, body.new_name)
    elif record.kind is Kind.RMDIR:
        directories.remove(cast(Unlink, body).oid)


def check(record: Record) -> None:
    """Every name in the record is one component: WireError."""
    check_name(record.body.name)  # type: ignore[union-attr]
    other = other_place(record)
    if other is not None:
        check_name(other[1])

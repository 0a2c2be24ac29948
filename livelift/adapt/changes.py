"""What an edit does, as data: changes of a registry hive, of a file, of a tree.

Paths of files are relative to the root of the adapted system and use "/"; a change never names a place outside of it.
Keys are paths below the hive's root, names separated by backslashes. "origin" is a place in the other system's tree or
hive (the target's, whose hardware the adapted system is to run on).

Nothing here is carried out: hives in memory are changed by ``adapt.windows.apply``, files by the room ``edits``, which
records the inverse of each change (the former content, name or absence) before it makes it.
"""

from __future__ import annotations

import msgspec


class SetValue(msgspec.Struct, frozen=True, tag_field="change", tag="set-value"):
    """``type`` and ``data``: raw, as ``registry.tree.Value`` has them."""

    hive: str
    key: str
    name: str
    type: int
    data: bytes


class RemoveValue(msgspec.Struct, frozen=True, tag_field="change", tag="remove-value"):
    hive: str
    key: str
    name: str


class MergeList(msgspec.Struct, frozen=True, tag_field="change", tag="merge-list"):
    """A REG_MULTI_SZ that becomes ``parts``, in this order."""

    hive: str
    key: str
    name: str
    parts: tuple[str, ...]


class GraftKey(msgspec.Struct, frozen=True, tag_field="change", tag="graft-key"):
    """The key with all below it becomes a copy of ``origin`` in the other hive, descriptors and timestamps included.
    What the adapted hive had there goes. ``side``: whose hive ``origin`` is in, as it was before any edit: "target" or
    "source"."""

    hive: str
    key: str
    origin: str
    side: str = "target"


class CopyValues(msgspec.Struct, frozen=True, tag_field="change", tag="copy-values"):
    """Every key below ``origin`` of the source's hive that has a value ``name``: the key of the same relative path
    below ``key`` gets that value under the name ``to``; keys that are missing are made."""

    hive: str
    key: str
    origin: str
    name: str
    to: str


class RemoveKey(msgspec.Struct, frozen=True, tag_field="change", tag="remove-key"):
    hive: str
    key: str


class CopyFile(msgspec.Struct, frozen=True, tag_field="change", tag="copy-file"):
    """``origin`` of the target's tree replaces ``path``, with all its attributes. ``size`` in bytes and ``digest`` (""
    where the caller had none) are what the plan was made for; another one at the time of copying is an error."""

    path: str
    origin: str
    size: int
    digest: str = ""


class CopyTree(msgspec.Struct, frozen=True, tag_field="change", tag="copy-tree"):
    """A directory that the adapted tree does not have, with all below it."""

    path: str
    origin: str
    files: int
    size: int


class WriteFile(msgspec.Struct, frozen=True, tag_field="change", tag="write-file"):
    """``mode``: permission bits of a new file; None keeps those of the file that is replaced (0o644 where there is
    none)."""

    path: str
    data: bytes
    mode: int | None = None


class DeleteFile(msgspec.Struct, frozen=True, tag_field="change", tag="delete-file"):
    """A file or a symbolic link; its absence is not an error."""

    path: str


class RenameFile(msgspec.Struct, frozen=True, tag_field="change", tag="rename-file"):
    """Nothing may stand at ``to``."""

    path: str
    to: str


class MakeLink(msgspec.Struct, frozen=True, tag_field="change", tag="make-link"):
    """A symbolic link with this text; replaces what stands at ``path`` unless that is a directory."""

    path: str
    text: str


class RunCommand(msgspec.Struct, frozen=True, tag_field="change", tag="run-command"):
    """A program of the adapted system, run in its root. ``writes``: every path that it may change; these are kept aside
    before it runs, which is its inverse. ``arguments`` are words, never a shell line."""

    arguments: tuple[str, ...]
    writes: tuple[str, ...]


HiveChange = SetValue | RemoveValue | MergeList | GraftKey | CopyValues | RemoveKey
FileChange = CopyFile | CopyTree | WriteFile | DeleteFile | RenameFile | MakeLink | RunCommand
Change = HiveChange | FileChange


def touches(change: Change) -> str:
    """The one place that a change is about, as an operator reads it."""
    match change:
        case SetValue() | RemoveValue() | MergeList():
            return f"{change.hive}\\{change.key} : {change.name or '(default)'}"
        case GraftKey() | CopyValues() | RemoveKey():
            return f"{change.hive}\\{change.key}"
        case RunCommand():
            return change.arguments[0]
        case _:
            return change.path

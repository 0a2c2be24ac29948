"""Carries out a Windows plan in a tree: its file changes and the merged hives, with `editor.Editor`'s journal.

NTFS keeps attributes that no portable call copies (`edits.windows_copy`). Most are copied with their object; short
names, which a rename takes away, and those of the hives, which are new, come when everything is in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from livelift.adapt.changes import CopyFile, CopyTree, DeleteFile, FileChange, RenameFile, WriteFile
from livelift.adapt.plan import Edit, Plan
from livelift.adapt.windows.system import BCD, HIVE_FILES
from livelift.checks.findings import Finding, Level
from livelift.edits.windows_copy import IS_COMPRESSED, bits_of, copy_ntfs, lost
from livelift.edits.windows_tree import WindowsTree
from livelift.errors import StoreError
from livelift.registry.compare import compare
from livelift.registry.reader import read_hive
from livelift.registry.tree import Hive
from livelift.registry.writer import write_hive


def hive_bytes(hives: dict[str, Hive]) -> dict[str, bytes]:
    """The merged hives as files, each read back and compared. StoreError: what was written does not read as it
    should."""
    found = {}
    for name, hive in hives.items():
        found[name] = write_hive(hive)
        again = read_hive(found[name])
        if again.dirty or any(True for _ in compare(hive.root, again.root, timestamps=True)):
            raise StoreError(f"the merged {name} hive does not read back as it was made", remedy="report it")
    return found


def file_plan(plan: Plan, hives: dict[str, bytes], source: WindowsTree, target: WindowsTree) -> Plan:
    """What is to be done to files: paths spelled as on the disks, the hives last but for their logs. The boot store is
    not among them: it lies on another volume."""
    changes = [(edit, edit.change) for edit in plan.edits if isinstance(edit.change, FileChange)]
    edits = [msgspec.structs.replace(edit, change=spelled(change, source, target)) for edit, change in changes]
    logs = [edit for edit in edits if edit.id.startswith("hive-logs/")]
    written = [
        Edit(f"hive/{name.lower()}", "the merged hive", WriteFile(source.spell(HIVE_FILES[name]), data))
        for name, data in hives.items()
        if name != BCD
    ]
    return Plan(plan.title, (*(edit for edit in edits if edit not in logs), *written, *logs))


def spelled(change: FileChange, source: WindowsTree, target: WindowsTree) -> FileChange:
    match change:
        case CopyFile() | CopyTree():
            path, origin = source.spell(change.path), target.spell(change.origin)
            return msgspec.structs.replace(change, path=path, origin=origin)
        case RenameFile():
            return RenameFile(source.spell(change.path), source.spell(change.to))
        case DeleteFile() | WriteFile():
            return msgspec.structs.replace(change, path=source.spell(change.path))
        case _:
            return change


def compressed(plan: Plan, target: WindowsTree) -> tuple[Finding, ...]:
    """Which files that a file plan copies are compressed: whether the copies can be is up to the mount."""
    found = []
    for edit in plan.edits:
        if isinstance(edit.change, CopyFile | CopyTree):
            top = edit.change.origin
            below = [os.path.join(here, name) for here, _, names in os.walk(target.full(top)) for name in names]
            paths = below or [target.full(top)]
            found += [path for path in paths if (bits_of(os.fsencode(path)) or 0) & IS_COMPRESSED]
    if not found:
        return ()
    names = ", ".join(os.path.relpath(path, target.root) for path in found[:20])
    diagnosis = f"{len(found)} files to copy are compressed: {names}"
    remedy = "no ntfs-3g option nocompression for the source's volume: with it the copies are not compressed"
    return (Finding("compressed-files", Level.NOTE, diagnosis, remedy),)


def copy_attributes(plan: Plan, source: WindowsTree, target: WindowsTree, kept: Callable[[str], str]) -> list[str]:
    """After the changes: the NTFS attributes of what was copied from its origin, and of a hive from the one that it
    replaces. ``kept``: where the original of a path lies, below the source's root. Lines that tell what is lost."""
    told: list[str] = []
    for edit in plan.edits:
        change = edit.change
        match change:
            case CopyFile():
                told += _finish(target.full(change.origin), source.full(change.path))
            case CopyTree():
                told += _finish_below(target.full(change.origin), source.full(change.path))
            case WriteFile() if old := kept(change.path):
                told += _finish(source.full(old), source.full(change.path))
            case _:
                pass
    return told


def _finish_below(origin: str, path: str) -> list[str]:
    told: list[str] = []
    for here, directories, files in os.walk(origin, topdown=False):
        for name in (*directories, *files):
            below = os.path.relpath(os.path.join(here, name), origin)
            told += _finish(os.path.join(origin, below), os.path.join(path, below))
    return told + _finish(origin, path)


def _finish(origin: str, path: str) -> list[str]:
    one, other = os.fsencode(origin), os.fsencode(path)
    copy_ntfs(one, other)
    return [f"{path} is not {word}, its original is" for word in lost(one, other)]

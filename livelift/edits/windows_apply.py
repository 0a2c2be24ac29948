"""Carries out a Windows plan in a tree: its file changes and the merged hives, with `linux_apply.Editor`'s journal.

NTFS keeps attributes that no portable call copies: security descriptor, DOS attributes, short name. Where the trees are
mounted by ntfs-3g they are extended attributes that a listing does not show; they are copied by name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import msgspec

from livelift.adapt.changes import CopyFile, CopyTree, DeleteFile, FileChange, RenameFile, WriteFile
from livelift.adapt.plan import Edit, Plan
from livelift.adapt.windows.system import BCD, HIVE_FILES
from livelift.edits.windows_tree import WindowsTree
from livelift.errors import StoreError
from livelift.registry.compare import compare
from livelift.registry.reader import read_hive
from livelift.registry.tree import Hive
from livelift.registry.writer import write_hive

NTFS_ATTRIBUTES = ("system.ntfs_acl", "system.ntfs_attrib_be", "system.ntfs_dos_name", "system.ntfs_times_be")
"""ntfs-3g(8), "Extended attributes". Times come last: setting the others changes them. Alternate streams are copied
with the other extended attributes, which takes the default streams_interface=xattr of the mount."""


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


def copy_attributes(plan: Plan, source: WindowsTree, target: WindowsTree, kept: Callable[[str], str]) -> int:
    """After the changes: the NTFS attributes of what was copied from its origin, and of a hive from the one that it
    replaces. ``kept``: where the original of a path lies, below the source's root. Number of files that had any."""
    found = 0
    for edit in plan.edits:
        change = edit.change
        match change:
            case CopyFile():
                found += copy_ntfs(target.full(change.origin), source.full(change.path))
            case CopyTree():
                found += _copy_below(target.full(change.origin), source.full(change.path))
            case WriteFile() if old := kept(change.path):
                found += copy_ntfs(source.full(old), source.full(change.path))
            case _:
                pass
    return found


def _copy_below(origin: str, path: str) -> int:
    found = 0
    for here, directories, files in os.walk(origin, topdown=False):
        for name in (*directories, *files):
            below = os.path.relpath(os.path.join(here, name), origin)
            found += copy_ntfs(os.path.join(origin, below), os.path.join(path, below))
    return found + copy_ntfs(origin, path)


def copy_ntfs(origin: str, path: str) -> bool:
    """Security descriptor, attributes and times of an ntfs-3g mount. False: neither has such attributes."""
    found = False
    for name in NTFS_ATTRIBUTES:
        try:
            value = os.getxattr(origin, name, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                continue
            raise
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except FileExistsError:
            pass  # a short name that another file of the directory has already; the long one is what drivers go by
        found = True
    return found

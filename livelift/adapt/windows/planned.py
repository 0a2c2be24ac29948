"""The tree as it will be once the plan's file changes are made: a listing from listings."""

from __future__ import annotations

from livelift.adapt.changes import CopyFile, CopyTree, DeleteFile, RenameFile
from livelift.adapt.plan import Plan
from livelift.adapt.windows.files import FileFact, FileView
from livelift.registry.tree import fold


def planned_tree(plan: Plan, source: FileView, target: FileView, complete: tuple[str, ...] = ("Windows",)) -> FileView:
    """What is listed as ``complete`` must be so in both listings."""
    files = {fold(file.path): file for file in source}
    for edit in plan.edits:
        match edit.change:
            case CopyFile(path, origin, size, digest):
                found = target.get(origin) or FileFact(origin, size, digest)
                files[fold(path)] = FileFact(path, found.size, found.digest, found.version)
            case CopyTree(path, origin):
                above, _, name = origin.rpartition("/")
                for file in target.subtrees(above).get(fold(name), ()):
                    here = path + file.path[len(origin) :]
                    files[fold(here)] = FileFact(here, file.size, file.digest, file.version)
            case DeleteFile(path):
                files.pop(fold(path), None)
            case RenameFile(path, to):
                moved = files.pop(fold(path), None)
                if moved is not None:
                    files[fold(to)] = FileFact(to, moved.size, moved.digest, moved.version)
            case _:
                pass
    return FileView(files.values(), complete)

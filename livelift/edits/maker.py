"""Makes one change of a plan in a staged root. How what stood there is set aside, or whether at all, is the subclass's:
`editor.Editor` keeps it for its undo; `layer.LayerEditor` works on an upper layer that can be dropped."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from livelift.adapt.changes import (
    CopyFile,
    CopyTree,
    DeleteFile,
    MakeLink,
    RenameFile,
    RunCommand,
    WriteFile,
    touches,
)
from livelift.adapt.plan import Edit
from livelift.edits.copier import Copier, by_name
from livelift.edits.place import Staged
from livelift.errors import CorruptError, StateError
from livelift.platform.linux.inside import run_inside

Progress = Callable[[str], None]
Make = Callable[[int, bytes], object]
"""Makes the new object under a name in an open directory."""


class Maker:
    """``root``: the staged root. ``origin``: the root of the target's system. ``run``: runs a program of the staged
    system in its root."""

    def __init__(
        self, root: str, origin: str, run: Callable[..., str] = run_inside, copier: Copier | None = None
    ) -> None:
        self.staged = Staged(root)
        self.origin = Staged(origin)
        self._run = run
        self._copier = copier or Copier()

    def close(self) -> None:
        self.origin.close()
        self.staged.close()

    # what a subclass decides

    def _set_aside(self, number: int, edit: Edit, path: str) -> None:
        """After it nothing stands at ``path``; the directories above it are there."""
        raise NotImplementedError

    def _put(self, number: int, edit: Edit, path: str, make: Make) -> None:
        """The new object stands at ``path``, whole or not at all; what stood there is set aside."""
        raise NotImplementedError

    def _old(self, path: str) -> tuple[int, bytes]:
        """While ``make`` runs: directory (to be closed) and name of the object that is being replaced."""
        raise NotImplementedError

    def _rename(self, number: int, edit: Edit, change: RenameFile) -> None:
        raise NotImplementedError

    def _command(self, number: int, edit: Edit, change: RunCommand) -> None:
        raise NotImplementedError

    # one change

    def make(self, number: int, edit: Edit) -> None:
        """StateError: something stands in the way. CorruptError: an origin has changed since the plan. CommandError: a
        program failed."""
        change = edit.change
        match change:
            case WriteFile():
                self._write(number, edit, change)
            case CopyFile():
                self._copy(number, edit, change)
            case CopyTree():
                self._copy_tree(number, edit, change)
            case MakeLink():
                self._put(number, edit, change.path, lambda fd, name: os.symlink(change.text, name, dir_fd=fd))
            case DeleteFile():
                if self._stands(change.path):
                    self._set_aside(number, edit, change.path)
            case RenameFile():
                self._rename(number, edit, change)
            case RunCommand():
                self._command(number, edit, change)
            case _:
                raise StateError(f"{edit.id}: {touches(change)} is no file", remedy="this plan is not for Linux")

    def _stands(self, path: str) -> bool:
        if self.staged.missing_parents(path):
            return False
        with self.staged.place(path) as place:
            return place.lstat() is not None

    def _write(self, number: int, edit: Edit, change: WriteFile) -> None:
        old: os.stat_result | None = None
        if not self.staged.missing_parents(change.path):
            with self.staged.place(change.path) as place:
                old = place.lstat()
        if old is not None and not stat.S_ISREG(old.st_mode):
            old = None
        mode = change.mode if change.mode is not None else stat.S_IMODE(old.st_mode) if old else 0o644

        def make(fd: int, name: bytes) -> None:
            new = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
            try:
                data = change.data
                while data:
                    data = data[os.write(new, data) :]
                if old is not None:
                    os.fchown(new, old.st_uid, old.st_gid)
                    self._labels(change.path, new)
                os.fchmod(new, mode)
            finally:
                os.close(new)

        self._put(number, edit, change.path, make)

    def _labels(self, path: str, new: int) -> None:
        """Extended attributes of the file that is replaced: ACL and SELinux label."""
        fd, name = self._old(path)
        try:
            old = by_name(fd, name)
            for attribute in os.listxattr(old, follow_symlinks=False):
                os.setxattr(new, attribute, os.getxattr(old, attribute, follow_symlinks=False))
        finally:
            os.close(fd)

    def _copy(self, number: int, edit: Edit, change: CopyFile) -> None:
        with self.origin.place(change.origin) as origin:
            st = origin.lstat()
            size = None if st is None else self._copier.size(st)
            if size != change.size:
                raise CorruptError(
                    f"{change.origin} of the target has {'no' if size is None else size} bytes, planned were"
                    f" {change.size}",
                    remedy="make the plan again",
                )
            self._put(
                number, edit, change.path, lambda fd, name: self._copier.copy(origin.fd, origin.name, fd, name, {})
            )
        if not change.digest:
            return
        with self.staged.place(change.path) as place:
            same = self._copier.digest(place.fd, place.name) == change.digest
        if not same:
            raise CorruptError(f"{change.origin} of the target has other content than planned", remedy="plan again")

    def _copy_tree(self, number: int, edit: Edit, change: CopyTree) -> None:
        def make(fd: int, name: bytes) -> None:
            with self.origin.place(change.origin) as origin:
                found = self._copier.copy(origin.fd, origin.name, fd, name, {})
            if (found.files, found.size) != (change.files, change.size):
                raise CorruptError(
                    f"{change.origin} of the target holds {found.files} files of {found.size} bytes, the plan says"
                    f" {change.files} of {change.size}",
                    remedy="make the plan again",
                )

        self._put(number, edit, change.path, make)

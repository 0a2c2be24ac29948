"""Makes the changes of a plan in the merged view of an overlay: nothing is kept, for dropping the upper layer is the
undo. One process at a time."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from livelift.adapt.changes import RenameFile, RunCommand
from livelift.adapt.plan import Edit, Plan
from livelift.edits.copier import remove_object
from livelift.edits.maker import Make, Maker, Progress
from livelift.edits.place import Place, clean
from livelift.errors import StateError
from livelift.platform.linux import inode_flags

NEW = b".livelift-new"


class LayerEditor(Maker):
    def apply(self, plan: Plan, progress: Progress = lambda id: None) -> int:
        """Number of edits. Errors as of `make`; the layer is then of no use any more."""
        for number, edit in enumerate(plan.edits):
            progress(edit.id)
            self.make(number, edit)
        return len(plan.edits)

    def _set_aside(self, number: int, edit: Edit, path: str) -> None:
        with self._place(edit, path) as place:
            self._remove(place, edit)

    def _put(self, number: int, edit: Edit, path: str, make: Make) -> None:
        with self._place(edit, path) as place:
            remove_object(place.fd, NEW)
            make(place.fd, NEW)
            self._barriers_off(place)
            with _told(edit, path):
                os.rename(NEW, place.name, src_dir_fd=place.fd, dst_dir_fd=place.fd)

    def _old(self, path: str) -> tuple[int, bytes]:
        with self.staged.place(path) as place:
            return os.dup(place.fd), place.name

    def _rename(self, number: int, edit: Edit, change: RenameFile) -> None:
        """A directory of the lower layer cannot be renamed without redirects (EXDEV): copied, then removed."""
        with self.staged.place(change.path) as old, self.staged.place(clean(change.to)) as new:
            if old.lstat() is None or new.lstat() is not None:
                raise StateError(f"{edit.id}: {change.path} is missing or {change.to} is taken", remedy="plan again")
            self._barriers_off(old)
            try:
                os.rename(old.name, new.name, src_dir_fd=old.fd, dst_dir_fd=new.fd)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                remove_object(new.fd, NEW)
                self._copier.copy(old.fd, old.name, new.fd, NEW, {})
                os.rename(NEW, new.name, src_dir_fd=new.fd, dst_dir_fd=new.fd)
                remove_object(old.fd, old.name)

    def _command(self, number: int, edit: Edit, change: RunCommand) -> None:
        self._run(self.staged.fd, change.arguments)

    @contextmanager
    def _place(self, edit: Edit, path: str) -> Iterator[Place]:
        """The name, with the directories above it. StateError: a directory stands there."""
        for parent in self.staged.missing_parents(path):
            self.staged.make_directory(parent)
        with self.staged.place(path) as place:
            st = place.lstat()
            if st is not None and stat.S_ISDIR(st.st_mode):
                raise StateError(
                    f"{edit.id}: a directory stands at {path}", remedy="look at it; skip the edit by a rule"
                )
            yield place

    def _remove(self, place: Place, edit: Edit) -> None:
        if place.lstat() is not None:
            self._barriers_off(place)
            with _told(edit, os.fsdecode(place.name)):
                os.unlink(place.name, dir_fd=place.fd)

    @staticmethod
    def _barriers_off(place: Place) -> None:
        """A file that nobody may change (chattr +i, +a) is exchanged all the same: it is the plan's."""
        st = place.lstat()
        if st is None or not stat.S_ISREG(st.st_mode):
            return
        fd = os.open(place.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place.fd)
        try:
            inode_flags.lift_barriers(fd)
        finally:
            os.close(fd)


@contextmanager
def _told(edit: Edit, path: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise StateError(
            f"{edit.id}: {path} of the staged tree cannot be changed: {error.strerror}",
            remedy=f"on the source: lsattr {path}, chattr -i -a it or its directory; or skip the edit by a rule",
        ) from error

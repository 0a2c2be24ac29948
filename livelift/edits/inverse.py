"""Takes a journalled step back: as often as a crash wants it, with the same result."""

from __future__ import annotations

import os
from collections.abc import Iterable

from livelift.edits.copier import remove_object
from livelift.edits.journal import Begun, Journal, Undone
from livelift.edits.place import KEEP, TIMES, Place, Staged, move


def take_back(staged: Staged, journal: Journal, step: Begun) -> None:
    """If the keep has no original, it never went there or is back already."""
    if not staged.missing_parents(step.path):
        with staged.place(step.path) as place:
            _restore(staged, step, place)
            if step.short and place.lstat() is not None:
                place.give_short_name(step.short)
            _set_times(place.fd, step if not step.parents else None)
    for parent in reversed(step.parents):
        if staged.missing_parents(parent):
            continue
        with staged.place(parent) as place:
            try:
                os.rmdir(place.name, dir_fd=place.fd)
            except FileNotFoundError:
                pass
            _set_times(place.fd, step if parent == step.parents[0] else None)
    journal.append(Undone(step.path))


def _set_times(fd: int, step: Begun | None) -> None:
    if step is not None and step.times != (0, 0):
        os.utime(fd, ns=step.times)


def _restore(staged: Staged, step: Begun, place: Place) -> None:
    if step.before == "absent":
        remove_object(place.fd, place.name)
        os.fsync(place.fd)
    elif step.before == "renamed":
        with staged.place(step.kept) as moved:
            if moved.lstat() is not None and place.lstat() is None:
                move(moved.fd, moved.name, place.fd, place.name)
    else:
        keep = place.keep()
        try:
            os.stat(step.kept, dir_fd=keep, follow_symlinks=False)
            remove_object(place.fd, place.name)
            move(keep, step.kept.encode(), place.fd, place.name)
        except FileNotFoundError:
            pass
        finally:
            os.close(keep)


def drop_keeps(staged: Staged, paths: Iterable[str]) -> None:
    """Once all steps are taken back the keeps hold nothing but a cut-off new object. OSError ENOTEMPTY: an original is
    still there, which must not happen."""
    for path in paths:
        parts = path.split("/")
        while staged.missing_parents("/".join(parts)):
            parts.pop()
        with staged.place("/".join(parts)) as place:
            try:
                keep = os.open(KEEP, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.top)
            except FileNotFoundError:
                continue
            try:
                remove_object(keep, b"new")
                try:
                    st = os.stat(TIMES, dir_fd=keep)
                except FileNotFoundError:
                    st = os.fstat(place.top)
                remove_object(keep, TIMES)
            finally:
                os.close(keep)
            os.rmdir(KEEP, dir_fd=place.top)
            os.utime(place.top, ns=(st.st_atime_ns, st.st_mtime_ns))

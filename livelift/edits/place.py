"""Places in a staged root: every path is resolved inside of it, and what is replaced goes to a keep beside it."""

from __future__ import annotations

import errno
import logging
import os
from types import TracebackType
from typing import Final

from livelift.errors import UsageError
from livelift.platform.linux import files
from livelift.platform.linux.confine import open_in_root
from livelift.platform.linux.xattrs import get_whole

log = logging.getLogger(__name__)

KEEP: Final = b".livelift-kept"
"""Directory at the top of each file system of the staged tree: originals, each of which goes back as the same inode."""
SHORT_NAME: Final = b"system.ntfs_dos_name"
TIMES: Final = b"times"
"""Empty file in the keep: it has the times that the top had before the keep was made."""


class Place:
    """A name in an open directory. ``top``: the highest directory of the staged tree on the same file system."""

    def __init__(self, fd: int, name: bytes, top: int) -> None:
        self.fd = fd
        self.name = name
        self.top = top

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)
        os.close(self.top)

    def lstat(self) -> os.stat_result | None:
        try:
            return os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def short_name(self) -> str:
        """The 8.3 name on an NTFS volume under ntfs-3g; empty where there is none."""
        return (get_whole(b"/proc/self/fd/%d/%s" % (self.fd, self.name), SHORT_NAME) or b"").decode()

    def give_short_name(self, short: str) -> None:
        """Unless another file of the directory has it by now: the long name is what counts."""
        try:
            os.setxattr(
                b"/proc/self/fd/%d/%s" % (self.fd, self.name), SHORT_NAME, short.encode(), follow_symlinks=False
            )
        except FileExistsError:
            log.warning("%r: another file has its short name %s", self.name, short)

    def keep(self) -> int:
        """The keep of this file system, made if it is missing; to be closed."""
        before, new = os.fstat(self.top), False
        try:
            os.mkdir(KEEP, 0o700, dir_fd=self.top)
            new = True
        except FileExistsError:
            pass
        keep = os.open(KEEP, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.top)
        if new:
            os.close(os.open(TIMES, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=keep))
            os.utime(TIMES, ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=keep)
            os.fsync(keep)
            os.fsync(self.top)
        return keep


class Staged:
    """A staged root, with its other file systems mounted in it as they will be. Nothing outside is ever touched."""

    def __init__(self, root: str) -> None:
        if not os.path.isdir(root):
            raise UsageError(f"{root} is not a directory", remedy="name the staged root")
        self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        return open_in_root(self.fd, os.fsencode(path), flags)

    def missing_parents(self, path: str) -> list[str]:
        """Directories above ``path`` that do not exist, outermost first."""
        parts = clean(path).split("/")[:-1]
        for count in range(len(parts) + 1):
            try:
                os.close(self.open("/".join(parts[:count]) or ".", os.O_PATH | os.O_DIRECTORY))
            except FileNotFoundError:
                return ["/".join(parts[: n + 1]) for n in range(count - 1, len(parts))]
        return []

    def make_directory(self, path: str) -> None:
        with self.place(path) as place:
            try:
                os.mkdir(place.name, 0o755, dir_fd=place.fd)
            except FileExistsError:
                return
            os.fsync(place.fd)

    def place(self, path: str) -> Place:
        """FileNotFoundError: a directory above is missing. UsageError: the path names no file inside of the root."""
        parts = clean(path).split("/")
        fd = self.open("/".join(parts[:-1]) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            return Place(fd, os.fsencode(parts[-1]), self._top(fd))
        except BaseException:
            os.close(fd)
            raise

    def _top(self, fd: int) -> int:
        """Up from the directory (after its symlinks) while the file system stays the same, not beyond the root."""
        root, here = os.fstat(self.fd), os.dup(fd)
        while True:
            now = os.fstat(here)
            if (now.st_dev, now.st_ino) == (root.st_dev, root.st_ino):
                return here
            above = os.open(b"..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
            if os.fstat(above).st_dev != now.st_dev:
                os.close(above)
                return here
            os.close(here)
            here = above


def clean(path: str) -> str:
    """UsageError for a path that is empty, absolute, or has "." or ".." in it: plans name places in the root."""
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"{path!r} is no path relative to the root", remedy="correct the plan or the rules file")
    return path


def move(from_fd: int, name: bytes, to_fd: int, to: bytes) -> None:
    """Onto a free name, durable on return. OSError EEXIST: it is taken."""
    try:
        files.renameat2(from_fd, name, to_fd, to, files.RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
        try:
            os.stat(to, dir_fd=to_fd, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, to, src_dir_fd=from_fd, dst_dir_fd=to_fd)
        else:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), to) from error
    os.fsync(to_fd)
    os.fsync(from_fd)

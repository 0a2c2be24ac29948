"""Copies of files and trees with all that belongs to them: owner, mode, times, xattrs (ACL, capability, label)."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from blake3 import blake3

from livelift.errors import StoreError
from livelift.platform.linux import inode_flags

PIECE = 8 << 20

Links = dict[tuple[int, int], bytes]
"""(st_dev, st_ino) to the path of the first copy."""


class Sum(NamedTuple):
    """What was copied: number of files and links, bytes of regular files."""

    files: int
    size: int


class Copier:
    """Copies by the calls that every file system knows. What a file system keeps in another way is a subclass's."""

    def ready(self, keep: int) -> None:
        """Before an object is made in the directory ``keep``."""

    def copy(self, from_fd: int, name: bytes, to_fd: int, to: bytes, links: Links) -> Sum:
        """A file, link, special file or whole tree, by its name in a directory. ``to`` must not exist.

        Mounts in the tree are not entered. ``links``: inode to path below ``to_fd`` of hard-linked files, filled here.
        The content is synced by the caller (syncfs), once for all. StoreError for a socket, which has no content to
        copy.
        """
        st = os.stat(name, dir_fd=from_fd, follow_symlinks=False)
        kind = stat.S_IFMT(st.st_mode)
        if kind == stat.S_IFDIR:
            return self._directory(from_fd, name, to_fd, to, links, st)
        key = (st.st_dev, st.st_ino)
        if st.st_nlink > 1 and key in links:
            os.link(links[key], to, src_dir_fd=to_fd, dst_dir_fd=to_fd, follow_symlinks=False)
            return Sum(1, st.st_size if kind == stat.S_IFREG else 0)
        if kind == stat.S_IFLNK:
            self.link(from_fd, name, to_fd, to)
        elif kind == stat.S_IFREG:
            self.content(from_fd, name, to_fd, to)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO):
            os.mknod(to, kind | 0o600, st.st_rdev, dir_fd=to_fd)
        else:
            raise StoreError(f"{os.fsdecode(name)} is a socket", remedy="remove it: its program makes it again")
        self.attributes(from_fd, name, to_fd, to, st)
        if st.st_nlink > 1:
            links[key] = to
        return Sum(1, st.st_size if kind == stat.S_IFREG else 0)

    def _directory(self, from_fd: int, name: bytes, to_fd: int, to: bytes, links: Links, st: os.stat_result) -> Sum:
        os.mkdir(to, 0o700, dir_fd=to_fd)
        files = size = 0
        here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=from_fd)
        try:
            for entry in sorted(os.listdir(here)):
                child = os.fsencode(entry)
                below = os.stat(child, dir_fd=here, follow_symlinks=False)
                if stat.S_ISDIR(below.st_mode) and below.st_dev != st.st_dev:  # an overlay's file may have another one
                    continue
                done = self.copy(here, child, to_fd, to + b"/" + child, links)
                files, size = files + done.files, size + done.size
        finally:
            os.close(here)
        self.attributes(from_fd, name, to_fd, to, st)
        return Sum(files, size)

    def link(self, from_fd: int, name: bytes, to_fd: int, to: bytes) -> None:
        os.symlink(os.readlink(name, dir_fd=from_fd), to, dir_fd=to_fd)

    def content(self, from_fd: int, name: bytes, to_fd: int, to: bytes) -> None:
        """Holes stay holes as far as copy_file_range(2) keeps them; where it cannot copy, by reading and writing."""
        old = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=from_fd)
        try:
            new = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=to_fd)
            try:
                self.fill(old, new)
            finally:
                os.close(new)
        finally:
            os.close(old)

    def fill(self, old: int, new: int) -> None:
        """All bytes of an open file into a new, empty one."""
        direct = True
        while True:
            if direct:
                try:
                    if not os.copy_file_range(old, new, PIECE):
                        return
                    continue
                except OSError as error:
                    if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                        raise
                    direct = False
            piece = os.read(old, PIECE)
            if not piece:
                return
            while piece:
                piece = piece[os.write(new, piece) :]

    def attributes(self, from_fd: int, name: bytes, to_fd: int, to: bytes, st: os.stat_result) -> None:
        """Owner first, for changing it drops set-user-ID and capabilities; times last."""
        old, new = by_name(from_fd, name), by_name(to_fd, to)
        os.chown(to, st.st_uid, st.st_gid, dir_fd=to_fd, follow_symlinks=False)
        if not stat.S_ISLNK(st.st_mode):
            os.chmod(new, stat.S_IMODE(st.st_mode))
        for attribute in os.listxattr(old, follow_symlinks=False):
            value = os.getxattr(old, attribute, follow_symlinks=False)
            os.setxattr(new, attribute, value, follow_symlinks=False)
        os.utime(to, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=to_fd, follow_symlinks=False)

    def size(self, st: os.stat_result) -> int:
        """Bytes of an object as plans tell it."""
        return st.st_size

    def digest(self, fd: int, name: bytes) -> str:
        """BLAKE3 of the content of a regular file, in hex, or of what a link says."""
        found = blake3()
        if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            return str(found.update(os.fsencode(os.readlink(name, dir_fd=fd))).hexdigest())
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            while piece := os.read(file, 1 << 20):
                found.update(piece)
        finally:
            os.close(file)
        return str(found.hexdigest())


def by_name(fd: int, name: bytes) -> bytes:
    """A path for calls that take no descriptor of a directory."""
    return b"/proc/self/fd/%d/%s" % (fd, name)


def remove_object(fd: int, name: bytes) -> None:
    """A file or a whole tree; its absence is not an error. Mounts are not entered: EBUSY."""
    try:
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(st.st_mode):
        os.unlink(name, dir_fd=fd)
        return
    here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        if os.fstat(here).st_dev != os.fstat(fd).st_dev:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
        for entry in os.listdir(here):
            remove_object(here, os.fsencode(entry))
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=fd)


def delete_at(fd: int, name: bytes) -> None:
    """As `remove_object`, also what is immutable or append-only."""
    try:
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(st.st_mode):
        here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            inode_flags.lift_barriers(here)
            if os.fstat(here).st_dev != os.fstat(fd).st_dev:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
            for entry in os.listdir(here):
                delete_at(here, os.fsencode(entry))
        finally:
            os.close(here)
        os.rmdir(name, dir_fd=fd)
        return
    if stat.S_ISREG(st.st_mode):
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        try:
            inode_flags.lift_barriers(file)
        finally:
            os.close(file)
    os.unlink(name, dir_fd=fd)

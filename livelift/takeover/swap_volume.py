"""One file system of a swap: the names at its top, and the renames that bring each to where it belongs.

    MOUNT/NAME                    the live place
    MOUNT/.livelift/new/NAME      the staged place
    MOUNT/.livelift/swap/         journal, and the middle place for kernels without RENAME_EXCHANGE (before Linux 3.15)

A step looks where an entry's two inodes are and makes the next rename. So it does not matter how often, from where or
in which direction it was interrupted.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from livelift.errors import CorruptError, StateError
from livelift.facts.mountinfo import parse_mountinfo
from livelift.platform.linux import files, inode_flags
from livelift.takeover import top_directory
from livelift.takeover.swap_journal import (
    Entry,
    Journal,
    Object,
    parse_journal,
    read_whole,
    render_journal,
    write_durably,
)

BASE: Final = ".livelift"
JOURNAL: Final = "journal"
STAY: Final = frozenset((b".livelift", b".livelift-kept", b"lost+found"))
"""At the top of every file system."""
STAY_IN_ROOT: Final = frozenset((b"proc", b"sys", b"dev", b"run"))
"""Mount points of what the kernel makes: in the live place they are busy, in the staged place they are empty."""
_NO_EXCHANGE: Final = (errno.ENOSYS, errno.EINVAL)
_FOREIGN = "put it aside by hand, then try again"


class Volume:
    """``path``: where the file system is mounted now. ``is_root``: it is the system's root. ``exchange``: whether
    renameat2(2) may be tried; False for tests of the way without."""

    def __init__(self, path: str, is_root: bool, exchange: bool = True) -> None:
        self.path = path
        self._exchange = exchange
        self._stay = STAY | STAY_IN_ROOT if is_root else STAY
        opened: list[int] = []
        try:
            for name in (path, f"{path}/{BASE}/new"):
                opened.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
            self.live, self.staged = opened
            if os.fstat(self.live).st_dev != os.fstat(self.staged).st_dev:
                raise StateError(f"{path}/{BASE}/new lies on another file system", remedy="stage beside the live tree")
            opened.append(self._directory("swap", self.live))
            self.own = opened[-1]
            opened.append(self._directory("middle", self.own))
            self.middle = opened[-1]
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise

    @staticmethod
    def _directory(name: str, parent: int) -> int:
        place = f"{BASE}/{name}" if name == "swap" else name
        try:
            os.mkdir(place, 0o700, dir_fd=parent)
            os.fsync(parent)
        except FileExistsError:
            pass
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)

    def close(self) -> None:
        for fd in (self.middle, self.own, self.staged, self.live):
            os.close(fd)

    # the journal

    def write(self, generation: int) -> None:
        """A journal of both places as they are now. StateError: the middle place is not empty (an unfinished swap), or
        an entry is a btrfs subvolume, whose inode number says nothing."""
        if self._names(self.middle):
            raise StateError(f"{self.path}: an unfinished swap", remedy="finish it or take it back first")
        mounted = self._mounted()
        names = (self._names(self.live) | self._names(self.staged)) - self._stay - mounted
        entries = [
            Entry(name, self._object(self.live, name), self._object(self.staged, name)) for name in sorted(names)
        ]
        journal = Journal(generation, top_directory.look(self.live), top_directory.look(self.staged), entries)
        write_durably(self.own, JOURNAL, render_journal(journal))

    def read(self, generation: int) -> Journal:
        raw = read_whole(self.own, JOURNAL)
        if raw is None:
            raise CorruptError(f"{self.path}: the swap's journal is missing", remedy="look at both trees by hand")
        journal = parse_journal(raw)
        if journal.generation != generation:
            raise CorruptError(
                f"{self.path}: the journal is of swap {journal.generation}, the state of {generation}",
                remedy="look by hand",
            )
        return journal

    def _mounted(self) -> frozenset[bytes]:
        """Names in the live place that something is mounted on: they cannot be renamed (EBUSY), and what is below is
        another file system with a swap of its own."""
        top = os.fsencode(os.path.realpath(self.path)).rstrip(b"/") + b"/"
        with open("/proc/self/mountinfo", "rb") as file:
            points = [mount.mountpoint for mount in parse_mountinfo(file.read())]
        return frozenset(p[len(top) :] for p in points if p.startswith(top) and b"/" not in p[len(top) :])

    @staticmethod
    def _names(fd: int) -> set[bytes]:
        """By a descriptor of its own: on btrfs one that was opened earlier does not list what has come since."""
        fresh = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        try:
            return {os.fsencode(name) for name in os.listdir(fresh)}
        finally:
            os.close(fresh)

    def _object(self, fd: int, name: bytes) -> Object:
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return Object()
        if st.st_dev != os.fstat(fd).st_dev:
            raise StateError(
                f"{self.path}: {os.fsdecode(name)} is a btrfs subvolume or a mount that was not seen",
                remedy="move its content into a plain directory, or mount it by a line of fstab",
            )
        kinds = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l"}
        kind = kinds.get(stat.S_IFMT(st.st_mode), "o")
        flags = self._barriers(fd, name) if kind in "df" else 0
        return Object(st.st_ino, kind, flags, st.st_mtime_ns if kind == "d" else 0)

    def _barriers(self, fd: int, name: bytes) -> int:
        there = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        try:
            return inode_flags.get_flags(there) & inode_flags.BARRIERS
        finally:
            os.close(there)

    # the renames

    def settle(self, journal: Journal, forward: bool) -> None:
        """All entries to where ``forward`` says, and the top directories like it; durable on return.
        CorruptError names every entry at which something else was found; all others have been settled."""
        foreign = []
        for entry in journal.entries:
            live, staged = (entry.staged, entry.live) if forward else (entry.live, entry.staged)
            try:
                self._settle(entry.name, live, staged)
            except CorruptError as error:
                foreign.append(str(error.args[0]))
        for entry in journal.entries:
            for object in (entry.live, entry.staged):
                if object.flags or object.kind == "d":
                    self._restore(entry.name, object)
        tops = (journal.staged, journal.live) if forward else (journal.live, journal.staged)
        for fd, top in zip((self.live, self.staged), tops, strict=True):
            top_directory.make_equal(fd, top)
        files.syncfs(self.live)
        if foreign:
            raise CorruptError("; ".join(foreign), remedy=_FOREIGN)

    def _settle(self, name: bytes, live: Object, staged: Object) -> None:
        """``live`` and ``staged``: what is to stand there in the end. Each turn makes one rename."""
        for _ in range(8):
            at_live, at_staged, at_middle = (self._inode(fd, name) for fd in (self.live, self.staged, self.middle))
            here = (at_live, at_staged, at_middle)
            if here == (live.inode, staged.inode, 0):
                return
            if not {at_live, at_staged, at_middle} <= {live.inode, staged.inode, 0}:
                break
            if at_middle:
                if (at_live, at_middle) == (0, live.inode):
                    self._move(self.middle, self.live, name)
                elif (at_live, at_staged, at_middle) == (0, live.inode, staged.inode):
                    self._move(self.staged, self.live, name)
                elif (at_live, at_staged, at_middle) == (live.inode, 0, staged.inode):
                    self._move(self.middle, self.staged, name)
                elif (at_live, at_staged, at_middle) == (staged.inode, 0, live.inode):
                    self._move(self.live, self.staged, name)
                else:
                    break
            elif at_live == staged.inode and at_staged == live.inode and at_live and at_staged:
                self._exchange_names(name)
            elif at_live and not at_staged and at_live == staged.inode:
                self._move(self.live, self.staged, name)
            elif at_staged and not at_live and at_staged == live.inode:
                self._move(self.staged, self.live, name)
            else:
                break
        raise CorruptError(
            f"{self.path}: {os.fsdecode(name)} is not what the journal knows (inode {at_live} live, {at_staged} staged,"
            f" {at_middle} between; known are {live.inode} and {staged.inode})",
            remedy=_FOREIGN,
        )

    @staticmethod
    def _inode(fd: int, name: bytes) -> int:
        try:
            return os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino
        except FileNotFoundError:
            return 0

    def _exchange_names(self, name: bytes) -> None:
        self._lift_flags(self.live, name)
        self._lift_flags(self.staged, name)
        if self._exchange:
            try:
                files.renameat2(self.live, name, self.staged, name, files.RENAME_EXCHANGE)
                return
            except OSError as error:
                if error.errno not in _NO_EXCHANGE:
                    raise
                self._exchange = False
        self._move(self.live, self.middle, name)

    def _move(self, from_fd: int, to_fd: int, name: bytes) -> None:
        """The free place was looked at a moment ago, and nothing else runs on these directories."""
        self._lift_flags(from_fd, name)
        os.rename(name, name, src_dir_fd=from_fd, dst_dir_fd=to_fd)

    def _lift_flags(self, fd: int, name: bytes) -> None:
        """An immutable or append-only object cannot be renamed (EPERM). The journal remembers the flags."""
        self._set_flags(fd, name, 0)

    def _restore(self, name: bytes, object: Object) -> None:
        for fd in (self.live, self.staged):
            if self._inode(fd, name) == object.inode:
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if object.kind == "d" and st.st_mtime_ns != object.mtime:
                    self._set_flags(fd, name, 0)
                    os.utime(name, ns=(st.st_atime_ns, object.mtime), dir_fd=fd, follow_symlinks=False)
                self._set_flags(fd, name, object.flags)

    @staticmethod
    def _set_flags(fd: int, name: bytes, barriers: int) -> None:
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not (stat.S_ISDIR(st.st_mode) or stat.S_ISREG(st.st_mode)):
            return
        there = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        try:
            now = inode_flags.get_flags(there)
            if now & inode_flags.BARRIERS != barriers:
                inode_flags.set_flags(there, now & ~inode_flags.BARRIERS | barriers)
        finally:
            os.close(there)

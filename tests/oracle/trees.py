"""A tree with everything in it that copy programs are known to get wrong, from one seed."""

from __future__ import annotations

import errno
import os
import random
import socket
import stat
import sys
from collections import Counter
from pathlib import Path

from tests.oracle import syscalls

DEEP = b"beyond-path-max"
"""Holds the path longer than PATH_MAX: rsync cannot see into it, so its verdict leaves it out."""
HUGE = b"holes/sparse"
"""Three gibibytes, nearly all of them a hole."""

sys.setrecursionlimit(max(sys.getrecursionlimit(), 20_000))
"""The judges go down a tree by recursion, and stress-ng's dirdeep may leave one of more than a thousand directories in
each other. From Python 3.11 on such calls take no C stack."""

_NAMES = (
    b"plain",
    b"with space",
    b" leading",
    b"trailing ",
    b"new\nline",
    b"tab\there",
    b"\xff\xfe not utf-8",
    b"\xc3\xa9\xe2\x82\xac",
    b"e\xcc\x81 decomposed",
    b"-rf",
    b"*?[glob]",
    b"quote'\"`$(x)",
    b"back\\slash",
    b"\x01\x7f control",
    b"n" * 255,
    b"\xf0" * 255,
    b"~",
    b"...",
    b".hidden",
    b"#backup#",
    b"colon:name",
    b"%41",
    b"\\#012",
)

_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOSPC}


class _Builder:
    def __init__(self, root: bytes, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.is_root = os.geteuid() == 0
        self.skipped: Counter[str] = Counter()

    def at(self, name: bytes) -> bytes:
        return self.root + b"/" + name

    def file(self, name: bytes, content: bytes, mode: int = 0o644) -> bytes:
        path = self.at(name)
        fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode)
        try:
            while content:
                content = content[os.write(fd, content) :]
        finally:
            os.close(fd)
        return path

    def attempt(self, what: str, function, *arguments, **keywords) -> bool:  # type: ignore[no-untyped-def]
        """Not every file system has everything: what this one refuses is counted, any other error is one."""
        try:
            function(*arguments, **keywords)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self.skipped[what] += 1
            return False
        return True

    # The steps, in the order in which they must happen: content, owners, modes, xattrs, times, flags.

    def names(self) -> None:
        for parent in (b"names", b"names/" + b"d" * 255):
            os.mkdir(self.at(parent))
            for name in _NAMES:
                self.file(parent + b"/" + name, name * 3)
        for count, size in enumerate((0, 1, 4095, 4096, 4097, 65536, 131073, 1 << 20)):
            self.file(b"names/size-%d" % count, self.random.randbytes(size))

    def directories(self) -> None:
        for name in (
            b"empty",
            b"empty/er",
            b"dirs",
            b"dirs/a",
            b"dirs/a/b",
            b"dirs/a/b/c",
            b"dirs/sticky",
            b"dirs/setgid",
        ):
            os.mkdir(self.at(name))
        os.chmod(self.at(b"dirs/sticky"), 0o1777)
        os.chmod(self.at(b"dirs/setgid"), 0o2755)
        os.mkdir(self.at(b"dirs/many"))
        for number in range(600):  # more than one block of names: an indexed directory
            self.file(b"dirs/many/%05d-%s" % (number, b"x" * (number % 40)), b"%d" % number)

    def deep(self) -> None:
        """20 levels of 250 bytes: 5,000 bytes, beyond PATH_MAX (4096). Only relative calls get there."""
        os.mkdir(self.at(DEEP))
        fd = os.open(self.at(DEEP), os.O_RDONLY | os.O_DIRECTORY)
        try:
            for level in range(20):
                name = b"%02d" % level + b"v" * 248
                os.mkdir(name, dir_fd=fd)
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            leaf = os.open(b"leaf", os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=fd)
            os.write(leaf, b"at the bottom")
            os.close(leaf)
            os.symlink(b"leaf", b"link", dir_fd=fd)
            os.link(b"leaf", b"hard", src_dir_fd=fd, dst_dir_fd=fd)
            os.utime(b"leaf", ns=(10**9, 123_456_789), dir_fd=fd)
        finally:
            os.close(fd)

    def links(self) -> None:
        os.mkdir(self.at(b"links"))
        os.mkdir(self.at(b"links/other"))
        first = self.file(b"links/first", b"shared content")
        os.link(first, self.at(b"links/second"))
        os.link(first, self.at(b"links/other/third"))
        os.link(first, self.at(b"dirs/a/b/fourth"))
        os.symlink(b"first", self.at(b"links/sym"))
        os.link(self.at(b"links/sym"), self.at(b"links/sym-hard"), follow_symlinks=False)
        os.symlink(b"/nowhere/at/all", self.at(b"links/dangling"))
        os.symlink(b"../links", self.at(b"links/loop"))
        os.symlink(b"t" * 1000, self.at(b"links/long"))  # not inline; XFS allows 1,023, ext4 a block
        os.symlink(b"\xff\n", self.at(b"links/strange-target"))

    def special(self) -> None:
        os.mkdir(self.at(b"special"))
        os.mkfifo(self.at(b"special/fifo"), 0o620)
        with socket.socket(socket.AF_UNIX) as listener:
            # bind(2) takes at most 108 bytes: go through the directory's descriptor
            fd = os.open(self.at(b"special"), os.O_RDONLY | os.O_DIRECTORY)
            try:
                listener.bind(b"/proc/self/fd/%d/socket" % fd)
            finally:
                os.close(fd)
        if self.is_root:
            os.mknod(self.at(b"special/null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
            os.mknod(self.at(b"special/disk"), stat.S_IFBLK | 0o660, os.makedev(259, 300))
            os.mknod(self.at(b"special/whiteout"), stat.S_IFCHR | 0o000, os.makedev(0, 0))  # as overlayfs leaves
            os.link(self.at(b"special/null"), self.at(b"special/null-hard"))
        else:
            self.skipped["device nodes"] += 1

    def holes(self) -> None:
        os.mkdir(self.at(b"holes"))
        sparse = self.file(HUGE, b"")
        with open(sparse, "r+b") as file:
            for offset in (0, 1 << 20, (5 << 20) + 123, 3 << 30):
                file.seek(offset)
                file.write(self.random.randbytes(5000))
        os.truncate(self.file(b"holes/only-hole", b""), 64 << 20)
        self.file(b"holes/written-zeros", bytes(1 << 20))
        for name, mode, length in ((b"allocated", 0, 1 << 20), (b"beyond-the-end", syscalls.FALLOC_KEEP_SIZE, 1 << 20)):
            with open(self.file(b"holes/" + name, b"head"), "r+b") as file:
                self.attempt("fallocate", syscalls.fallocate, file.fileno(), mode, 0, length)
        with open(self.file(b"holes/punched", self.random.randbytes(1 << 20)), "r+b") as file:
            mode = syscalls.FALLOC_PUNCH | syscalls.FALLOC_KEEP_SIZE
            self.attempt("punch", syscalls.fallocate, file.fileno(), mode, 100_000, 500_000)
        with open(self.file(b"holes/cloned", b""), "r+b") as file, open(self.at(b"holes/punched"), "rb") as other:
            self.attempt("reflink", syscalls.clone_range, file.fileno(), 0, other.fileno(), 0, 1 << 20)

    def owners_and_modes(self) -> None:
        os.mkdir(self.at(b"modes"))
        for mode in (0o000, 0o400, 0o777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777):
            path = self.file(b"modes/%04o" % mode, b"%o" % mode)
            if self.is_root:
                os.chown(
                    path,
                    self.random.choice((0, 1000, 65534, 4_000_000_000)),
                    self.random.choice((0, 33, 3_999_999_999)),
                )
            os.chmod(path, mode)  # after chown, which clears setuid (chown(2))
        if self.is_root:
            os.chown(self.at(b"links/sym"), 12, 34, follow_symlinks=False)
            os.chown(self.at(b"dirs/a"), 65534, 1000)
        os.chmod(self.at(b"dirs/a/b"), 0o711)

    def xattrs(self) -> None:
        os.mkdir(self.at(b"xattrs"))
        values = [
            (b"user.empty", b""),
            (b"user.binary", bytes(range(256))),
            (b"user.new\nline \xff", b"v"),
            (b"user.big", b"b" * 700),
        ]
        if self.is_root:
            values += [(b"trusted.overlay.opaque", b"y"), (b"security.custom", b"label\0")]
        for name in (b"file", b"other"):
            path = self.file(b"xattrs/" + name, b"x")
            for key, value in values:
                self.attempt(f"xattr {key!r}", os.setxattr, path, key, value)
        os.mkdir(self.at(b"xattrs/dir"))
        self.attempt("xattr on dir", os.setxattr, self.at(b"xattrs/dir"), b"user.dir", b"1")
        access, default = b"system.posix_acl_access", b"system.posix_acl_default"
        self.attempt("acl", os.setxattr, self.at(b"xattrs/file"), access, syscalls.acl(0o640, user=1234, permissions=5))
        self.attempt("acl", os.setxattr, self.at(b"xattrs/dir"), default, syscalls.acl(0o750, user=4321, permissions=7))
        self.attempt("acl", lambda: self.file(b"xattrs/dir/inherits", b"acl"))
        if self.is_root:
            os.symlink(b"nowhere", self.at(b"xattrs/symlink"))
            path = self.at(b"xattrs/symlink")
            self.attempt("xattr on symlink", os.setxattr, path, b"trusted.on-link", b"1", follow_symlinks=False)
            os.mkfifo(self.at(b"xattrs/fifo"))
            self.attempt("xattr on fifo", os.setxattr, self.at(b"xattrs/fifo"), b"trusted.on-fifo", b"1")
            path = self.file(b"xattrs/cap-net", b"#!/bin/true", 0o755)
            self.attempt(
                "capability", os.setxattr, path, b"security.capability", syscalls.capability(1 << 13 | 1 << 38)
            )

    def times(self) -> None:
        os.mkdir(self.at(b"times"))
        moments = (-(2**31) + 5, -1, 0, 1, 86_400, 1_700_000_000, 2**31 + 7, 2**32 + 9)  # 1901 .. 2106
        for moment in moments:
            path = self.file(b"times/at%+d" % moment, b"t")
            os.utime(path, ns=(moment * 10**9, moment * 10**9 + self.random.randrange(10**9)))
        os.symlink(b"x", self.at(b"times/symlink"))
        os.utime(self.at(b"times/symlink"), ns=(5, 1_234_567_891), follow_symlinks=False)
        os.utime(self.at(b"special/fifo"), ns=(7, 987_654_321_987_654_321))
        for name in (b"dirs/a/b/c", b"dirs/a/b", b"empty", b"times", b"links/other"):
            os.utime(self.at(name), ns=(11, self.random.randrange(10**18)))

    def flags(self) -> None:
        os.mkdir(self.at(b"flags"))
        wanted = {b"nodump": syscalls.FLAG_NODUMP, b"noatime": syscalls.FLAG_NOATIME, b"sync": syscalls.FLAG_SYNC}
        for name in wanted:
            self.file(b"flags/" + name, name)
        if self.is_root:
            for name in (b"immutable", b"append", b"both"):
                self.file(b"flags/" + name, name)
            os.mkdir(self.at(b"flags/locked-dir"))
            self.file(b"flags/locked-dir/inside", b"cannot be moved")
            os.link(self.at(b"flags/immutable"), self.at(b"flags/immutable-hard"))
            wanted |= {
                b"immutable": syscalls.FLAG_IMMUTABLE,
                b"append": syscalls.FLAG_APPEND,
                b"locked-dir": syscalls.FLAG_IMMUTABLE,
            }
            wanted[b"both"] = syscalls.FLAG_IMMUTABLE | syscalls.FLAG_APPEND | syscalls.FLAG_NODUMP
        os.utime(self.at(b"flags"), ns=(1, 2_000_000_000_123_456_789))
        for name, flags in wanted.items():
            self.attempt(f"flag {name.decode()}", syscalls.change_flags, self.at(b"flags/" + name), add=flags)


def build_nasty_tree(directory: bytes | str | Path, seed: int = 0) -> Counter[str]:
    """Fill an existing, empty directory; the same seed gives the same tree.

    Returns what this file system or this user (not root: no devices, owners, trusted xattrs, immutable flags) refused,
    counted by kind. Remove it with `clean_flags` and then `shutil.rmtree`.
    """
    builder = _Builder(os.fsencode(directory), seed)
    builder.names()
    builder.directories()
    builder.deep()
    builder.links()
    builder.special()
    builder.holes()
    builder.owners_and_modes()
    builder.xattrs()
    builder.times()
    builder.flags()
    return builder.skipped


def clean_flags(directory: bytes | str | Path) -> int:
    """Take every immutable and append-only flag away so that the directory can be removed; how many had one."""
    cleaned = 0
    blocking = syscalls.FLAG_IMMUTABLE | syscalls.FLAG_APPEND
    top = os.open(os.fsencode(directory), os.O_RDONLY | os.O_DIRECTORY)

    def visit(fd: int) -> None:
        nonlocal cleaned
        try:
            flags = syscalls.get_flags(fd)
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP):
                raise
            flags = 0  # a file system without flags has nothing to clean
        if flags & blocking:
            syscalls.set_flags(fd, flags & ~blocking)
            cleaned += 1
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            return
        with os.scandir(fd) as entries:
            names = [
                (os.fsencode(e.name), e.is_dir(follow_symlinks=False))
                for e in entries
                if e.is_dir(follow_symlinks=False) or e.is_file(follow_symlinks=False)
            ]
        for name, is_dir in names:
            try:
                below = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
            except PermissionError:
                if is_dir:
                    raise
                continue  # not readable means not root, and then nothing below is immutable
            try:
                visit(below)
            finally:
                os.close(below)

    try:
        visit(top)
    finally:
        os.close(top)
    return cleaned

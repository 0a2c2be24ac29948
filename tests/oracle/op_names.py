"""Operations on names and attributes; each takes the generator, does one thing and returns what it did."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tests.oracle import syscalls

if TYPE_CHECKING:
    from tests.oracle.ops import RandomOps


def mkdir(ops: RandomOps) -> object:
    path = ops.new_name()
    os.mkdir(ops.at(path))
    ops.directories.append(path)
    if ops.random.random() < 0.3:
        below = ops.new_name(path)
        os.mkdir(ops.at(below))
        ops.directories.append(below)
    return path


def rmdir(ops: RandomOps) -> object:
    everything = ops.files + ops.others + ops.directories
    empty = [d for d in ops.directories[1:] if not any(name.startswith(d + b"/") for name in everything)]
    if not empty:
        return "nothing empty"
    path = ops.random.choice(empty)
    os.rmdir(ops.at(path))
    ops.forget(path)
    return path


def rename(ops: RandomOps) -> object:
    old, new = ops.file(), ops.new_name()
    os.rename(ops.at(old), ops.at(new))
    ops.moved(old, new)
    return old, new


def rename_over(ops: RandomOps) -> object:
    old, new = ops.file(), ops.file()
    os.rename(ops.at(old), ops.at(new))
    # Two names of one inode: rename(2) does nothing at all, and both names stay.
    if old != new and not os.path.lexists(ops.at(old)):
        ops.forget(new)
        ops.moved(old, new)
    return old, new


def rename_directory(ops: RandomOps) -> object:
    if len(ops.directories) < 2:
        return mkdir(ops)
    old = ops.random.choice(ops.directories[1:])
    parents = [d for d in ops.directories if d != old and not d.startswith(old + b"/") and len(d) < 1000]
    everything = ops.files + ops.others + ops.directories
    if max(len(name) for name in everything if name == old or name.startswith(old + b"/")) > 2000:
        return "would grow beyond PATH_MAX"
    new = ops.new_name(ops.random.choice(parents))
    os.rename(ops.at(old), ops.at(new))
    ops.moved(old, new)
    return old, new


def exchange(ops: RandomOps) -> object:
    one, two = ops.thing(), ops.thing()
    if one == two or one.startswith(two + b"/") or two.startswith(one + b"/"):
        return "related"
    syscalls.renameat2(ops.at(one), ops.at(two), syscalls.RENAME_EXCHANGE)
    aside = b"\0 aside"  # never on disk
    ops.moved(one, aside)
    ops.moved(two, one)
    ops.moved(aside, two)
    return one, two


def link(ops: RandomOps) -> object:
    old, new = ops.file(), ops.new_name()
    os.link(ops.at(old), ops.at(new))
    ops.files.append(new)
    return old, new


def symlink(ops: RandomOps) -> object:
    path = ops.new_name()
    os.symlink(ops.random.choice((b"nowhere", b"../up", b"\xff" * 30, b"l" * 900)), ops.at(path))
    ops.others.append(path)
    return path


def mknod(ops: RandomOps) -> object:
    path = ops.new_name()
    kind = ops.random.choice((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK))
    os.mknod(ops.at(path), kind | 0o640, os.makedev(7, 99) if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0)
    ops.others.append(path)
    return path, kind


def unlink(ops: RandomOps) -> object:
    path = ops.random.choice(ops.files + ops.others)
    os.unlink(ops.at(path))
    ops.forget(path)
    return path


def unlink_open(ops: RandomOps) -> object:
    """The name goes, the writing goes on: none of it may reappear anywhere."""
    path = ops.file()
    fd = os.open(ops.at(path), os.O_RDWR)
    ops.orphans.append(fd)
    os.unlink(ops.at(path))
    ops.forget(path)
    os.pwrite(fd, ops.content(), ops.offset())
    if len(ops.orphans) > 3:
        os.close(ops.orphans.pop(0))
    return path


def brief(ops: RandomOps) -> object:
    """Created, renamed and gone again faster than anybody can look."""
    one, two = ops.new_name(), ops.new_name()
    with ops.open(one, os.O_CREAT | os.O_WRONLY) as file:
        os.write(file.fd, ops.content())
        os.rename(ops.at(one), ops.at(two))
        os.write(file.fd, b"more")
    os.unlink(ops.at(two))
    return one, two


def replace(ops: RandomOps) -> object:
    """What editors and package managers do: write aside, sync, rename over."""
    path = ops.file()
    aside = ops.new_name(os.path.dirname(path))
    with ops.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY) as file:
        os.write(file.fd, ops.content())
        os.fsync(file.fd)
    os.rename(ops.at(aside), ops.at(path))
    return path


def chmod(ops: RandomOps) -> object:
    path, mode = (
        ops.random.choice(ops.files + ops.directories),
        ops.random.choice((0o600, 0o644, 0o755, 0o4755, 0o2750, 0o1777)),
    )
    os.chmod(ops.at(path), mode | 0o700 if path in ops.directories else mode)
    return path, mode


def chown(ops: RandomOps) -> object:
    path, owner = ops.thing(), ops.random.choice((0, 1000, 65534, 4_000_000_000))
    os.chown(ops.at(path), owner, ops.random.choice((0, 33, -1)), follow_symlinks=False)
    return path, owner


def utimens(ops: RandomOps) -> object:
    path, moment = ops.thing(), ops.random.randrange(-(2**31), 2**32) * 10**9 + ops.random.randrange(10**9)
    os.utime(ops.at(path), ns=(moment, moment), follow_symlinks=False)
    return path, moment


def setxattr(ops: RandomOps) -> object:
    path, key = (
        ops.random.choice(ops.files + ops.directories),
        ops.random.choice(("user.one", "user.two", "trusted.three")),
    )
    os.setxattr(ops.at(path), key, ops.random.randbytes(ops.random.randrange(60)))
    return path, key


def removexattr(ops: RandomOps) -> object:
    path = ops.random.choice(ops.files + ops.directories)
    names = sorted(name for name in os.listxattr(ops.at(path)) if name.startswith(("user.", "trusted.")))
    if names:
        os.removexattr(ops.at(path), names[0])
    return path


def set_acl(ops: RandomOps) -> object:
    path = ops.random.choice(ops.files + ops.directories)
    key = (
        "system.posix_acl_default"
        if path in ops.directories and ops.random.random() < 0.5
        else "system.posix_acl_access"
    )
    os.setxattr(
        ops.at(path), key, syscalls.acl(0o640, user=1000 + ops.random.randrange(5), permissions=ops.random.randrange(8))
    )
    return path, key


def set_flags(ops: RandomOps) -> object:
    """A flag that stays, or an immutable moment."""
    path = ops.file()
    if ops.random.random() < 0.5:
        syscalls.change_flags(ops.at(path), add=syscalls.FLAG_NODUMP)
    else:
        syscalls.change_flags(ops.at(path), add=syscalls.FLAG_IMMUTABLE, drop=syscalls.FLAG_NODUMP)
        syscalls.change_flags(ops.at(path), drop=syscalls.FLAG_IMMUTABLE)
    return path

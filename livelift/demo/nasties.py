"""What breaks naive copies, planted into the source tree: each kind once or more, below srv/nasties."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from pathlib import Path

FS_IOC_GETFLAGS = 0x80086601  # linux/fs.h, 64-bit
FS_IOC_SETFLAGS = 0x40086602
IMMUTABLE, APPEND, NODUMP = 0x10, 0x20, 0x40  # FS_*_FL

GIB = 1 << 30


def set_flags(path: Path, flags: int) -> None:
    """Add inode flags (chattr(1)) to a file or directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        now = struct.unpack("l", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(8)))[0]
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("l", now | flags))
    finally:
        os.close(descriptor)


def posix_acl(user: int) -> bytes:
    """An ACL as the kernel keeps it in system.posix_acl_access (linux/posix_acl_xattr.h): rw for one more user."""
    undefined = 0xFFFFFFFF
    entries = [(0x01, 6, undefined), (0x02, 6, user), (0x04, 4, undefined), (0x10, 6, undefined), (0x20, 4, undefined)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def capability(number: int) -> bytes:
    """security.capability, revision 2 (linux/capability.h): one capability, permitted and effective."""
    return struct.pack("<IIIII", 0x02000001, 1 << number, 0, 0, 0)


def plant(tree: Path) -> int:
    """Plant everything that this user may make; returns the number of entries. Root adds what only root may."""
    base = tree / "srv/nasties"
    base.mkdir(parents=True)
    _names(base)
    _links(base)
    _space(base)
    _times_and_modes(base)
    _deep(base)
    _xattrs(base, as_root=os.geteuid() == 0)
    os.mkfifo(base / "fifo", 0o620)
    _socket(base)
    if os.geteuid() == 0:
        _devices(base)
        _flags(base)
    return sum(1 + len(files) for _, _, files, _ in os.fwalk(base))


def _names(base: Path) -> None:
    directory = os.fsencode(base / "names")
    os.mkdir(directory)
    names = [
        b"not-utf8-\xff\xfe\x80", b"latin1-\xe9t\xe9", "häßlich-日本語-🚚".encode(), b"x" * 255, b" blanks ",
        b"new\nline", b"tab\tand\rreturn", b"-rf", b"*?[glob]", b"quote'\"`$(id)", b"back\\slash", b"...", b"\x01\x7f",
    ]  # fmt: skip
    for name in names:
        with open(directory + b"/" + name, "wb") as file:
            file.write(name)
    # a name that differs only in case, and one that differs only in Unicode normalisation (NFC, NFD)
    for name in (b"Case", b"case", "é-nfc".encode(), b"e\xcc\x81-nfd"):
        os.mkdir(directory + b"/dir-" + name)


def _links(base: Path) -> None:
    for name in ("a", "b", "b/c"):
        (base / "links" / name).mkdir(parents=True)
    one = base / "links/a/one"
    one.write_bytes(b"one object, three names, three directories\n")
    os.link(one, base / "links/b/two")
    os.link(one, base / "links/b/c/three")
    os.symlink("../a/one", base / "links/b/relative")
    os.symlink("/nowhere/at/all", base / "links/dangling")
    os.symlink("loop", base / "links/loop")
    os.symlink("t" * 4000, base / "links/long-target")  # beyond ext4's 60 bytes inside the inode
    os.symlink(b"\xff\xfe", os.fsencode(base / "links/not-utf8"))
    os.link(base / "links/dangling", base / "links/a/hard-link-to-a-symlink", follow_symlinks=False)


def _space(base: Path) -> None:
    directory = base / "space"
    directory.mkdir()
    with open(directory / "sparse-1GiB", "wb") as file:
        for offset in (0, 4096 * 1000 + 17, GIB // 2, GIB - 1):
            file.seek(offset)
            file.write(b"data" if offset < GIB - 1 else b".")
    with open(directory / "only-a-hole", "wb") as file:
        file.truncate(64 << 20)
    with open(directory / "fallocated", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 8 << 20)
        file.write(b"a beginning, then allocated and unwritten\n")
    (directory / "empty").touch()
    with open(directory / "zeros", "wb") as file:
        file.write(bytes(1 << 20))  # written zeros are data, not a hole


def _times_and_modes(base: Path) -> None:
    directory = base / "times-and-modes"
    directory.mkdir()
    times = {"before-1970": -86400 * 10**9 - 1, "year-2300": 10413792000 * 10**9 + 999_999_999, "epoch": 0}
    for name, nanoseconds in times.items():
        (directory / name).touch()
        os.utime(directory / name, ns=(nanoseconds, nanoseconds))
    for mode in (0o000, 0o1777, 0o2755, 0o4711, 0o0640):
        path = directory / f"mode-{mode:04o}"
        path.write_bytes(b"mode\n")
        if os.geteuid() == 0:
            os.chown(path, 12345, 54321)  # owners without an account
        # a user who is not root could not read mode 000 back, on either side
        path.chmod(mode if mode or os.geteuid() == 0 else 0o400)
    (directory / "sticky").mkdir()
    (directory / "sticky").chmod(0o1777)


def _deep(base: Path) -> None:
    """A path of more than PATH_MAX (4096) bytes: it can be reached only directory by directory."""
    handle = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for level in range(20):
            name = f"{level:02d}" + "d" * 238
            os.mkdir(name, dir_fd=handle)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
            os.close(handle)
            handle = below
        leaf = os.open("leaf", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=handle)
        os.write(leaf, b"deeper than PATH_MAX\n")
        os.close(leaf)
    finally:
        os.close(handle)


def _xattrs(base: Path, as_root: bool) -> None:
    directory = base / "xattrs"
    directory.mkdir()
    for name in ("user", "acl", "default-acl", "trusted", "capability"):
        path = directory / name
        path.mkdir() if name == "default-acl" else path.write_bytes(name.encode())
    os.setxattr(directory / "user", "user.livelift", b"value\0with\xffbytes")
    os.setxattr(directory / "user", "user.empty", b"")
    os.setxattr(directory / "user", "user.long", b"v" * 3000)  # not inside the inode any more
    os.setxattr(directory / "acl", "system.posix_acl_access", posix_acl(12345))
    os.setxattr(directory / "default-acl", "system.posix_acl_default", posix_acl(12345))
    if as_root:
        os.setxattr(directory / "trusted", "trusted.livelift", b"only root sees this")
        (directory / "capability").chmod(0o755)
        os.setxattr(directory / "capability", "security.capability", capability(10))  # CAP_NET_BIND_SERVICE


def _socket(base: Path) -> None:
    # bound by a relative name: sun_path holds 108 bytes (unix(7)), and the base may be longer
    handle = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{handle}/socket")
    finally:
        os.close(handle)


def _devices(base: Path) -> None:
    directory = base / "devices"
    directory.mkdir()
    os.mknod(directory / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(directory / "big-numbers", stat.S_IFCHR | 0o600, os.makedev(511, 1048575))
    os.mknod(directory / "disk", stat.S_IFBLK | 0o660, os.makedev(7, 250))


def _flags(base: Path) -> None:
    directory = base / "flags"
    directory.mkdir()
    for name, flags in (("immutable", IMMUTABLE), ("append-only", APPEND), ("nodump", NODUMP)):
        (directory / name).write_bytes(name.encode())
        set_flags(directory / name, flags)

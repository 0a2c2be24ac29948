"""For tests: writes records with LSNs, and takes a snapshot of a tree to compare with."""

from __future__ import annotations

import os
import stat
from typing import Any

from livelift.model.entry import Attributes
from livelift.model.record import (
    BaseFile,
    Body,
    Kind,
    Link,
    Make,
    Range,
    Record,
    Reflink,
    Rename,
    SetAttributes,
    Unlink,
    Xattr,
)

ROOT = 1 << 40
T = 1_000_000_123_456_789


def attributes(mode: int = stat.S_IFREG | 0o644, size: int = 0, **more: Any) -> Attributes:
    times = {"mtime": T, "atime": T + 5, "ctime": T, "uid": os.geteuid(), "gid": os.getegid()}
    return Attributes(mode=mode, size=size, **(times | more))


def directory(mode: int = 0o755, **more: Any) -> Attributes:
    return attributes(stat.S_IFDIR | mode, **more)


class Logbook:
    """Every method appends one record; ``take`` answers those since the last call."""

    def __init__(self, roots: int = 1) -> None:
        self.records: list[Record] = []
        self.taken = 0
        for index in range(roots):
            self.mkdir(ROOT + index, 0, b"%d" % index)

    def add(self, kind: Kind, body: Body, payload: bytes = b"", **more: Any) -> Record:
        record = Record(kind, body, memoryview(payload), lsn=len(self.records) + 1, **more)
        self.records.append(record)
        return record

    def take(self) -> list[Record]:
        new = self.records[self.taken :]
        self.taken = len(self.records)
        return new

    def mkdir(self, oid: int, parent: int, name: bytes, a: Attributes | None = None) -> None:
        self.add(Kind.MKDIR, Make(oid, parent, name, a or directory()))

    def create(self, oid: int, parent: int, name: bytes, a: Attributes | None = None) -> None:
        self.add(Kind.CREATE, Make(oid, parent, name, a or attributes()))

    def symlink(self, oid: int, parent: int, name: bytes, target: bytes, **more: Any) -> None:
        a = attributes(stat.S_IFLNK | 0o777, size=len(target), target=target, **more)
        self.add(Kind.SYMLINK, Make(oid, parent, name, a))

    def mknod(self, oid: int, parent: int, name: bytes, mode: int, rdev: int = 0) -> None:
        self.add(Kind.MKNOD, Make(oid, parent, name, attributes(mode, rdev=rdev)))

    def base(self, oid: int, parent: int, name: bytes, content: bytes, **more: Any) -> None:
        extents = ((0, len(content)),) if content else ()
        self.add(Kind.BASE_FILE, BaseFile(oid, parent, name, attributes(size=len(content), **more), extents), content)

    def sparse(
        self, oid: int, parent: int, name: bytes, size: int, data: dict[int, bytes], allocated: Any = (), **more: Any
    ) -> None:
        extents = tuple((offset, len(part)) for offset, part in sorted(data.items()))
        payload = b"".join(part for _, part in sorted(data.items()))
        body = BaseFile(oid, parent, name, attributes(size=size, **more), extents, allocated)
        self.add(Kind.BASE_FILE, body, payload)

    def range(
        self, kind: Kind, oid: int, parent: int, name: bytes, offset: int, length: int = 0, flags: int = 0
    ) -> None:
        self.add(kind, Range(oid, parent, name, offset, length, flags))

    def write(self, oid: int, parent: int, name: bytes, offset: int, data: bytes) -> None:
        self.add(Kind.WRITE, Range(oid, parent, name, offset, len(data)), data)

    def reflink(self, oid: int, parent: int, name: bytes, source: tuple[int, int, bytes], length: int) -> None:
        self.add(Kind.REFLINK, Reflink(oid, parent, name, 0, length, *source, 0))

    def link(self, oid: int, old_parent: int, old_name: bytes, parent: int, name: bytes) -> None:
        self.add(Kind.LINK, Link(oid, parent, name, old_parent, old_name))

    def unlink(self, oid: int, parent: int, name: bytes) -> None:
        self.add(Kind.UNLINK, Unlink(oid, parent, name))

    def rmdir(self, oid: int, parent: int, name: bytes) -> None:
        self.add(Kind.RMDIR, Unlink(oid, parent, name))

    def rename(
        self, oid: int, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0, victim: int = 0
    ) -> None:
        self.add(Kind.RENAME, Rename(oid, parent, name, new_parent, new_name, flags, victim))

    def attributes(self, oid: int, parent: int, name: bytes, a: Attributes) -> None:
        self.add(Kind.ATTRIBUTES, SetAttributes(oid, parent, name, a))

    def xattr(self, oid: int, parent: int, name: bytes, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.add(Kind.XATTR_REMOVE, Xattr(oid, parent, name, key))
        else:
            self.add(Kind.XATTR_SET, Xattr(oid, parent, name, key), value)


def snapshot(top: bytes, *, times: bool = False) -> dict[bytes, tuple[Any, ...]]:
    """Everything below ``top`` but ``.livelift``; inode numbers become the first path that has them."""
    found: dict[bytes, tuple[Any, ...]] = {}
    first: dict[int, bytes] = {}

    def visit(path: bytes) -> None:
        full = os.path.join(top, path)
        s = os.lstat(full)
        content: Any = None
        if stat.S_ISREG(s.st_mode):
            with open(full, "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(s.st_mode):
            content = os.readlink(full)
        keys = os.listxattr(full, follow_symlinks=False)
        xattrs = {key: os.getxattr(full, key, follow_symlinks=False) for key in keys}
        same = path if stat.S_ISDIR(s.st_mode) else first.setdefault(s.st_ino, path)
        found[path] = (s.st_mode, s.st_uid, s.st_gid, s.st_rdev, same, xattrs, content)
        if times and not stat.S_ISDIR(s.st_mode):
            found[path] += (s.st_mtime_ns,)
        if stat.S_ISDIR(s.st_mode):
            for name in sorted(os.listdir(full)):
                if path or name != b".livelift":
                    visit(os.path.join(path, name) if path else name)

    visit(b"")
    return found

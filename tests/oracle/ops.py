"""Random file-system operations from a seed: an own, small fsstress(8) that knows what it did.

Every decision comes from the seed and from the generator's own model of names, never from what the disk says, so the
same seed gives the same trace everywhere. An operation that a file system does not have is skipped and counted.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.oracle import op_contents, op_names, syscalls

UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EPERM, errno.EXDEV, errno.ENOSYS}
"""What a file system or a plain user answers to a valid request that it does not serve. Anything else is an error."""

_NAMES = (b"a", b"b", b"file", b"log", b"x y", b"\xff\xfe", b"new\nline", b"n" * 200, b"data.db", b".tmp")


class RandomOps:
    """Operations below ``root`` (an existing directory). ``run(n)`` may be called again and again; then ``close``.

    ``trace``: one line for each operation done. ``counts`` and ``skipped``: how often each kind was done or refused.
    """

    def __init__(self, root: bytes | str | Path, seed: int, *, max_objects: int = 120, max_size: int = 300_000) -> None:
        self.root = os.fsencode(root)
        self.random = random.Random(seed)
        self.max_objects = max_objects
        self.max_size = max_size
        self.directories: list[bytes] = [b""]
        self.files: list[bytes] = []
        self.others: list[bytes] = []  # symlinks, device nodes, FIFOs
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._serial = 0
        self.orphans: list[int] = []  # descriptors of unlinked files that are still written
        self.maps: list[mmap.mmap] = []  # stored to long after everything else about the file has happened
        self._kinds = [kind for kind, weight in KINDS.items() for _ in range(weight)]

    def run(self, count: int) -> None:
        for _ in range(count):
            self.step(self.random.choice(self._kinds))

    def step(self, kind: Operation) -> None:
        """One operation of this kind; falls back to creating something when there is nothing to work on."""
        crowded = len(self.files) + len(self.directories) + len(self.others) >= self.max_objects
        if crowded and kind in (op_contents.create, op_names.mkdir, op_names.link, op_names.symlink, op_names.mknod):
            kind = op_names.unlink
        if not self.files and kind not in (op_contents.create, op_names.mkdir):
            kind = op_contents.create
        name = kind.__name__
        try:
            detail = kind(self)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            self.skipped[name] += 1
            self.trace.append(f"{name} skipped")
            return
        self.counts[name] += 1
        self.trace.append(f"{name} {detail!r}")

    def close(self) -> None:
        """Let go of open unlinked files and mappings: what was stored is in the page cache, the tree stays as it is."""
        for fd in self.orphans:
            os.close(fd)
        for mapping in self.maps:
            mapping.close()
        self.orphans.clear()
        self.maps.clear()

    # What the operations below share.

    def at(self, path: bytes) -> bytes:
        return self.root + b"/" + path if path else self.root

    def new_name(self, parent: bytes | None = None) -> bytes:
        self._serial += 1
        if parent is None:
            parent = self.random.choice([d for d in self.directories if len(d) < 1000])
        name = b"%s.%d" % (self.random.choice(_NAMES), self._serial)
        return parent + b"/" + name if parent else name

    def file(self) -> bytes:
        return self.random.choice(self.files)

    def thing(self) -> bytes:
        """Any object but the root."""
        return self.random.choice(self.files + self.others + self.directories[1:])

    def content(self, limit: int = 20_000) -> bytes:
        size = self.random.choice((1, 100, 4096, self.random.randrange(1, limit)))
        return self.random.randbytes(size) if self.random.random() < 0.7 else bytes([self.random.randrange(256)]) * size

    def offset(self) -> int:
        position = self.random.randrange(self.max_size)
        return position // 4096 * 4096 if self.random.random() < 0.5 else position

    def open(self, path: bytes, flags: int) -> closing[_Descriptor]:
        return closing(_Descriptor(os.open(self.at(path), flags | os.O_NOFOLLOW)))

    def range_mode(self, mode: int) -> str:
        """fallocate(2) on whole 64 KiB blocks (COLLAPSE and INSERT demand multiples of the block size)."""
        path, block = self.file(), 1 << 16
        offset, length = self.random.randrange(3) * block, (1 + self.random.randrange(2)) * block
        with self.open(path, os.O_RDWR) as file:
            moves = mode in (syscalls.FALLOC_COLLAPSE, syscalls.FALLOC_INSERT)
            if moves and os.fstat(file.fd).st_size <= offset + length:  # these two work inside the file only
                os.pwrite(file.fd, b"end", offset + length)
            syscalls.fallocate(file.fd, mode, offset, length)
        return f"{path!r} {offset}+{length}"

    def forget(self, path: bytes) -> None:
        for names in (self.files, self.others, self.directories):
            names[:] = [name for name in names if name != path and not name.startswith(path + b"/")]

    def moved(self, old: bytes, new: bytes) -> None:
        for names in (self.files, self.others, self.directories):
            names[:] = [
                new + name[len(old) :] if name == old or name.startswith(old + b"/") else name for name in names
            ]


class _Descriptor:
    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        os.close(self.fd)


Operation = Callable[[RandomOps], object]

KINDS: dict[Operation, int] = {
    op_contents.create: 10,
    op_contents.rewrite: 3,
    op_contents.pwrite: 8,
    op_contents.append: 6,
    op_contents.truncate: 3,
    op_contents.down_and_up: 2,
    op_contents.direct_write: 2,
    op_contents.mmap_store: 3,
    op_contents.punch: 2,
    op_contents.zero: 1,
    op_contents.allocate: 1,
    op_contents.allocate_keep: 1,
    op_contents.collapse: 1,
    op_contents.insert: 1,
    op_contents.copy_range: 2,
    op_contents.reflink: 2,
    op_names.mkdir: 5,
    op_names.rmdir: 2,
    op_names.rename: 5,
    op_names.rename_over: 3,
    op_names.rename_directory: 4,
    op_names.exchange: 2,
    op_names.link: 4,
    op_names.symlink: 2,
    op_names.mknod: 2,
    op_names.unlink: 6,
    op_names.unlink_open: 2,
    op_names.brief: 3,
    op_names.replace: 4,
    op_contents.copytruncate: 2,
    op_names.chmod: 3,
    op_names.chown: 2,
    op_names.utimens: 3,
    op_names.setxattr: 3,
    op_names.removexattr: 1,
    op_names.set_acl: 2,
    op_names.set_flags: 2,
}
"""Every kind of operation and its weight."""

"""The demo's own judge: compares source and replica path by path, with nothing of what moved them.

It shares no code with the agents' verification, so a mistake in the one cannot hide in the other. Access times are left
out: reading for the comparison changes them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pickle
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from livelift.demo.process import run

FS_IOC_GETFLAGS = 0x80086601  # linux/fs.h, 64-bit
FLAGS = 0x10 | 0x20 | 0x40 | 0x80 | 0x08 | 0x10000  # immutable, append, nodump, noatime, sync, dirsync


CHUNK = 1 << 20
ZEROS = bytes(CHUNK)


class Entry(NamedTuple):
    """What must be equal. ``content`` is a digest of the data (files) or the text (symlinks).

    ``allocated``, in bytes, may differ a little: a file system turns small unwritten extents into zeros as it likes
    (ext4: extent_max_zeroout_kb). A replica that takes much more room than its source has lost holes: a difference.
    """

    mode: int
    owner: tuple[int, int]
    size: int
    mtime: int
    device: int
    flags: int
    xattrs: tuple[tuple[str, bytes], ...]
    links: int
    content: bytes
    allocated: int


class Tree(NamedTuple):
    """``names`` groups hard links: every path leads to the first path of its object."""

    entries: dict[bytes, Entry]
    names: dict[bytes, bytes]


def scan(root: str) -> Tree:
    """Read a whole tree. Directories are held open, so no path is too long."""
    entries: dict[bytes, Entry] = {}
    names: dict[bytes, bytes] = {}
    first: dict[int, bytes] = {}
    for directory, children, files, handle in os.fwalk(os.fsencode(root), onerror=_raise):
        below = directory[len(os.fsencode(root)) :].lstrip(b"/")
        children.sort()
        if not below:
            entries[b"."] = read_entry(handle, b".")
        for name in sorted(children + files):
            path = below + b"/" + name if below else name
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            seen = first.setdefault(status.st_ino, path)
            names[path] = seen
            if stat.S_ISLNK(status.st_mode) and name in children:
                children.remove(name)  # `os.fwalk` would open what it leads to, which may be nobody's business here
            if seen == path or stat.S_ISDIR(status.st_mode):
                entries[path] = read_entry(handle, name)
    return Tree(entries, names)


def _raise(error: OSError) -> None:
    """`os.fwalk` would leave out a directory that it cannot read; a judge must not."""
    raise error


def read_entry(directory: int, name: bytes) -> Entry:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    # by way of /proc: xattr calls have no *at form before Linux 6.13
    path = b"/proc/self/fd/%d/%s" % (directory, name)
    content, flags = b"", 0
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
        try:
            flags = read_flags(descriptor)
            if stat.S_ISREG(status.st_mode):
                content = read_content(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    xattrs = tuple(
        (key, os.getxattr(path, key, follow_symlinks=False))
        for key in sorted(os.listxattr(path, follow_symlinks=False))
    )
    return Entry(
        mode=status.st_mode,
        owner=(status.st_uid, status.st_gid),
        size=0 if stat.S_ISDIR(status.st_mode) else status.st_size,
        mtime=status.st_mtime_ns,
        device=status.st_rdev,
        flags=flags,
        xattrs=xattrs,
        links=1 if stat.S_ISDIR(status.st_mode) else status.st_nlink,
        content=content,
        allocated=status.st_blocks * 512 if stat.S_ISREG(status.st_mode) else 0,
    )


def read_flags(descriptor: int) -> int:
    try:
        return int(struct.unpack("l", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(8)))[0]) & FLAGS
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP):  # a file system without inode flags (tmpfs before 6.6)
            return 0
        raise


def chunks(descriptor: int, size: int) -> Iterator[int]:
    """Offsets of the aligned chunks that hold data, or may; a chunk that lies in a hole as a whole is left out."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole from here on
                return
            raise
        offset = start - start % CHUNK
        yield offset
        offset += CHUNK


def read_content(descriptor: int, size: int) -> bytes:
    """Digest of the content: of every chunk that is not all zeros. The same however the zeros are stored."""
    digest = hashlib.sha256()
    for offset in chunks(descriptor, size):
        data = os.pread(descriptor, CHUNK, offset)
        if data != ZEROS[: len(data)]:
            digest.update(struct.pack("<Q", offset))
            digest.update(data)
    return digest.digest()


class Verdict(NamedTuple):
    """``differences``: lines "path: what"; none when the two are identical. Paths and bytes on disk of the source."""

    differences: list[str]
    paths: int
    size: int


def compare(source: Path, replica: Path) -> Verdict:
    """Compare two trees, both at rest."""
    # Fresh processes, one a tree: this one has threads (the ledger's clients), so it must not fork without exec.
    with tempfile.TemporaryDirectory(prefix="livelift-demo-") as scratch, ThreadPoolExecutor(2) as pool:
        jobs = [(source, Path(scratch, "source")), (replica, Path(scratch, "replica"))]
        left, right = pool.map(_scan_elsewhere, jobs)
    size = sum(entry.allocated for entry in left.entries.values())
    return Verdict(list(differences(left, right)), len(left.names), size)


def _scan_elsewhere(job: tuple[Path, Path]) -> Tree:
    root, out = job
    run([sys.executable, "-m", "livelift.demo.compare", root, out], timeout=600)
    with open(out, "rb") as file:
        tree: Tree = pickle.load(file)  # written by our own child into a directory that only we can enter
    return tree


def differences(left: Tree, right: Tree) -> Iterator[str]:
    for path in sorted(left.names.keys() | right.names.keys() | {b"."}):
        shown = _shown(path)
        if path != b"." and left.names.get(path) != right.names.get(path):
            yield f"{shown}: {_where(left, path)} on the source, {_where(right, path)} on the replica"
        elif path in left.entries and path in right.entries:
            one, two = left.entries[path], right.entries[path]
            if not holes_lost(one.allocated, two.allocated):
                two = two._replace(allocated=one.allocated)
            for field, ours, theirs in zip(Entry._fields, one, two, strict=True):
                if ours != theirs:
                    yield f"{shown}: {field}: {_short(ours)} on the source, {_short(theirs)} on the replica"


def holes_lost(source: int, replica: int) -> bool:
    return replica > source + source // 10 + CHUNK


def _where(tree: Tree, path: bytes) -> str:
    first = tree.names.get(path)
    if first is None:
        return "missing"
    return "an object of its own" if first == path else f"one with {_shown(first)}"


def _shown(path: bytes) -> str:
    return _shorten(path.decode("utf-8", "backslashreplace"))


def _short(value: object) -> str:
    return _shorten(value.hex() if isinstance(value, bytes) else repr(value))


def _shorten(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:80]}...{text[-77:]}"


def main(root: str, out: str) -> None:
    """Scan one tree into a file."""
    # under its importable name: pickled classes of ``__main__`` could not be read back
    from livelift.demo import compare as module

    with open(out, "wb") as file:
        pickle.dump(module.scan(root), file, protocol=pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

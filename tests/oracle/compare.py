"""Two independent verdicts on "the replica is the source": rsync's, and an own slow comparer that sees more.

rsync does not look at ns of directories' times, inode flags, project ids or paths beyond PATH_MAX; ours does, and is
written with `os` calls only so that it shares nothing with the product.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import stat
import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from tests.oracle import syscalls
from tests.oracle.slow import SLOW
from tests.oracle.trees import DEEP, HUGE

AnyPath = bytes | str | Path

RSYNC = ("rsync", "-aHAXSnc", "--numeric-ids", "--delete", "--itemize-changes", "--exclude=/.livelift")
EXCLUDED = (b".livelift",)
_BLOCK = 1 << 16


class Difference(NamedTuple):
    """One aspect of one path that is not the same; ``source`` or ``target`` is None where the path is missing."""

    path: bytes
    aspect: str
    source: object
    target: object

    def __str__(self) -> str:
        return f"{os.fsdecode(self.path)!r}: {self.aspect}: source {_short(self.source)}, target {_short(self.target)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 120 else f"{text[:117]}..."


class Node(NamedTuple):
    """What is compared of one path. ``first_name`` stands for the hard-link group: its alphabetically first path."""

    mode: int
    owner: tuple[int, int]
    size: int
    mtime: int
    rdev: int
    link_target: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]
    flags: int
    project: int
    content: str
    first_name: bytes
    allocated: int  # bytes; compared only when asked for


ASPECTS = tuple(name for name in Node._fields if name != "allocated")


def manifest(directory: AnyPath, exclude: Collection[bytes] = EXCLUDED) -> dict[bytes, Node]:
    """Every path below a directory (and b"." for itself) with all that is compared. ``exclude``: fnmatch patterns.

    Works through descriptors, so paths may be longer than PATH_MAX. Leaves access times alone (O_NOATIME) if allowed.
    """
    nodes: dict[bytes, Node] = {}
    groups: dict[tuple[int, int], list[bytes]] = {}
    seen: dict[tuple[int, int], str] = {}
    root = os.open(os.fsencode(directory), os.O_RDONLY | os.O_DIRECTORY)

    def add(path: bytes, status: os.stat_result, parent: int, name: bytes) -> None:
        # A path of two parts that reaches the object however deep it lies; "." reaches a directory that is open itself.
        short = b"/proc/self/fd/%d/%s" % (parent, name)
        kind = stat.S_IFMT(status.st_mode)
        identity = (status.st_dev, status.st_ino)
        flags = project = 0
        content = ""
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            fd = _open(parent, name)
            try:
                flags = _optional(syscalls.get_flags, fd) & syscalls.FLAGS_OF_USERS
                project = _optional(syscalls.get_project, fd)
                if kind == stat.S_IFREG:
                    if identity not in seen:
                        seen[identity] = _digest(fd)
                    content = seen[identity]
            finally:
                os.close(fd)
        link_target = os.readlink(name, dir_fd=parent) if kind == stat.S_IFLNK else b""
        xattrs = tuple(
            sorted(
                (os.fsencode(key), os.getxattr(short, key, follow_symlinks=False))
                for key in os.listxattr(short, follow_symlinks=False)
            )
        )
        if kind != stat.S_IFDIR and status.st_nlink > 1:
            groups.setdefault(identity, []).append(path)
        nodes[path] = Node(
            mode=status.st_mode,
            owner=(status.st_uid, status.st_gid),
            size=status.st_size if kind in (stat.S_IFREG, stat.S_IFLNK) else 0,
            mtime=status.st_mtime_ns,
            rdev=status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0,
            link_target=link_target,
            xattrs=xattrs,
            flags=flags,
            project=project,
            content=content,
            first_name=path,
            allocated=status.st_blocks * 512,
        )

    def visit(fd: int, prefix: bytes) -> None:
        for name in sorted(map(os.fsencode, os.listdir(fd))):
            path = prefix + name
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in exclude):
                continue
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            add(path, status, fd, name)
            if stat.S_ISDIR(status.st_mode):
                below = _open(fd, name)
                try:
                    visit(below, path + b"/")
                finally:
                    os.close(below)

    try:
        add(b".", os.fstat(root), root, b".")
        visit(root, b"")
    finally:
        os.close(root)
    for paths in groups.values():
        leader = min(paths)
        for path in paths:
            nodes[path] = nodes[path]._replace(first_name=leader)
    return nodes


def compare_trees(
    source: AnyPath,
    target: AnyPath,
    *,
    exclude: Collection[bytes] = EXCLUDED,
    ignore: Collection[str] = (),
    allocation: bool = False,
) -> list[Difference]:
    """Every difference between two trees that stand still; an empty list is the proof that the tests ask for.

    ``ignore`` names aspects (`ASPECTS`) to leave out. ``allocation``: also report files whose disk use differs by more
    than 64 KiB and a quarter (holes filled, preallocation lost); it is no matter of equality, so it is off by default.
    """
    return compare_manifests(manifest(source, exclude), manifest(target, exclude), ignore=ignore, allocation=allocation)


def compare_manifests(
    left: dict[bytes, Node], right: dict[bytes, Node], *, ignore: Collection[str] = (), allocation: bool = False
) -> list[Difference]:
    """The pure part of `compare_trees`: also compares what a tree was with what it is now."""
    found: list[Difference] = []
    for path in sorted(left.keys() | right.keys()):
        ours, theirs = left.get(path), right.get(path)
        if ours is None or theirs is None:
            found.append(Difference(path, "existence", ours and oct(ours.mode), theirs and oct(theirs.mode)))
            continue
        for aspect in ASPECTS:
            if aspect not in ignore and getattr(ours, aspect) != getattr(theirs, aspect):
                found.append(Difference(path, aspect, getattr(ours, aspect), getattr(theirs, aspect)))
        far = abs(ours.allocated - theirs.allocated) > max(1 << 16, max(ours.allocated, theirs.allocated) // 4)
        if allocation and stat.S_ISREG(ours.mode) and far:
            found.append(Difference(path, "allocated", ours.allocated, theirs.allocated))
    return found


def rsync_oracle(source: AnyPath, target: AnyPath, *, exclude: Iterable[str] = ()) -> list[str]:
    """What rsync would change to make the target equal, one itemized line each; nothing means equal.

    Leaves out the path beyond PATH_MAX of `trees.DEEP`, which rsync refuses, and in an emulated machine `trees.HUGE`,
    of which it reads every hole. Raises RuntimeError when rsync fails.
    """
    if SLOW > 1:
        exclude = (*exclude, HUGE.decode())
    left, right = os.fsencode(source) + b"/", os.fsencode(target) + b"/"
    options = [f"--exclude={pattern}" for pattern in (f"{DEEP.decode()}/*", *exclude)]
    done = subprocess.run([*RSYNC, *options, left, right], capture_output=True, check=False, timeout=600 * SLOW)
    if done.returncode != 0:
        raise RuntimeError(f"rsync: exit {done.returncode}: {done.stderr.decode(errors='replace')}")
    return [os.fsdecode(line) for line in done.stdout.splitlines() if line]


def assert_equal(source: AnyPath, target: AnyPath) -> None:
    """Both verdicts, or an AssertionError that lists the first differences."""
    found = [str(difference) for difference in compare_trees(source, target)]
    found += [f"rsync: {line}" for line in rsync_oracle(source, target)]
    assert not found, f"{len(found)} differences:\n" + "\n".join(found[:40])


def _open(parent: int, name: bytes) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=parent)
    except PermissionError:  # O_NOATIME is for the owner and root only (open(2))
        return os.open(name, flags, dir_fd=parent)


def _optional(read, fd: int) -> int:  # type: ignore[no-untyped-def]
    """A value that some file systems do not have: 0 there."""
    try:
        return int(read(fd))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return 0


def _digest(fd: int) -> str:
    """SHA-256 over the blocks of 64 KiB that hold a byte other than zero: holes and written zeros read the same."""
    size = os.fstat(fd).st_size
    digest = hashlib.sha256(b"%d" % size)
    position = 0
    while position < size:
        try:
            position = os.lseek(fd, position, os.SEEK_DATA) // _BLOCK * _BLOCK
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole up to the end
        block = os.pread(fd, _BLOCK, position)
        if block.strip(b"\0"):
            digest.update(b"%d:" % position)
            digest.update(block)
        position += _BLOCK
    return digest.hexdigest()

"""The canary: one of each operation in a scratch directory, and which of them the capture saw.

A hook that attaches need not fire (Linux 5.10 inlines vfs_rmdir: attached, no events), so a mode is trusted only for
what arrived here, on this kernel, on this file system. Each operation is judged alone, between two sync marks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import struct
import time
from collections.abc import Callable
from mmap import mmap
from typing import NamedTuple

from livelift.model.entry import object_id
from livelift.model.record import Kind
from livelift.platform.linux.files import KEEP_SIZE, PUNCH_HOLE, RENAME_EXCHANGE, fallocate, renameat2
from livelift.platform.linux.inode_flags import NODUMP, get_flags, set_flags
from livelift.ports import Capture, Dirty, Event, Exact, Lost, Named, Synced, WatchedVolume

PATIENCE = 5.0
"""Seconds to wait for a sync mark. It comes within 10 us on an idle machine; a busy queue is read at 200,000/s."""

SIZE = 8192


class CanaryReport(NamedTuple):
    """``seen`` and ``missed`` are names of OPERATIONS; ``not_tried`` pairs of such a name and the reason. ``exact``:
    those of ``seen`` that came as records, not only as marks."""

    mode: str
    seen: frozenset[str]
    missed: frozenset[str]
    not_tried: tuple[tuple[str, str], ...]
    exact: frozenset[str] = frozenset()


class _Scratch:
    """The stage: directory ``path`` with a file "file", "other", "victim", an empty directory "sub"."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        os.mkdir(path, 0o700)
        os.mkdir(path + b"/sub")
        for name in (b"file", b"other", b"victim"):
            with open(path + b"/" + name, "wb") as file:
                file.write(bytes(SIZE))
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.file = os.open(path + b"/file", os.O_RDWR)

    def append(self) -> None:
        fd = os.open(b"file", os.O_WRONLY | os.O_APPEND, dir_fd=self.fd)
        try:
            os.write(fd, b"append")
        finally:
            os.close(fd)

    def create(self) -> None:
        os.close(os.open(b"created", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=self.fd))

    def store(self) -> None:
        with mmap(self.file, SIZE) as mapped:
            mapped[:5] = b"store"
            mapped.flush()

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        renameat2(self.fd, old, self.fd, new, flags)

    def setxattr(self, name: str, value: bytes) -> None:
        os.setxattr(self.file, name, value)

    def close(self) -> None:
        os.close(self.file)
        os.close(self.fd)
        shutil.rmtree(self.path)


NAME, CONTENT, ATTRIBUTES = "name", "content", "attributes"

_NOBODY = 0xFFFFFFFF
_ENTRIES = ((1, 6, _NOBODY), (2, 4, 1), (4, 4, _NOBODY), (16, 4, _NOBODY), (32, 0, _NOBODY))
_ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in _ENTRIES)
"""posix_acl_xattr.h, version 2: user::rw-, user:1:r--, group::r--, mask::r--, other::---."""

OPERATIONS: dict[str, tuple[str, Callable[[_Scratch], object]]] = {
    "create": (NAME, _Scratch.create),
    "write": (CONTENT, lambda s: os.pwrite(s.file, b"write", 100)),
    "append": (CONTENT, _Scratch.append),
    "truncate": (CONTENT, lambda s: os.ftruncate(s.file, SIZE + 100)),
    "allocate": (CONTENT, lambda s: fallocate(s.file, 0, 0, 4 * SIZE)),
    "punch": (CONTENT, lambda s: fallocate(s.file, PUNCH_HOLE | KEEP_SIZE, 4096, 4096)),
    "mmap": (CONTENT, _Scratch.store),
    "rename": (NAME, lambda s: s.rename(b"created", b"renamed")),
    "rename-over": (NAME, lambda s: s.rename(b"renamed", b"victim")),
    "exchange": (NAME, lambda s: s.rename(b"other", b"victim", RENAME_EXCHANGE)),
    "link": (NAME, lambda s: os.link(b"file", b"link", src_dir_fd=s.fd, dst_dir_fd=s.fd)),
    "symlink": (NAME, lambda s: os.symlink(b"file", b"symlink", dir_fd=s.fd)),
    "mknod": (NAME, lambda s: os.mkfifo(b"fifo", dir_fd=s.fd)),
    "unlink": (NAME, lambda s: os.unlink(b"victim", dir_fd=s.fd)),
    "mkdir": (NAME, lambda s: os.mkdir(b"directory", dir_fd=s.fd)),
    "rmdir": (NAME, lambda s: os.rmdir(b"sub", dir_fd=s.fd)),
    "chmod": (ATTRIBUTES, lambda s: os.fchmod(s.file, 0o640)),
    "chown": (ATTRIBUTES, lambda s: os.fchown(s.file, 1, 1)),
    "utimes": (ATTRIBUTES, lambda s: os.utime(s.file, ns=(1, 1))),
    "setxattr": (ATTRIBUTES, lambda s: s.setxattr("trusted.livelift", b"1")),
    "acl": (ATTRIBUTES, lambda s: s.setxattr("system.posix_acl_access", _ACL)),
    "removexattr": (ATTRIBUTES, lambda s: os.removexattr(s.file, "trusted.livelift")),
    "inode-flags": (ATTRIBUTES, lambda s: set_flags(s.file, get_flags(s.file) ^ NODUMP)),
}
"""Name of the operation: what kind of event must come, and how it is done. Later ones use what earlier ones made."""

_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENODATA)


def sing(capture: Capture, volume: WatchedVolume, directory: bytes = b"") -> CanaryReport:
    """Start ``capture`` on this volume alone, try every operation in a new directory, close it. Leaves nothing behind.

    ``directory``: where on the volume, if not at its mountpoint; its times change as by any file that is made there, so
    this belongs before the walk. A volume that cannot be written is not tried.
    """
    path = (directory or volume.mountpoint) + b"/.livelift-canary-" + os.urandom(6).hex().encode()
    try:
        scratch = _Scratch(path)
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
        reason = error.strerror or str(error)
        return CanaryReport(capture.name, frozenset(), frozenset(), tuple((name, reason) for name in OPERATIONS))
    try:
        capture.start([volume], lambda _: False)
        try:
            return _try_all(capture, volume, scratch)
        finally:
            capture.close()
    finally:
        scratch.close()


def _try_all(capture: Capture, volume: WatchedVolume, scratch: _Scratch) -> CanaryReport:
    parent = object_id(volume.index, os.fstat(scratch.fd).st_ino)
    file = object_id(volume.index, os.fstat(scratch.file).st_ino)
    capture.watch_directory(parent, scratch.path)
    seen: set[str] = set()
    exact: set[str] = set()
    not_tried: list[tuple[str, str]] = []
    for number, (name, (wanted, operation)) in enumerate(OPERATIONS.items(), 1):
        _until(capture, 2 * number)
        try:
            operation(scratch)
        except OSError as error:
            if error.errno not in _UNSUPPORTED and not isinstance(error, FileNotFoundError):
                raise
            not_tried.append((name, error.strerror or str(error)))
            continue
        came = [event for event in _until(capture, 2 * number + 1) if _kind(event, parent, file) == wanted]
        if came:
            seen.add(name)
        if any(isinstance(event, Exact) for event in came):
            exact.add(name)
    missed = OPERATIONS.keys() - seen - {name for name, _ in not_tried}
    return CanaryReport(capture.name, frozenset(seen), frozenset(missed), tuple(not_tried), frozenset(exact))


def _until(capture: Capture, token: int) -> list[Event]:
    """Everything that happened before now; less if the mark does not come in time."""
    capture.sync(token)
    events: list[Event] = []
    deadline = time.monotonic() + PATIENCE
    while (remaining := deadline - time.monotonic()) > 0:
        got = capture.read(remaining)
        if Synced(token) in got:
            return events + got[: got.index(Synced(token))]
        events += got
    return events


def _kind(event: Event, parent: int, file: int) -> str:
    """What sort of change on our stage the event reports; nothing if it is not about our stage."""
    match event:
        case Named():
            return NAME if parent in (event.parent, event.new_parent) else ""
        case Dirty():
            ours = event.oid == file or (event.parent, event.name) == (parent, b"file")
            return (CONTENT if event.content else ATTRIBUTES) if ours else ""
        case Exact():
            body, kind = event.record.body, event.record.kind
            if kind < Kind.BASE_FILE:
                return NAME if parent in (getattr(body, "parent", 0), getattr(body, "new_parent", 0)) else ""
            if getattr(body, "oid", 0) != file:
                return ""
            return CONTENT if kind < Kind.ATTRIBUTES else ATTRIBUTES
        case Lost() | Synced():
            return ""

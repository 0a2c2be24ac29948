"""Content records: base files, writes, truncations, holes, clones. Each finds its file by (parent, name), or open
already."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, cast

from livelift.model.record import BaseFile, Kind, Range, Record, Reflink
from livelift.platform.linux.files import (
    COLLAPSE_RANGE,
    INSERT_RANGE,
    KEEP_SIZE,
    PUNCH_HOLE,
    ZERO_RANGE,
    clone_range,
    fallocate,
)
from livelift.replay import attributes
from livelift.replay.directories import Directory
from livelift.replay.hands import Hands
from livelift.replay.open_files import OPEN_FLAGS, OpenFile, write_all

CREATE_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNABLE: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_ZEROS: Final = memoryview(bytes(1 << 20))


def open_regular(directory: Directory, name: bytes) -> int:
    """Open an existing regular file for reading and writing. ENXIO for anything else: opening a device node runs its
    driver, opening a FIFO may wait for ever."""
    if not stat.S_ISREG(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode):
        raise OSError(errno.ENXIO, "no regular file")
    return os.open(name, OPEN_FLAGS, dir_fd=directory.fd)


def create_or_open(hands: Hands, directory: Directory, name: bytes, mode: int, nlink: int) -> tuple[int, bool]:
    """An open regular file, and whether it is a new one. What is in the way and no directory is removed, and so is a
    file with more names than the source's has: writing to it would change another file."""
    try:
        return os.open(name, CREATE_FLAGS, mode & 0o777, dir_fd=directory.fd), True
    except FileExistsError:
        status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= max(nlink, 1):
        return os.open(name, OPEN_FLAGS, dir_fd=directory.fd), False
    os.unlink(name, dir_fd=directory.fd)  # EISDIR: becomes a conflict
    return os.open(name, CREATE_FLAGS, mode & 0o777, dir_fd=directory.fd), True


def file_of(hands: Hands, directory: Directory, oid: int, name: bytes) -> OpenFile:
    file = hands.files.get(oid)
    return hands.files.put(oid, open_regular(directory, name)) if file is None else file


def base_file(hands: Hands, directory: Directory, record: Record) -> None:
    """A whole file: fresh, or changed in place (5 times cheaper than a temporary name; nobody reads a replica)."""
    body = cast(BaseFile, record.body)
    name = body.name
    a = body.attributes
    hands.files.drop(body.oid)
    fd, new = create_or_open(hands, directory, name, a.mode, a.nlink)
    try:
        if new:
            hands.made += 1
            if a.flags:
                attributes.early_flags(hands, directory, name, fd, a.flags)
        if not record.elided:
            _fill(fd, body, record.payload, new)
            hands.bytes += len(record.payload)
        if new:
            attributes.fresh(hands, directory, name, fd, a)
        else:
            attributes.complete(hands, directory, name, fd, a)
    finally:
        os.close(fd)


def _fill(fd: int, body: BaseFile, payload: bytes | bytearray | memoryview, new: bool) -> None:
    size = body.attributes.size
    extents = body.extents
    end = 0
    if new and len(extents) == 1 and extents[0][0] == 0:  # nearly every small file
        end = os.write(fd, payload)
        if end < len(payload):
            write_all(fd, memoryview(payload)[end:], end)
            end = len(payload)
    else:
        data = memoryview(payload)
        at = 0
        for offset, length in extents:
            if not new and offset > end:
                fallocate_or_zero(fd, KEEP_SIZE | PUNCH_HOLE, end, min(offset, size) - end)
            write_all(fd, data[at : at + length], offset)
            at += length
            end = offset + length
        if not new and end < size:
            fallocate_or_zero(fd, KEEP_SIZE | PUNCH_HOLE, end, size - end)
    if end != size or not new:
        os.ftruncate(fd, size)
    for offset, length in body.allocated:
        _allocate(fd, offset, length)


def base_begin(hands: Hands, directory: Directory, record: Record) -> None:
    """From here on the file's content is in pieces until BASE_END: start from an empty one."""
    body = cast(BaseFile, record.body)
    a = body.attributes
    hands.files.drop(body.oid)
    fd, new = create_or_open(hands, directory, body.name, a.mode, a.nlink)
    hands.files.put(body.oid, fd)
    if new:
        hands.made += 1
        attributes.early_flags(hands, directory, body.name, fd, a.flags)
    else:
        os.ftruncate(fd, 0)


def base_end(hands: Hands, directory: Directory, record: Record) -> None:
    """The size, the reserved ranges and the attributes. Holes are where nothing was written since BASE_BEGIN."""
    body = cast(BaseFile, record.body)
    fd = file_of(hands, directory, body.oid, body.name).buffered()
    os.ftruncate(fd, body.attributes.size)
    for offset, length in body.allocated:
        _allocate(fd, offset, length)
    attributes.complete(hands, directory, body.name, fd, body.attributes)
    hands.files.drop(body.oid)


def write(hands: Hands, directory: Directory, record: Record) -> None:
    """WRITE and BASE_EXTENT. Flags 1: the size stays, what is beyond it is left out."""
    if record.elided:
        return
    body = cast(Range, record.body)
    file = file_of(hands, directory, body.oid, body.name)
    payload = memoryview(record.payload)
    if body.flags & 1:
        payload = payload[: max(os.fstat(file.fd).st_size - body.offset, 0)]
    file.write(payload, body.offset)
    hands.bytes += len(payload)


def truncate(hands: Hands, directory: Directory, record: Record) -> None:
    body = cast(Range, record.body)
    os.ftruncate(file_of(hands, directory, body.oid, body.name).buffered(), body.offset)


def allocate(hands: Hands, directory: Directory, record: Record) -> None:
    body = cast(Range, record.body)
    fd = file_of(hands, directory, body.oid, body.name).buffered()
    if not _allocate(fd, body.offset, body.length):
        hands.note("lost-allocation", OSError(errno.EOPNOTSUPP, ""), directory, body.name)
    end = body.offset + body.length
    if not body.flags & 1 and os.fstat(fd).st_size < end:
        os.ftruncate(fd, end)


def punch(hands: Hands, directory: Directory, record: Record) -> None:
    body = cast(Range, record.body)
    fd = file_of(hands, directory, body.oid, body.name).buffered()
    fallocate_or_zero(fd, KEEP_SIZE | PUNCH_HOLE, body.offset, body.length)


def zero(hands: Hands, directory: Directory, record: Record) -> None:
    """FALLOC_FL_ZERO_RANGE; flags 1 = the size stays."""
    body = cast(Range, record.body)
    fd = file_of(hands, directory, body.oid, body.name).buffered()
    fallocate_or_zero(fd, KEEP_SIZE | ZERO_RANGE, body.offset, body.length)
    end = body.offset + body.length
    if not body.flags & 1 and os.fstat(fd).st_size < end:
        os.ftruncate(fd, end)


def shift(hands: Hands, directory: Directory, record: Record) -> None:
    """COLLAPSE and INSERT. A file system without them, or with bigger blocks, refuses: the caller makes it a
    conflict."""
    body = cast(Range, record.body)
    fd = file_of(hands, directory, body.oid, body.name).buffered()
    mode = COLLAPSE_RANGE if record.kind is Kind.COLLAPSE else INSERT_RANGE
    fallocate(fd, mode, body.offset, body.length)


def reflink(hands: Hands, directory: Directory, source: Directory, record: Record) -> None:
    """Share the source's blocks, or copy them where this file system cannot."""
    body = cast(Reflink, record.body)
    to = file_of(hands, directory, body.oid, body.name)
    other = os.open(body.source_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source.fd)
    try:
        if not stat.S_ISREG(os.fstat(other).st_mode):
            raise OSError(errno.ENXIO, "no regular file")
        try:
            clone_range(to.fd, other, body.source_offset, body.length, body.offset)
        except OSError as error:
            if error.errno not in _UNABLE | {errno.EXDEV, errno.ENOTTY}:
                raise
            copy_range(other, to, body.source_offset, body.length, body.offset)
            hands.note("lost-reflink", error, directory, body.name)
    finally:
        os.close(other)


def copy_range(source: int, to: OpenFile, source_offset: int, length: int, offset: int) -> None:
    """Copy up to the source's end (``length`` 0: all of it)."""
    end = os.fstat(source).st_size
    if length:
        end = min(end, source_offset + length)
    while source_offset < end:
        data = os.pread(source, min(1 << 20, end - source_offset), source_offset)
        if not data:
            break
        to.write(memoryview(data), offset)
        source_offset += len(data)
        offset += len(data)


def fallocate_or_zero(fd: int, mode: int, offset: int, length: int) -> None:
    """Make a range read as zeros without changing the size, with real zeros where fallocate(2) cannot do it."""
    if length <= 0:
        return
    try:
        fallocate(fd, mode, offset, length)
        return
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
    end = min(offset + length, os.fstat(fd).st_size)
    while offset < end:
        part = _ZEROS[: end - offset]
        write_all(fd, part, offset)
        offset += len(part)


def _allocate(fd: int, offset: int, length: int) -> bool:
    try:
        fallocate(fd, KEEP_SIZE, offset, length)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        return False
    return True

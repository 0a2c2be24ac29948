"""Operations on what a file holds; each takes the generator, does one thing and returns what it did."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

from tests.oracle import syscalls

if TYPE_CHECKING:
    from tests.oracle.ops import RandomOps


def create(ops: RandomOps) -> object:
    path, content = ops.new_name(), ops.content()
    with ops.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY) as file:
        os.write(file.fd, content)
    ops.files.append(path)
    return path


def rewrite(ops: RandomOps) -> object:
    path = ops.file()
    with ops.open(path, os.O_WRONLY | os.O_TRUNC) as file:
        os.write(file.fd, ops.content())
    return path


def pwrite(ops: RandomOps) -> object:
    path, offset, content = ops.file(), ops.offset(), ops.content()
    with ops.open(path, os.O_WRONLY) as file:
        os.pwrite(file.fd, content, offset)
    return path, offset, len(content)


def append(ops: RandomOps) -> object:
    path, content = ops.file(), ops.content(2000)
    with ops.open(path, os.O_WRONLY | os.O_APPEND) as one, ops.open(path, os.O_WRONLY | os.O_APPEND) as two:
        os.write(one.fd, content)  # two writers, as two processes with one log
        os.write(two.fd, content[::-1])
        os.write(one.fd, b"\n")
    return path, len(content)


def truncate(ops: RandomOps) -> object:
    path, size = ops.file(), ops.offset()
    os.truncate(ops.at(path), size)
    return path, size


def down_and_up(ops: RandomOps) -> object:
    """What lay between must read as zeros afterwards."""
    path, size = ops.file(), ops.offset()
    with ops.open(path, os.O_RDWR) as file:
        os.ftruncate(file.fd, size // 3)
        os.ftruncate(file.fd, size)
    return path, size


def direct_write(ops: RandomOps) -> object:
    path, blocks = ops.file(), 1 + ops.random.randrange(8)
    offset, content = ops.random.randrange(16) * 4096, ops.random.randbytes(blocks * 4096)
    with mmap.mmap(-1, blocks * 4096) as memory, ops.open(path, os.O_WRONLY | os.O_DIRECT) as file:
        memory.write(content)
        os.pwrite(file.fd, memory, offset)
    return path, offset, blocks


def mmap_store(ops: RandomOps) -> object:
    """Stores through a new mapping, or an old one: those may change content without a new mtime or any event."""
    if ops.maps and ops.random.random() < 0.5:
        mapping = ops.random.choice(ops.maps)
        mapping[ops.random.randrange(len(mapping))] = ops.random.randrange(256)
        return "kept", len(mapping)
    path = ops.file()
    with ops.open(path, os.O_RDWR) as file:
        if os.fstat(file.fd).st_size < 5000:
            os.ftruncate(file.fd, 5000)
        mapping = mmap.mmap(file.fd, 4096)
    mapping[ops.random.randrange(4096)] = ops.random.randrange(256)
    if len(ops.maps) < 4 and ops.random.random() < 0.3:
        # A kept mapping of a file that shrinks below a page would fault with SIGBUS: give it a file of its own.
        mapping.close()
        path = ops.new_name(b"")
        with ops.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR) as file:
            os.ftruncate(file.fd, 4096)
            ops.maps.append(mmap.mmap(file.fd, 4096))
        ops.others.append(path)  # not among the files: nobody truncates it
    else:
        mapping.close()
    return path


def punch(ops: RandomOps) -> object:
    return ops.range_mode(syscalls.FALLOC_PUNCH | syscalls.FALLOC_KEEP_SIZE)


def zero(ops: RandomOps) -> object:
    return ops.range_mode(syscalls.FALLOC_ZERO)


def allocate(ops: RandomOps) -> object:
    return ops.range_mode(0)


def allocate_keep(ops: RandomOps) -> object:
    return ops.range_mode(syscalls.FALLOC_KEEP_SIZE)


def collapse(ops: RandomOps) -> object:
    return ops.range_mode(syscalls.FALLOC_COLLAPSE)


def insert(ops: RandomOps) -> object:
    return ops.range_mode(syscalls.FALLOC_INSERT)


def copy_range(ops: RandomOps) -> object:
    one, two = ops.file(), ops.file()
    with ops.open(one, os.O_RDONLY) as source, ops.open(two, os.O_RDWR) as target:
        size = os.fstat(source.fd).st_size // 4096 * 4096
        if one != two and size:
            os.copy_file_range(source.fd, target.fd, size, 0, ops.random.randrange(8) * 4096)
    return one, two


def reflink(ops: RandomOps) -> object:
    one, path = ops.file(), ops.new_name()
    with ops.open(one, os.O_RDONLY) as source, ops.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR) as target:
        ops.files.append(path)
        syscalls.clone_range(target.fd, 0, source.fd, 0, 0)  # length 0: all of it
    return one, path


def copytruncate(ops: RandomOps) -> object:
    """logrotate's copytruncate: the log is copied and cut while its writer keeps the descriptor (O_APPEND)."""
    path = ops.file()
    rotated = ops.new_name(os.path.dirname(path))
    with (
        ops.open(path, os.O_RDWR | os.O_APPEND) as writer,
        ops.open(rotated, os.O_CREAT | os.O_EXCL | os.O_WRONLY) as copy,
    ):
        os.write(writer.fd, b"before rotation\n")
        os.write(copy.fd, os.pread(writer.fd, 1 << 20, 0))
        os.ftruncate(writer.fd, 0)
        os.write(writer.fd, b"after rotation\n")
    ops.files.append(rotated)
    return path, rotated

"""One file, exercised at random beside a bytearray that says what it must hold: an own, small fsx."""

from __future__ import annotations

import mmap
import os
import random
from collections import Counter
from pathlib import Path

from tests.oracle import syscalls
from tests.oracle.ops import UNSUPPORTED

_BLOCK = 4096


class FileExerciser:
    """Writes, cuts, punches and moves ranges of one new file and checks what it reads against ``expected``."""

    KINDS = (
        "write",
        "write",
        "append",
        "truncate",
        "read",
        "mmap_write",
        "direct",
        "punch",
        "zero",
        "keep_size",
        "collapse",
        "insert",
        "clone",
    )

    def __init__(self, path: bytes | str | Path, seed: int, *, max_size: int = 256 << 10) -> None:
        self.path = os.fsencode(path)
        self.random = random.Random(seed)
        self.max_size = max_size
        self.expected = bytearray()
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self._fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)

    def run(self, count: int) -> None:
        """``count`` operations; AssertionError as soon as the file system itself reads back something else."""
        for _ in range(count):
            kind = self.random.choice(self.KINDS)
            try:
                done = getattr(self, "_" + kind)()
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                self.skipped[kind] += 1
            else:
                self.counts[kind] += done
        self.check(self.path)

    def check(self, path: bytes | str | Path) -> None:
        """The file behind this path (the source's, or its replica) holds exactly what it must."""
        with open(os.fsencode(path), "rb") as file:
            content = file.read()
        expected = bytes(self.expected)
        if content != expected:
            size = min(len(content), len(expected))
            first = next((i for i in range(size) if content[i] != expected[i]), size)
            raise AssertionError(
                f"{path!r}: {len(content)} bytes, expected {len(expected)}; first difference at {first}"
            )

    def close(self) -> None:
        os.close(self._fd)

    def _range(self) -> tuple[int, int]:
        offset = self.random.randrange(self.max_size)
        return offset, 1 + self.random.randrange(min(60_000, self.max_size - offset))

    def _blocks(self) -> tuple[int, int]:
        """A range of whole blocks inside the file, or (0, 0)."""
        blocks = len(self.expected) // _BLOCK
        if blocks < 3:
            return 0, 0
        first = self.random.randrange(blocks - 1)
        return first * _BLOCK, (1 + self.random.randrange(min(8, blocks - 1 - first))) * _BLOCK

    def _grow(self, size: int) -> None:
        if size > len(self.expected):
            self.expected.extend(bytes(size - len(self.expected)))

    def _put(self, offset: int, data: bytes) -> None:
        self._grow(offset + len(data))
        self.expected[offset : offset + len(data)] = data

    def _write(self) -> bool:
        offset, length = self._range()
        data = self.random.randbytes(length)
        os.pwrite(self._fd, data, offset)
        self._put(offset, data)
        return True

    def _append(self) -> bool:
        if len(self.expected) > self.max_size:
            return False
        data = self.random.randbytes(1 + self.random.randrange(5000))
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        self.expected += data
        return True

    def _truncate(self) -> bool:
        size = self.random.randrange(self.max_size)
        os.ftruncate(self._fd, size)
        del self.expected[size:]
        self._grow(size)
        return True

    def _read(self) -> bool:
        offset, length = self._range()
        assert os.pread(self._fd, length, offset) == self.expected[offset : offset + length], f"read back at {offset}"
        return True

    def _mmap_write(self) -> bool:
        if not self.expected:
            return False
        with mmap.mmap(self._fd, len(self.expected)) as mapping:
            offset = self.random.randrange(len(self.expected))
            data = self.random.randbytes(min(9000, len(self.expected) - offset))
            mapping[offset : offset + len(data)] = data
        self._put(offset, data)
        return True

    def _direct(self) -> bool:
        offset, length = (
            self.random.randrange(self.max_size) // _BLOCK * _BLOCK,
            (1 + self.random.randrange(8)) * _BLOCK,
        )
        data = self.random.randbytes(length)
        fd = os.open(self.path, os.O_WRONLY | os.O_DIRECT)
        try:
            with mmap.mmap(-1, length) as memory:
                memory.write(data)
                os.pwrite(fd, memory, offset)
        finally:
            os.close(fd)
        self._put(offset, data)
        return True

    def _punch(self) -> bool:
        offset, length = self._range()
        syscalls.fallocate(self._fd, syscalls.FALLOC_PUNCH | syscalls.FALLOC_KEEP_SIZE, offset, length)
        end = min(offset + length, len(self.expected))
        if end > offset:
            self.expected[offset:end] = bytes(end - offset)
        return True

    def _zero(self) -> bool:
        offset, length = self._range()
        syscalls.fallocate(self._fd, syscalls.FALLOC_ZERO, offset, length)
        self._put(offset, bytes(length))
        return True

    def _keep_size(self) -> bool:
        syscalls.fallocate(self._fd, syscalls.FALLOC_KEEP_SIZE, *self._range())
        return True

    def _collapse(self) -> bool:
        offset, length = self._blocks()
        if not length:
            return False
        syscalls.fallocate(self._fd, syscalls.FALLOC_COLLAPSE, offset, length)
        del self.expected[offset : offset + length]
        return True

    def _insert(self) -> bool:
        offset, length = self._blocks()
        if not length or len(self.expected) > self.max_size:
            return False
        syscalls.fallocate(self._fd, syscalls.FALLOC_INSERT, offset, length)
        self.expected[offset:offset] = bytes(length)
        return True

    def _clone(self) -> bool:
        """Share a range of the file with another place in it (btrfs, XFS)."""
        offset, length = self._blocks()
        target = (len(self.expected) // _BLOCK + 1) * _BLOCK
        if not length or target > self.max_size:
            return False
        syscalls.clone_range(self._fd, target, self._fd, offset, length)
        self._put(target, bytes(self.expected[offset : offset + length]))
        return True

"""The cache of open files: bounded, and one file whichever way it is written."""

from __future__ import annotations

import mmap
import os
import random
from pathlib import Path

import pytest

from livelift.replay.open_files import OpenFiles
from tests.replay.conftest import Place

K = 1024


@pytest.mark.root
def test_direct_and_buffered_writes_meet(ext4: Place) -> None:
    """Big aligned writes go round the page cache, small ones through it; the file must not tell the difference."""
    rng = random.Random(2)
    blob = mmap.mmap(-1, 2 << 20)
    expected = bytearray(6 << 20)
    files = OpenFiles()
    fd = os.open(ext4.path(b"file"), os.O_RDWR | os.O_CREAT)
    file = files.put(1, fd)
    direct = 0
    for _ in range(60):
        size = rng.choice([10, 4 * K, 1 << 20, (1 << 20) + 100, 2 << 20])
        offset = rng.randrange((6 << 20) - size)
        if rng.random() < 0.7:
            offset -= offset % (4 * K)
        blob[:size] = rng.randbytes(size)
        shift = rng.choice([0, 0, 1]) if size < 2 << 20 else 0  # memory that is not aligned
        data = bytes(blob[:size])
        if shift:
            blob[1 : size + 1] = data
        with memoryview(blob)[shift : size + shift] as part:
            file.write(part, offset)
        direct += file.direct
        expected[offset : offset + size] = data
    assert direct > 5
    os.ftruncate(fd, len(expected))
    files.close()
    assert Path(os.fsdecode(ext4.path(b"file"))).read_bytes() == expected


def test_the_oldest_is_closed_first(tmp_path: Path) -> None:
    files = OpenFiles(2)
    fds = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in "abc"]
    files.put(1, fds[0])
    files.put(2, fds[1])
    assert files.get(1) is not None
    files.put(3, fds[2])
    assert (len(files), files.get(2)) == (2, None)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[1])
    files.drop(1)
    files.drop(99)
    assert len(files) == 1
    files.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

"""Marks: LSNs in the times of a file, near enough to the checkpoint to be told apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.replay.progress import Progress, _mountpoints_below, _unescape, _widen
from livelift.replay.trouble import ReplicaError
from tests.loopfs import loop_filesystem


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@given(near=st.integers(0, 1 << 60), away=st.integers(-(1 << 30), (1 << 30) - 1))
def test_the_low_bits_are_enough(near: int, away: int) -> None:
    lsn = near + away
    if lsn >= 0:
        assert _widen(lsn & (1 << 31) - 1, near) == lsn


def test_marks_are_found_again(tmp_path: Path, top: int) -> None:
    made = Progress([top, top], [bytes(tmp_path)] * 2, "e", 1 << 40)
    (mark,) = made.marks  # two maps on one file system share one
    assert (mark.begun, mark.done) == (1 << 40, 1 << 40)
    mark.begin((1 << 40) + 7)
    made.close()
    made = Progress([top], [bytes(tmp_path)], "e", (1 << 40) + 1)
    (mark,) = made.marks
    assert (mark.begun, mark.done, made.begun) == ((1 << 40) + 7, 1 << 40, (1 << 40) + 7)
    mark.begin((1 << 40) + 9, 4711, done=(1 << 40) + 7)
    made.close()
    made = Progress([top], [bytes(tmp_path)], "e", (1 << 40) + 1)
    (mark,) = made.marks
    assert (mark.done, mark.doubt(5), mark.doubt((1 << 40) + 9)) == ((1 << 40) + 7, None, 4711)
    mark.end((1 << 40) + 9)
    assert mark.doubt((1 << 40) + 9) is None
    made.sync((1 << 40) + 8)  # a checkpoint behind the mark does not turn it back
    assert mark.begun == (1 << 40) + 9
    made.close()
    made = Progress([top], [bytes(tmp_path)], "another job", 3)
    assert made.begun == 3
    made.clear()
    made.close()
    assert os.listdir(tmp_path) == []


def test_a_file_where_our_directory_belongs(tmp_path: Path, top: int) -> None:
    (tmp_path / ".livelift").touch()
    with pytest.raises(ReplicaError, match="no directory"):
        Progress([top], [bytes(tmp_path)], "e", 0)


@pytest.mark.root
def test_a_file_system_mounted_below_is_synced_too(tmp_path: Path, top: int) -> None:
    with loop_filesystem("ext4", 8) as mounted:
        assert bytes(mounted) in _mountpoints_below([bytes(mounted.parent)])
        assert bytes(mounted) not in _mountpoints_below([bytes(mounted)])
        above = os.open(mounted.parent, os.O_RDONLY)
        made = Progress([above], [bytes(mounted.parent)], "e", 0)
        assert made.foreign and len(made._filesystems) == 2
        made.close()
        os.close(above)
    made = Progress([top], [bytes(tmp_path)], "e", 0)
    assert not made.foreign
    made.close()


def test_mountinfo_escapes() -> None:
    assert _unescape(rb"/a\040b\134c\011") == b"/a b\\c\t"

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livelift.errors import CorruptError
from livelift.spool.state import StateFile


def load(directory: bytes) -> tuple[int, int]:
    state = StateFile(directory)
    state.close()
    return state.acked, state.floor


def test_the_last_saved_state_holds(tmp_path: Path) -> None:
    directory = os.fsencode(tmp_path)
    assert load(directory) == (0, 0)
    state = StateFile(directory)
    for n in range(1, 6):
        state.save(n, n * 2)
        assert load(directory) == (n, n * 2)
    state.close()
    assert os.path.getsize(tmp_path / "state") == 1024, "it never grows: it can be written when the disk is full"


def test_an_interrupted_write_leaves_the_state_before(tmp_path: Path) -> None:
    directory = os.fsencode(tmp_path)
    state = StateFile(directory)
    state.save(7, 1)
    before = (tmp_path / "state").read_bytes()
    state.save(8, 2)
    state.close()
    after = (tmp_path / "state").read_bytes()
    for torn in [*range(1, 60), *range(500, 570), 1023]:
        (tmp_path / "state").write_bytes(after[:torn] + before[torn:])
        assert load(directory) in ((7, 1), (8, 2))
    (tmp_path / "state").write_bytes(before[:300])  # its making was interrupted
    assert load(directory) == (0, 0)


def test_two_damaged_copies_are_an_error(tmp_path: Path) -> None:
    StateFile(os.fsencode(tmp_path)).close()
    (tmp_path / "state").write_bytes(bytes(1024))
    with pytest.raises(CorruptError, match="both copies"):
        StateFile(os.fsencode(tmp_path))

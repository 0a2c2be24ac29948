from __future__ import annotations

import os
import stat

import pytest

from livelift.errors import StateError, StoreError, TrustError
from livelift.identity.files import read_private, write_private


def test_modes_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write_private(tmp_path / "a" / "keys", {"k": b"secret"})
    finally:
        os.umask(before)
    directory = tmp_path / "a" / "keys"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "k").stat().st_mode) == 0o600
    assert read_private(directory / "k") == b"secret"


def test_an_existing_directory_is_closed_to_others(tmp_path):
    tmp_path.chmod(0o755)
    write_private(tmp_path, {"k": b"1"})
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_replaced_whole_and_nothing_left_over(tmp_path, monkeypatch):
    write_private(tmp_path, {"k": b"old"})

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreError, match="No space"):
            write_private(tmp_path, {"k": b"new"})
    assert read_private(tmp_path / "k") == b"old"
    assert os.listdir(tmp_path) == ["k"]


def test_missing_and_too_open_files(tmp_path):
    with pytest.raises(StateError, match="pair the two machines"):
        read_private(tmp_path / "none")
    (tmp_path / "k").write_bytes(b"x")
    (tmp_path / "k").chmod(0o640)
    with pytest.raises(TrustError, match="chmod 600"):
        read_private(tmp_path / "k")

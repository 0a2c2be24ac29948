"""Which parts of a file differ, and what was kept of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from livelift.errors import WireError
from livelift.verify import cache as cache_module
from livelift.verify.cache import DigestCache
from livelift.verify.pieces import (
    LARGEST,
    MOST,
    NOT_KEPT,
    RIGHT,
    WRONG,
    Pieces,
    describe,
    differing,
    piece_of,
    read_pieces,
)
from tests.verify.helpers import verifier


def pieces(top: Path, name: str = "file", piece: int = 0) -> Pieces:
    fd = os.open(top, os.O_RDONLY)
    try:
        found = read_pieces(fd, os.fsencode(name), piece, None)
        assert found is not None
        return found
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 4096, 300_000, (8 << 20) + 1])
def test_a_file_is_like_itself(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(os.urandom(size))
    one = pieces(tmp_path)
    assert (one.size, one.names, one.kept) == (size, 1, NOT_KEPT)
    assert len(one.digests) // 16 == -(-size // one.piece) <= MOST
    assert differing(one, one) == []
    assert describe(one, one) == "no byte differs now"


def test_runs_of_bytes(tmp_path: Path) -> None:
    data = bytearray(os.urandom(5 << 20))
    (tmp_path / "file").write_bytes(data)
    piece = piece_of(len(data))
    assert piece == 8192
    for at in (0, 8192, 3 << 20, (5 << 20) - 1):
        data[at] ^= 1
    (tmp_path / "other").write_bytes(data + b"more")
    one, other = pieces(tmp_path), pieces(tmp_path, "other", piece)
    runs = [(0, 16384), (3 << 20, (3 << 20) + 8192), ((5 << 20) - 8192, (5 << 20) + 4)]
    assert differing(one, other) == differing(other, one) == runs
    assert describe(one, other) == "bytes 0-16384, 3145728-3153920, 5234688-5242884"


def test_more_runs_than_are_shown_and_names(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    (tmp_path / "other").write_bytes(b"".join(b"\0\1"[n % 2 : n % 2 + 1] * 4096 for n in range(24)) + bytes(1696))
    os.link(tmp_path / "other", tmp_path / "link")
    text = describe(pieces(tmp_path), pieces(tmp_path, "other"))
    assert text.endswith("and 8 more; 1 names | 2")


def test_what_is_no_file_and_what_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to("nowhere")
    fd = os.open(tmp_path, os.O_RDONLY)
    assert read_pieces(fd, b"file", 0, None) is None
    os.close(fd)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGEST + 1)
    large = pieces(tmp_path, "large")
    assert large.digests == b"" and large.size == LARGEST + 1
    assert describe(large, large) == "not looked at in pieces: too large, or too unlike"
    assert describe(None, large) == "no file on the source" and describe(large, None) == "no file on the target"


def test_the_other_side_has_no_say_in_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    fd = os.open(tmp_path, os.O_RDONLY)
    for piece in (-1, 1, 4096):
        found = read_pieces(fd, b"file", piece, None)
        assert found is not None and (found.piece, len(found.digests)) == (4096, 25 * 16)
    coarse = read_pieces(fd, b"file", 1 << 62, None)
    assert coarse is not None and len(coarse.digests) == 16
    assert "too unlike" in describe(found, coarse)
    os.close(fd)


def test_what_was_kept_is_said_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest that is kept under this very stamp, and is that of other bytes, can be seen from what is said."""
    monkeypatch.setattr(cache_module, "RACY", 0)
    (tmp_path / "below").mkdir()
    path = tmp_path / "below" / "file"
    path.write_bytes(b"text")
    time.sleep(0.05)
    cache = DigestCache()
    with verifier(tmp_path, cache) as side:

        def look() -> Pieces:
            found = side.pieces(0, b"below/file")
            assert found is not None
            return found

        assert look().kept == NOT_KEPT
        list(side.everything())
        assert len(cache) > 0
        before = side.counts.bytes_hashed
        list(side.everything())
        assert side.counts.bytes_hashed == before, "the cache vouches for it"
        kept = look()
        assert kept.kept == RIGHT
        assert look().kept == NOT_KEPT, "forgotten"
        list(side.everything())
        assert side.counts.bytes_hashed == before + 4, "so it is read again, and its directory does not vouch for it"
        status = path.stat()
        key = status.st_dev, status.st_ino
        cache.store([(key, cache.lookup([key])[key]._replace(content=bytes(32)))])
        assert look().kept == WRONG
        assert "a kept digest on the target, which is wrong" in describe(
            kept, kept.__class__(4, 1, WRONG, 4096, kept.digests)
        )
        with pytest.raises(WireError):
            side.pieces(7, b"below/file")
    cache.close()

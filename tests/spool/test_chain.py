"""What is found when a log is opened: damage anywhere, torn tails, missing and foreign files."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from livelift.errors import CorruptError
from livelift.model.record import Record
from livelift.spool.files import segment_names
from livelift.spool.repair import iterate, quarantine
from livelift.spool.spool import Spool
from tests.spool.helpers import JOB, base, drain, mark, unlink, write


@pytest.fixture
def directory(tmp_path: Path) -> bytes:
    """Three segments: LSNs 1..3, 4..6 and 7..9, the last one of one frame only."""
    directory = os.fsencode(tmp_path / "spool")
    with Spool(directory, JOB, segment_size=400) as spool:
        for n in range(3):
            spool.append([write(5, b"%d" % n * 99), base(6, b"base"), unlink(7)])
    assert [first for first, _ in segment_names(directory)] == [1, 4, 7]
    return directory


def segments(directory: bytes) -> list[bytes]:
    return [path for _, path in segment_names(directory)]


def reread(directory: bytes) -> list[Record]:
    with Spool(directory, JOB) as spool:
        return drain(spool, spool.acked_lsn)


def test_every_flipped_bit_of_every_segment_is_found(directory: bytes) -> None:
    original = list(iterate(directory))
    flipped = 0
    for path in segments(directory):
        good = Path(os.fsdecode(path)).read_bytes()
        with open(path, "r+b", buffering=0) as file:
            for bit in range(len(good) * 8):
                byte = good[bit // 8]
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit % 8]), bit // 8)
                with pytest.raises(CorruptError, match="segment 0"):
                    Spool(directory, JOB)
                shown = []
                with pytest.raises(CorruptError):
                    for record in iterate(directory):
                        shown.append(record)
                assert shown == original[: len(shown)]
                os.pwrite(file.fileno(), bytes([byte]), bit // 8)
                flipped += 1
    assert flipped > 5000
    assert reread(directory) == original


def test_every_flipped_bit_of_the_state_is_found_or_harmless(directory: bytes) -> None:
    with Spool(directory, JOB) as spool:
        spool.append([mark()])
        spool.acked(4)
    path = os.path.join(directory, b"state")
    good = Path(os.fsdecode(path)).read_bytes()
    accepted = set()
    padding = 8 * 40
    for bit in [*range(padding + 8), *range(512 * 8, 512 * 8 + padding + 8), len(good) * 8 - 1]:
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        Path(os.fsdecode(path)).write_bytes(damaged)
        try:
            with Spool(directory, JOB) as spool:
                accepted.add(spool.acked_lsn)
                assert [r.lsn for r in drain(spool, 4)] == [5, 6, 7, 8, 9, 10]
        except CorruptError as error:
            assert "missing" in str(error)
    assert accepted <= {0, 4}, "an older acknowledgement is true too; a made up one is not"
    Path(os.fsdecode(path)).write_bytes(b"\xff" * 1024)
    with pytest.raises(CorruptError, match="both copies"):
        Spool(directory, JOB)


def test_a_torn_tail_is_cut_off_at_every_byte(directory: bytes, tmp_path: Path) -> None:
    path = segments(directory)[-1]
    whole = os.path.getsize(path)
    copy = os.fsencode(tmp_path / "copy")
    for size in range(whole):
        shutil.copytree(directory, copy)
        os.truncate(segments(copy)[-1], size)
        assert [r.lsn for r in iterate(copy)] == [1, 2, 3, 4, 5, 6]
        with Spool(copy, JOB) as spool:
            assert spool.torn_bytes == (size - 128 if size >= 128 else size)
            assert spool.recovered_lsn == spool.last_lsn == 6
            assert spool.append([mark("next")]) == (7, 7)
        assert [r.lsn for r in reread(copy)] == [1, 2, 3, 4, 5, 6, 7]
        shutil.rmtree(copy)


@pytest.mark.parametrize("place", [0, 1])
def test_a_cut_anywhere_but_at_the_end_is_damage(directory: bytes, place: int) -> None:
    path = segments(directory)[place]
    whole = os.path.getsize(path)
    good = Path(os.fsdecode(path)).read_bytes()
    for size in (0, 50, 128, 130, 200, whole - 1):
        os.truncate(path, size)
        with pytest.raises(CorruptError):
            Spool(directory, JOB)
        Path(os.fsdecode(path)).write_bytes(good)


def test_the_error_names_file_offset_lsn_and_remedy(directory: bytes) -> None:
    path = segments(directory)[1]
    with open(path, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(CorruptError) as caught:
        Spool(directory, JOB)
    text = str(caught.value)
    assert re.search(r"segment 0{19}4\.seg, offset 128: .*first lost LSN 4", text)
    assert "livelift source --resync" in text


@pytest.mark.parametrize("place", [0, 1])
def test_a_missing_segment_is_found(directory: bytes, place: int) -> None:
    os.unlink(segments(directory)[place])
    with pytest.raises(CorruptError, match="missing" if place == 0 else "first lost LSN 4"):
        Spool(directory, JOB)


def test_a_missing_end_is_found_if_the_target_has_it(directory: bytes, tmp_path: Path) -> None:
    older = os.fsencode(tmp_path / "older")
    shutil.copytree(directory, older)
    with Spool(directory, JOB) as spool:
        spool.acked(8)
    shutil.copy(os.path.join(directory, b"state"), older)
    os.unlink(segments(older)[-1])
    with pytest.raises(CorruptError, match="ends at LSN 6, the target has up to 8"):
        Spool(older, JOB)


def test_swapped_segments_are_found(directory: bytes) -> None:
    one, two, _ = segments(directory)
    os.rename(one, one + b"x")
    os.rename(two, one)
    os.rename(one + b"x", two)
    with pytest.raises(CorruptError, match="LSN 4"):
        Spool(directory, JOB)


def test_a_segment_of_another_history_is_found(directory: bytes, tmp_path: Path) -> None:
    """Same job, same LSNs, every checksum right: only the chain knows."""
    other = os.fsencode(tmp_path / "other")
    with Spool(other, JOB, segment_size=400) as spool:
        for _ in range(3):
            spool.append([write(5, b"x" * 99), base(6, b"base"), unlink(7)])
    shutil.copy(segments(other)[1], segments(directory)[1])
    with pytest.raises(CorruptError, match="does not follow"):
        Spool(directory, JOB)


def test_a_log_of_another_job_is_not_taken(directory: bytes) -> None:
    with pytest.raises(CorruptError, match="of job '0123abcd'"):
        Spool(directory, "another")


def test_a_failed_opening_leaves_nothing_open(directory: bytes) -> None:
    os.truncate(segments(directory)[1], 50)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(CorruptError):
            Spool(directory, JOB)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("damage", ["segment", "first", "state", "all"])
def test_a_damaged_log_is_set_aside(directory: bytes, damage: str) -> None:
    with Spool(directory, JOB) as spool:
        spool.acked(2)
    if damage in ("segment", "all"):
        os.truncate(segments(directory)[1], 60)
    if damage in ("first", "all"):
        os.unlink(segments(directory)[0])
    if damage in ("state", "all"):
        Path(os.fsdecode(directory), "state").write_bytes(b"\xff" * 1024)
    kept = len(segments(directory))
    with pytest.raises(CorruptError):
        Spool(directory, JOB)
    aside = quarantine(directory)
    assert len(segments(aside)) == kept and not segments(directory)
    with Spool(directory, JOB) as spool:
        (gap,) = drain(spool, 2)
        assert gap.kind.name == "GAP" and gap.body.oid == 0
        assert gap.lsn > 9, "no number of the damaged log is used again"
        spool.append([mark()])
    with Spool(directory, JOB) as spool:
        assert [r.lsn for r in drain(spool, 9)] == [gap.lsn, gap.lsn + 1]

"""Data runs and records: what is right, and what must be refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.ntfs.errors import NtfsError
from livelift.ntfs.record import Run, parse_list, parse_record, parse_runs


def packed(runs: list[Run]) -> bytes:
    """Mapping pairs, by another way than the reader's."""
    out, last = b"", 0
    for run in runs:
        count = run.clusters.to_bytes((run.clusters.bit_length() + 7) // 8, "little")
        step = b""
        if run.lcn >= 0:
            delta = run.lcn - last
            step = delta.to_bytes(delta.bit_length() // 8 + 1, "little", signed=True)
            last = run.lcn
        out += bytes([len(step) << 4 | len(count)]) + count + step
    return out + b"\0"


@given(st.lists(st.tuples(st.one_of(st.just(-1), st.integers(0, 1 << 40)), st.integers(1, 1 << 30)), max_size=30))
def test_runs_come_back(places: list[tuple[int, int]]) -> None:
    runs, vcn = [], 0
    for lcn, clusters in places:
        runs.append(Run(vcn, lcn, clusters))
        vcn += clusters
    assert list(parse_runs(packed(runs), 0)) == runs


@pytest.mark.parametrize("raw", [b"\x10", b"\x01", b"\x11\x00\x00\x00", b"\x11\x01\xff\x00", b"\xff" + bytes(40)])
def test_damaged_runs_are_refused(raw: bytes) -> None:
    with pytest.raises(NtfsError):
        list(parse_runs(raw, 0))


@given(st.binary(max_size=200))
def test_nothing_but_an_ntfs_error_comes_of_anything(raw: bytes) -> None:
    for parse in (lambda: list(parse_runs(raw, 0)), lambda: parse_list(raw, 0), lambda: parse_record(raw, 0)):
        try:
            parse()
        except NtfsError:
            pass


@given(st.binary(min_size=60, max_size=1024))
def test_nothing_but_an_ntfs_error_comes_of_a_record_with_a_right_head(raw: bytes) -> None:
    head = b"FILE" + (42).to_bytes(2, "little") + (1).to_bytes(2, "little") + bytes(12) + (48).to_bytes(2, "little")
    try:
        parse_record((head + bytes(2) + len(raw).to_bytes(4, "little") + raw).ljust(1024, b"\0"), 7)
    except NtfsError:
        pass

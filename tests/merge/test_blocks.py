"""Block digests: applying the runs that differ to the old content gives the new content."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livelift.merge.blocks import DIGEST, HoleDigest, block_size, changed, digests

BLOCK = 4  # the comparison does not depend on the size; small ones meet every boundary


def digest_map(content: bytes, holes: frozenset[int]) -> bytes:
    """Digests as the reader makes them: a marker where a whole block is a hole."""
    plain = digests(content, BLOCK)
    return b"".join(
        HoleDigest.VALUE if i in holes else plain[i * DIGEST : i * DIGEST + DIGEST] for i in range(len(plain) // DIGEST)
    )


@st.composite
def sparse_contents(draw):
    """(content, indices of blocks that are holes): what is in a hole reads as zeros."""
    content = bytearray(draw(st.lists(st.sampled_from(b"\0ab"), max_size=60).map(bytes)))
    blocks = -(-len(content) // BLOCK)
    holes = draw(st.frozensets(st.integers(0, max(blocks - 1, 0)), max_size=blocks)) if blocks else frozenset()
    for i in holes:
        end = min(i * BLOCK + BLOCK, len(content))
        content[i * BLOCK : end] = bytes(end - i * BLOCK)
    return bytes(content), holes


def replay(old: bytes, new: bytes, runs: list[tuple[int, int, bool]]) -> bytes:
    target = bytearray(old[: len(new)].ljust(len(new), b"\0"))
    for offset, length, hole in runs:
        end = min(offset + length, len(new))
        target[offset:end] = bytes(end - offset) if hole else new[offset:end]
    return bytes(target)


@settings(max_examples=200, deadline=None)
@given(sparse_contents(), sparse_contents())
def test_the_runs_turn_the_old_content_into_the_new(old, new):
    runs = list(changed(digest_map(*old), digest_map(*new), 0, BLOCK))
    assert replay(old[0], new[0], runs) == new[0]
    for offset, length, hole in runs:
        assert offset % BLOCK == length % BLOCK == 0 < length
        assert all((i in new[1]) == hole for i in range(offset // BLOCK, (offset + length) // BLOCK))
    ends = [offset + length for offset, length, _ in runs]
    assert all(end <= after[0] for end, after in zip(ends, runs[1:], strict=False))


@settings(max_examples=100, deadline=None)
@given(sparse_contents(), sparse_contents(), st.integers(0, 15))
def test_looking_at_it_in_windows_finds_the_same_blocks(old, new, cut):
    before, now = digest_map(*old), digest_map(*new)
    split = min(cut, len(now) // DIGEST)

    def blocks(runs):
        return {(i, hole) for offset, length, hole in runs for i in range(offset // BLOCK, (offset + length) // BLOCK)}

    whole = blocks(changed(before, now, 0, BLOCK))
    first = blocks(changed(before, now[: split * DIGEST], 0, BLOCK))
    second = blocks(changed(before, now[split * DIGEST :], split, BLOCK))
    assert first | second == whole


@given(sparse_contents())
def test_equal_content_has_no_runs(content):
    assert list(changed(digest_map(*content), digest_map(*content), 0, BLOCK)) == []


def test_a_hole_is_told_apart_from_zeros_that_take_room():
    written, hole = digest_map(bytes(BLOCK), frozenset()), digest_map(bytes(BLOCK), frozenset([0]))
    assert list(changed(written, hole, 0, BLOCK)) == [(0, BLOCK, True)]
    assert list(changed(hole, written, 0, BLOCK)) == [(0, BLOCK, False)]


@pytest.mark.parametrize(
    ("size", "block"),
    [(0, 16 << 10), (64 << 30, 16 << 10), ((64 << 30) + 1, 32 << 10), (1 << 40, 256 << 10)],
)
def test_digests_stay_below_64_mib(size, block):
    assert block_size(size) == block
    assert size // block * DIGEST <= 64 << 20


@given(st.binary(max_size=100))
def test_one_digest_a_block_and_the_last_may_be_short(content):
    found = digests(content, BLOCK)
    assert len(found) == -(-len(content) // BLOCK) * DIGEST
    assert found == b"".join(digests(content[i : i + BLOCK], BLOCK) for i in range(0, len(content), BLOCK))
    assert digests(memoryview(content), BLOCK) == found

"""Trees of keys as hypothesis makes them: every field that a file can hold, names in both encodings."""

from __future__ import annotations

from hypothesis import strategies as st

from livelift.registry.bigdata import LARGEST_PLAIN
from livelift.registry.tree import Hive, Key

LETTERS = st.one_of(
    st.characters(codec="ascii", exclude_characters="\\"),
    st.characters(min_codepoint=0x80, max_codepoint=0xFF),
    st.characters(min_codepoint=0x100, max_codepoint=0x10FFFF),
    st.sampled_from("\ud800\udfffßıµŉǰ\uffff"),
)


def _whole(text: str) -> str:
    """Text as it comes back from UTF-16: two lone surrogates that make a pair are one letter."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


NAMES = st.text(LETTERS, min_size=1, max_size=12).map(_whole)
WORDS = st.integers(0, 2**32 - 1)
SIZES = st.sampled_from([0, 1, 3, 4, 5, 8, 100, 4064, 4065, LARGEST_PLAIN, LARGEST_PLAIN + 1, 3 * LARGEST_PLAIN])
DATA = st.one_of(st.binary(max_size=20), st.builds(lambda size, byte: bytes([byte]) * size, SIZES, st.integers(0, 255)))
DESCRIPTORS = st.sampled_from([bytes([n]) * n for n in (20, 33, 108)])


@st.composite
def keys(draw: st.DrawFn, name: str = "root", depth: int = 3) -> Key:
    flags = draw(st.integers(0, 0xFFFF)) & ~0x64  # the encoding of the name, the root and handles are the writer's
    key = Key(
        name,
        draw(st.integers(0, 2**64 - 1)),
        draw(DESCRIPTORS),
        draw(st.one_of(st.none(), st.binary(min_size=1, max_size=30))),
        flags,
        draw(WORDS),
        draw(st.integers(0, 0xFFFF)),
    )
    for value_name in draw(st.lists(st.one_of(st.just(""), NAMES), max_size=5)):
        key.set(value_name, draw(WORDS), draw(DATA))
    for value in key.values:
        value.flags = draw(st.sampled_from([0, 2]))
    if depth:
        for child in draw(st.lists(NAMES, max_size=4)):
            if key.get(child) is None:
                key.add(draw(keys(child, depth - 1)))
    return key


@st.composite
def hives(draw: st.DrawFn) -> Hive:
    root = draw(keys())
    root.flags |= 0xC  # as the writer marks the root of a hive
    hive = Hive(root, draw(st.integers(3, 6)), draw(st.text(st.characters(codec="ascii"), max_size=40)))
    hive.file_name = hive.file_name.split("\0")[0][-31:]
    hive.timestamp = draw(st.integers(0, 2**64 - 1))
    return hive

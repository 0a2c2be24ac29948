from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livelift.verify.partition import LinkComparison, Row

Tree = dict[bytes, int]
"""path -> which object"""


def rows(tree: Tree) -> list[Row]:
    first = {number: min(path for path in tree if tree[path] == number) for number in tree.values()}
    return sorted((path, first[number]) for path, number in tree.items() if path != first[number])


def found(source: Tree, target: Tree, portion: int = 2) -> dict[bytes, tuple[str, str]]:
    comparison = LinkComparison(3, rows(source))
    theirs = rows(target)
    for at in range(0, len(theirs), portion):
        comparison.feed(theirs[at : at + portion])
    result = comparison.finish(lambda path: path not in target, lambda path: path not in source)
    assert all(difference.map == 3 and difference.field == "hard link" for difference in result)
    return {difference.path: (difference.source, difference.target) for difference in result}


def test_a_link_too_few_and_one_too_many() -> None:
    assert found({b"a": 1, b"b": 1}, {b"a": 1, b"b": 2}) == {b"b": ("link to a", "no link")}
    assert found({b"a": 1, b"b": 2}, {b"a": 1, b"b": 1}) == {b"b": ("no link", "link to a")}


def test_another_group() -> None:
    source = {b"a": 1, b"b": 2, b"c": 2}
    target = {b"a": 1, b"b": 2, b"c": 1}
    assert found(source, target) == {b"c": ("link to b", "link to a")}


def test_a_missing_first_name_is_not_a_difference_of_the_others() -> None:
    assert found({b"a": 1, b"b": 1, b"c": 1}, {b"b": 1, b"c": 1}) == {}
    assert found({b"b": 1, b"c": 1}, {b"a": 1, b"b": 1, b"c": 1}) == {}
    assert found({b"a": 1, b"b": 1, b"c": 1}, {b"b": 1, b"c": 2}) == {b"c": ("link to b", "no link")}


trees = st.dictionaries(st.sampled_from([bytes([letter]) for letter in b"abcdefgh"]), st.integers(1, 4))


@given(trees, trees, st.integers(1, 5))
def test_empty_exactly_if_the_partitions_of_the_common_paths_are_equal(
    source: Tree, target: Tree, portion: int
) -> None:
    common = sorted(source.keys() & target.keys())
    expected = {
        path
        for path in common
        if min(p for p in common if source[p] == source[path]) != min(p for p in common if target[p] == target[path])
    }
    assert found(source, target, portion).keys() == expected

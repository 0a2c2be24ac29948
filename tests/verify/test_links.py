from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.verify import links
from livelift.verify.links import LinkTable
from livelift.verify.manifest import join


@pytest.fixture
def table() -> Iterator[LinkTable]:
    table = LinkTable()
    yield table
    table.close()


def test_groups_over_directories_maps_and_devices(table: LinkTable) -> None:
    table.put(0, b"z", [(b"one", 1, 5), (b"two", 1, 5), (b"alone", 1, 6), (b"other device", 2, 5)])
    table.put(0, b"", [(b"y", 1, 5)])
    table.put(1, b"", [(b"a", 1, 5), (b"b", 1, 5)])
    assert list(table.rows(0)) == [(b"z/one", b"y"), (b"z/two", b"y")]
    assert list(table.rows(0, b"z/one")) == [(b"z/two", b"y")]
    assert list(table.rows(1)) == [(b"b", b"a")]
    assert table.digest(0) != table.digest(1) and table.digest(7) == table.digest(8)


def test_a_directory_that_is_scanned_again_replaces_what_was_known(table: LinkTable) -> None:
    table.put(0, b"d", [(b"a", 1, 5), (b"b", 1, 5), (b"c", 1, 5)])
    table.put(0, b"d", [(b"b", 1, 5), (b"c", 1, 5)])
    assert list(table.rows(0)) == [(b"d/c", b"d/b")]
    table.clear()
    assert list(table.rows(0)) == []


def test_inode_numbers_use_all_64_bits(table: LinkTable) -> None:
    table.put(0, b"", [(b"a", 2**64 - 1, 2**64 - 1), (b"b", 2**64 - 1, 2**64 - 1), (b"c", 2**64 - 1, 1)])
    assert list(table.rows(0)) == [(b"b", b"a")]


def test_pages_join_without_a_seam(table: LinkTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_PAGE", links._PAGE.replace(f"LIMIT {links._PAGE_ROWS}", "LIMIT 7"))
    monkeypatch.setattr(links, "_PAGE_ROWS", 7)
    names = [b"%03d" % number for number in range(100)]
    table.put(0, b"", [(name, 1, number % 3) for number, name in enumerate(names)])
    assert list(table.rows(0)) == [(name, names[number % 3]) for number, name in enumerate(names) if number > 2]


paths = st.tuples(st.sampled_from([b"", b"a", b"a/b", b"a-b", b"\xff"]), st.binary(min_size=1, max_size=2))


@given(st.dictionaries(paths, st.tuples(st.integers(1, 2), st.integers(1, 4))))
def test_labels_are_the_smallest_paths(tree: dict[tuple[bytes, bytes], tuple[int, int]]) -> None:
    groups: dict[tuple[int, int], list[bytes]] = {}
    table = LinkTable()
    for directory in {where for where, _ in tree}:
        table.put(0, directory, [(name, *key) for (where, name), key in tree.items() if where == directory])
    unique = {join(*where): key for where, key in tree.items()}
    if len(unique) == len(tree):
        for path, key in unique.items():
            groups.setdefault(key, []).append(path)
        expected = sorted((path, min(group)) for group in groups.values() for path in group if path != min(group))
        assert list(table.rows(0)) == expected
    table.close()

"""Which directory is at which path: against a model that keeps whole paths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livelift.capture.windows_paths import PathTable, folded, split


def test_paths_are_found_without_case() -> None:
    table = PathTable(1)
    table.learn("Dir\\Ünter".encode(), 7)
    assert table.find("dir\\ÜNTER".encode()) == 7
    assert table.find(b"") == 1
    assert table.find(b"dir") == 0
    assert folded("straße".encode()) == "STRAßE".encode(), "one character stays one"
    assert split(b"a\\b\\c") == (b"a\\b", b"c")


def test_a_renamed_directory_takes_along_what_is_below() -> None:
    table = PathTable(1)
    table.learn(b"a", 2)
    table.learn(b"a\\b", 3)
    table.learn(b"ab", 4)
    table.moved(b"a", b"x")
    assert [table.find(p) for p in (b"x", b"x\\b", b"ab")] == [2, 3, 4]
    assert table.find(b"a\\b") == 3, "a notice may still have the old path"
    table.learn(b"a", 9)
    table.learn(b"a\\b", 8)
    assert [table.find(p) for p in (b"a", b"a\\b", b"x\\b")] == [9, 8, 3]


def test_what_is_replaced_or_removed_is_gone() -> None:
    table = PathTable(1)
    table.learn(b"a\\deep", 2)
    table.learn(b"b\\old", 3)
    table.removed(b"a")
    assert table.find(b"a\\deep") == 0
    table.learn(b"c", 4)
    table.moved(b"c", b"b")
    assert (table.find(b"b"), table.find(b"b\\old")) == (4, 0)


PART = st.sampled_from(["a", "b", "c"])
PATH = st.lists(PART, min_size=1, max_size=3).map("\\".join)


@given(st.lists(st.tuples(st.sampled_from(["learn", "moved", "removed"]), PATH, PATH), max_size=40))
def test_any_sequence(steps: list[tuple[str, str, str]]) -> None:
    table, model, former = PathTable(1), {"": 1}, {}
    for number, (verb, one, two) in enumerate(steps, 2):
        if verb == "learn":
            table.learn(one.encode(), number)
            model[one] = number
            former.pop(one, None)
        elif verb == "removed":
            table.removed(one.encode())
            model = {p: o for p, o in model.items() if p != one and not p.startswith(one + "\\")}
        elif one != two and not two.startswith(one + "\\") and not one.startswith(two + "\\"):
            table.moved(one.encode(), two.encode())
            taken = {p: o for p, o in model.items() if p == one or p.startswith(one + "\\")}
            model = {p: o for p, o in model.items() if p not in taken and p != two and not p.startswith(two + "\\")}
            for path, oid in taken.items():
                former[path] = oid
                model[two + path[len(one) :]] = oid
                former.pop(two + path[len(one) :], None)
    for path in {*model, *former}:
        assert table.find(path.encode()) == (model.get(path) or former.get(path, 0)), path

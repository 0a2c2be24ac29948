from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given

from livelift.registry.compare import compare
from livelift.registry.tree import Key
from tests.registry.strategies import keys
from tests.registry.test_writer import STEADY


def tree() -> Key:
    root = Key("R", 1, b"s" * 20)
    a = root.make("A")
    a.set("v", 1, b"x\0")
    a.set("", 4, bytes(4))
    root.make("A\\B\\C").set("deep", 3, b"1")
    return root


def told(old: Key, new: Key, **options: bool) -> list[tuple[str, str, str | None, tuple[str, ...]]]:
    return [(d.change, d.path, d.value, d.aspects) for d in compare(old, new, **options)]


Edit = Callable[[Key], object]

EDITS: list[tuple[Edit, list[tuple[str, str, str | None, tuple[str, ...]]]]] = [
    (lambda root: root.find("A").set("V", 1, b"y\0"), [("changed", "A", "v", ("data",))]),
    (lambda root: root.find("A").set("v", 2, b"x\0"), [("changed", "A", "v", ("type",))]),
    (lambda root: root.find("A").unset("v"), [("removed", "A", "v", ())]),
    (lambda root: root.find("A").set("new", 1, b""), [("added", "A", "new", ())]),
    (lambda root: setattr(root.find("A").value("v"), "name", "V"), [("changed", "A", "V", ("name",))]),
    (lambda root: setattr(root.find("A").value("v"), "flags", 2), [("changed", "A", "v", ("flags",))]),
    (lambda root: setattr(root.find("A\\B"), "security", b"t"), [("changed", "A\\B", None, ("security",))]),
    (lambda root: setattr(root.find("A\\B"), "class_name", b"t"), [("changed", "A\\B", None, ("class",))]),
    (lambda root: setattr(root.find("A\\B"), "class_name", b""), []),
    (lambda root: setattr(root.find("A\\B"), "flags", 0x10), [("changed", "A\\B", None, ("flags",))]),
    (lambda root: setattr(root.find("A\\B"), "flags", 0x20), []),
    (lambda root: setattr(root.find("A\\B"), "access", 3), []),
    (lambda root: setattr(root.find("A\\B"), "control", 3), [("changed", "A\\B", None, ("flags",))]),
    (lambda root: setattr(root.find("A\\B"), "predefined", 3), [("changed", "A\\B", None, ("flags",))]),
    (lambda root: setattr(root.find("A\\B"), "timestamp", 9), [("changed", "A\\B", None, ("timestamp",))]),
    (lambda root: setattr(root.find("A\\B"), "name", "b"), [("changed", "A\\b", None, ("name",))]),
    (lambda root: root.make("Z\\Y").set("v", 1, b""), [("added", "Z", None, ()), ("added", "Z\\Y", None, ()),
                                                       ("added", "Z\\Y", "v", ())]),
    (lambda root: root.find("A").remove("b"), [("removed", "A\\B", None, ()), ("removed", "A\\B\\C", None, ()),
                                               ("removed", "A\\B\\C", "deep", ())]),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "expected"), EDITS)
def test_every_edit_is_told_and_nothing_else(
    edit: Edit, expected: list[tuple[str, str, str | None, tuple[str, ...]]]
) -> None:
    new = tree()
    edit(new)
    assert told(tree(), new, timestamps=True) == expected
    turned = {"added": "removed", "removed": "added", "changed": "changed"}
    assert [(turned[change], value) for change, _, value, _ in told(new, tree(), timestamps=True)] == [
        (change, value if value is None else value.lower()) for change, _, value, _ in expected
    ]


def test_time_stamps_only_on_request() -> None:
    new = tree()
    new.timestamp = 5
    assert told(tree(), new) == []


def test_the_order_of_values_is_no_difference() -> None:
    one, other = Key("R"), Key("R")
    for name in ("a", "b"):
        one.set(name, 1, b"")
    for name in ("b", "a"):
        other.set(name, 1, b"")
    assert told(one, other) == []


@STEADY
@given(keys(), keys())
def test_nothing_differs_from_itself_and_two_trees_in_both_directions_alike(one: Key, other: Key) -> None:
    assert told(one, one.copy(), timestamps=True) == []
    there, back = told(one, other, timestamps=True), told(other, one, timestamps=True)
    assert len(there) == len(back)
    assert sum(d[0] == "added" for d in there) == sum(d[0] == "removed" for d in back)

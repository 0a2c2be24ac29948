from __future__ import annotations

from hypothesis import given

from livelift.registry.compare import compare
from livelift.registry.tree import Hive, Key, Value
from tests.registry.strategies import keys
from tests.registry.test_writer import STEADY


def test_names_are_found_whatever_their_case() -> None:
    root = Key("R")
    made = root.make("ControlSet001\\Services\\Größe")
    assert root.find("CONTROLSET001\\services\\GRÖßE") is made
    assert root.find("ControlSet001\\Services\\GRÖSSE") is None
    assert root.find("") is root and root.find("no\\such\\key") is None
    assert root.make("controlset001\\SERVICES") is root.find("ControlSet001\\Services")
    assert [key.name for key in root] == ["ControlSet001"]


def test_a_new_key_has_its_parents_security_and_the_time_that_was_given() -> None:
    root = Key("R", 5, b"descriptor")
    assert (root.make("a").security, root.make("a").timestamp) == (b"descriptor", 5)
    assert root.make("b\\c", 9).timestamp == 9


def test_a_value_keeps_its_place_and_spelling() -> None:
    key = Key("R")
    key.set("First", 1, b"1")
    key.set("Second", 1, b"2")
    key.set("FIRST", 4, b"3")
    assert [(v.name, v.type, v.data) for v in key.values] == [("First", 4, b"3"), ("Second", 1, b"2")]
    removed = key.unset("first")
    assert removed is not None and removed.data == b"3" and key.unset("first") is None
    assert key.value("SECOND") is not None and key.value_count == 1
    assert Value("a", 1, b"").same(Value("a", 1, b"")) and not Value("a", 1, b"").same(Value("A", 1, b""))


def test_removing_and_replacing_keys() -> None:
    root = Key("R")
    root.make("a\\b")
    root.make("c")
    root.add(Key("A", 3))
    assert [key.name for key in root] == ["A", "c"] and len(root) == 2
    assert root.find("a\\b") is None
    gone = root.remove("a")
    assert gone is not None and gone.timestamp == 3 and root.remove("a") is None
    assert bool(Key("empty"))


def test_the_walk_names_parents_first() -> None:
    root = Key("R")
    for path in ("b\\x", "a", "b\\y\\z"):
        root.make(path)
    assert [path for path, _ in root.walk()] == ["", "b", "b\\x", "b\\y", "b\\y\\z", "a"]
    assert [path for path, _ in root.walk("top")][:2] == ["top", "top\\b"]
    hive = Hive(root)
    assert hive.counts() == (6, 0) and hive.find("b\\y") is root.find("b\\y")


@STEADY
@given(keys())
def test_a_copy_is_equal_and_independent(key: Key) -> None:
    twin = key.copy()
    assert list(compare(key, twin, timestamps=True)) == []
    assert {id(k) for _, k in key.walk()}.isdisjoint(id(k) for _, k in twin.walk())
    for _, copied in twin.walk():
        copied.set("added", 1, b"")
        for value in copied.values:
            value.data = b"changed"
    assert all(value.data != b"changed" for _, k in key.walk() for value in k.values)

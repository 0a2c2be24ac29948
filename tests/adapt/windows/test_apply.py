"""Changes of hives in memory, and their inverse."""

from __future__ import annotations

import pytest

from livelift.adapt.changes import CopyValues, GraftKey, HiveChange, MergeList, RemoveKey, RemoveValue, SetValue
from livelift.adapt.plan import Draft
from livelift.adapt.windows.apply import apply, carry_out, copy_hive, same_tree
from livelift.adapt.windows.planner import make_plan
from livelift.errors import UsageError
from livelift.registry.tree import Hive, Key
from livelift.registry.values import BINARY, SZ, list_of, set_list, set_text, text_data
from tests.adapt.windows.machine import pair


def hives() -> tuple[dict[str, Hive], dict[str, Hive]]:
    source, target = Key("R"), Key("R")
    set_text(source.make("A\\B"), "v", "old")
    set_list(source.make("A"), "l", ["x"])
    source.make("Ids\\1").set("oem2.inf", BINARY, b"1")
    source.make("Ids\\Deep\\2").set("OEM2.INF", BINARY, b"2")
    set_text(target.make("T\\B", 7), "v", "new")
    target.make("T\\B\\C").class_name = b"c"
    return {"S": Hive(source)}, {"S": Hive(target)}


CHANGES: list[HiveChange] = [
    SetValue("S", "A\\B", "V", SZ, text_data("x")),
    SetValue("S", "A\\New\\Deep", "v", SZ, text_data("x")),
    RemoveValue("S", "A\\B", "v"),
    RemoveValue("S", "A\\None", "v"),
    MergeList("S", "A", "l", ("x", "y")),
    GraftKey("S", "A\\B", "T\\B"),
    GraftKey("S", "X\\Y\\B", "T\\B"),
    GraftKey("S", "A\\Twin", "A\\B", "source"),
    RemoveKey("S", "A"),
    RemoveKey("S", "None\\At\\All"),
    CopyValues("S", "Ids", "Ids", "oem2.inf", "oem0.inf"),
    CopyValues("S", "Other", "Ids", "oem2.inf", "oem0.inf"),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{type(change).__name__} {change.key}")
def test_every_change_can_be_undone(change: HiveChange) -> None:
    source, target = hives()
    merged = {"S": copy_hive(source["S"])}
    undos = carry_out(change, merged, source, target)
    for undo in reversed(undos):
        undo()
    assert same_tree(merged["S"].root, source["S"].root)


def test_a_whole_plan_can_be_undone() -> None:
    one, two = pair()
    source, target = one.done(), two.done()
    merged = {name: copy_hive((source if name != "BCD" else target).hives[name]) for name in source.hives}
    before = {name: hive.root.copy() for name, hive in merged.items()}
    undos = []
    for edit in make_plan(source, target).edits:
        if isinstance(edit.change, HiveChange):
            undos += carry_out(edit.change, merged, source.hives, target.hives)
    assert not same_tree(before["SYSTEM"], merged["SYSTEM"].root)
    for undo in reversed(undos):
        undo()
    assert all(same_tree(before[name], hive.root) for name, hive in merged.items())


def test_what_each_change_does() -> None:
    source, target = hives()
    merged = {"S": copy_hive(source["S"])}
    for change in CHANGES[:2] + CHANGES[4:8] + CHANGES[10:]:
        carry_out(change, merged, source, target)
    root = merged["S"].root
    grafted = root.find("A\\B\\C")
    assert grafted is not None and grafted.class_name == b"c"
    twin = root.find("A\\Twin")
    assert twin is not None and twin.name == "Twin" and list(v.data for v in twin.values) == [text_data("old")]
    top = root.find("A")
    assert top is not None and list_of(top.value("l")) == ["x", "y"]
    for path, data in (("Ids\\1", b"1"), ("Ids\\Deep\\2", b"2"), ("Other\\Deep\\2", b"2")):
        key = root.find(path)
        value = key.value("oem0.inf") if key is not None else None
        assert value is not None and value.data == data
    assert same_tree(target["S"].root.find("T\\B"), root.find("X\\Y\\B"))


def test_a_merged_hive_is_newer_than_the_logs_of_the_one_it_replaces() -> None:
    source, target = hives()
    source["S"].sequence = 77
    draft = Draft()
    draft.edit("a", "r", RemoveKey("S", "A"))
    merged = apply(draft.plan(""), source, target)
    assert merged["S"].sequence == 77 and merged["S"].find("A") is None and source["S"].find("A") is not None


def test_a_plan_for_other_hives_is_refused() -> None:
    source, target = hives()
    with pytest.raises(UsageError, match="has no key"):
        carry_out(GraftKey("S", "A", "Gone"), {"S": copy_hive(source["S"])}, source, target)

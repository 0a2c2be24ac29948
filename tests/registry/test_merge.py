from __future__ import annotations

import pytest
from hypothesis import given

from livelift.registry.compare import compare
from livelift.registry.merge import graft, unite
from livelift.registry.tree import Key
from tests.registry.strategies import keys
from tests.registry.test_writer import STEADY


def test_the_other_wins_and_what_only_one_has_stays() -> None:
    mine, theirs = Key("R", 5, b"mine"), Key("r", 9, b"theirs")
    mine.make("Both\\Mine").set("v", 1, b"m")
    mine.find("Both").set("Value", 1, b"old")  # type: ignore[union-attr]
    theirs.make("both\\theirs", 7).security = b"special"
    theirs.find("both").set("value", 2, b"new")  # type: ignore[union-attr]
    unite(mine, theirs)
    both = mine.find("both")
    assert both is not None
    assert [(v.name, v.type, v.data) for v in both.values] == [("Value", 2, b"new")]
    assert (both.name, both.security, both.timestamp) == ("Both", b"mine", 7)
    assert (mine.timestamp, mine.security) == (5, b"mine"), "no value of its own has changed"
    taken = mine.find("Both\\theirs")
    assert taken is not None and (taken.security, taken.timestamp) == (b"special", 7)
    assert mine.find("Both\\Mine") is not None
    assert taken is not theirs.find("both\\theirs"), "a copy"


@STEADY
@given(keys(), keys())
def test_a_union_has_all_of_the_other_and_loses_nothing(mine: Key, theirs: Key) -> None:
    before = mine.copy()
    unite(mine, theirs)
    assert not [d for d in compare(theirs, mine) if d.change == "removed"]
    assert not [d for d in compare(theirs, mine) if d.value is not None and {"type", "data"} & set(d.aspects)]
    assert not [d for d in compare(before, mine) if d.change == "removed"]
    again = mine.copy()
    unite(again, theirs)
    assert list(compare(mine, again, timestamps=True)) == []


def test_a_graft_takes_the_place_of_what_was_there() -> None:
    root, key = Key("R"), Key("other", 3, b"s", b"class", 0x10)
    key.make("below").set("v", 1, b"x")
    root.make("A\\B\\gone")
    twin = graft(root, "a\\b", key)
    assert (twin.name, twin.class_name, twin.flags) == ("b", b"class", 0x10)
    assert root.find("A\\B") is twin and root.find("A\\B\\gone") is None
    assert root.find("A\\B\\below") is not key.find("below")
    graft(root, "new\\parents\\C", key)
    assert root.find("new\\parents\\C\\below") is not None
    with pytest.raises(ValueError, match="root"):
        graft(root, "", key)

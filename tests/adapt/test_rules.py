"""The rules file: what it takes out, what it replaces, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from livelift.adapt.changes import Change, DeleteFile, MergeList, SetValue, WriteFile
from livelift.adapt.plan import Draft, Plan
from livelift.adapt.rules import override, parse
from livelift.errors import PreflightError, UsageError
from livelift.registry.values import BINARY, DWORD, SZ, text_data


def plan(*changes: Change) -> Plan:
    draft = Draft()
    for number, change in enumerate(changes):
        draft.edit(f"rule/{number}", "because", change)
    return draft.plan("a plan")


NUMBER = SetValue("SYSTEM", "A\\B", "n", DWORD, b"\x01\0\0\0")
TEXT = SetValue("SYSTEM", "A\\B", "t", SZ, text_data("old"))


def test_a_skipped_edit_is_shown_and_not_made() -> None:
    made = override(plan(NUMBER, TEXT), parse('skip = ["RULE/0"]'))
    assert [edit.id for edit in made.edits] == ["rule/1"]
    assert [(s.edit.id, s.pattern) for s in made.skipped] == [("rule/0", "RULE/0")]
    assert made.findings == ()


def test_a_rule_that_matches_nothing_is_told() -> None:
    made = override(plan(NUMBER), parse('skip = ["ruel/*"]\n[[replace]]\nid = "rule/7"\nvalue = 1'))
    assert len(made.edits) == 1
    assert [f.id for f in made.findings] == ["rule-without-effect"] * 2
    made.check()


@pytest.mark.parametrize(
    ("change", "value", "data"),
    [
        (NUMBER, "4294967295", b"\xff\xff\xff\xff"),
        (TEXT, '"new"', text_data("new")),
        (TEXT, '{ hex = "01 02" }', b"\1\2"),
        (SetValue("S", "k", "v", BINARY, b"x"), '{ hex = "ff" }', b"\xff"),
    ],
)
def test_a_value_is_replaced(change: SetValue, value: str, data: bytes) -> None:
    (edit,) = override(plan(change), parse(f'[[replace]]\nid = "rule/0"\nvalue = {value}')).edits
    assert isinstance(edit.change, SetValue)
    assert edit.change.data == data and edit.change.type == change.type
    assert "rules file" in edit.reason


def test_lists_and_texts_are_replaced() -> None:
    text = '[[replace]]\nid = "rule/0"\nvalue = ["b", "a"]\n[[replace]]\nid = "rule/1"\nvalue = "new\\n"'
    made = override(plan(MergeList("S", "k", "v", ("a",)), WriteFile("etc/x", b"")), parse(text))
    assert made.edits[0].change == MergeList("S", "k", "v", ("b", "a"))
    assert made.edits[1].change == WriteFile("etc/x", b"new\n")


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (NUMBER, '"text"'),
        (NUMBER, "4294967296"),
        (NUMBER, "-1"),
        (TEXT, "1"),
        (TEXT, '["a"]'),
        (TEXT, '{ hex = "0" }'),
        (TEXT, '{ hex = "00", or = "1" }'),
        (MergeList("S", "k", "v", ()), '"a"'),
        (DeleteFile("x"), '"a"'),
    ],
)
def test_a_value_that_does_not_fit_is_refused(change: Change, value: str) -> None:
    with pytest.raises(UsageError, match="does not fit"):
        override(plan(change), parse(f'[[replace]]\nid = "rule/0"\nvalue = {value}'))


@pytest.mark.parametrize("text", ["skip = 1", "skp = []", "[[replace]]\nid = 'a'", "[[replace]]\nvalue = 1.5", "= "])
def test_a_file_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="rules file"):
        parse(text)


def test_skipped_and_replaced_is_a_contradiction() -> None:
    rules: Any = parse('skip = ["*"]\n[[replace]]\nid = "rule/0"\nvalue = 1')
    with pytest.raises(UsageError, match="both"):
        override(plan(NUMBER), rules)


def test_an_inhibitor_stops_the_plan_unless_ignored() -> None:
    draft = Draft()
    draft.inhibit("no-fact", "a fact is missing", "give it")
    made = draft.plan("a plan")
    with pytest.raises(PreflightError, match="a fact is missing"):
        made.check()
    made.check(["no-fact"])


def test_two_edits_of_one_id_are_a_mistake() -> None:
    draft = Draft()
    draft.edit("a", "because", NUMBER)
    with pytest.raises(ValueError, match="two edits"):
        draft.edit("a", "because", TEXT)

"""What an operator reads before anything changes."""

from __future__ import annotations

import json

import pytest

from livelift.adapt.changes import Change, CopyFile, DeleteFile, GraftKey, MergeList, RunCommand, SetValue, WriteFile
from livelift.adapt.plan import Draft
from livelift.adapt.render import after, to_dict, to_text, value_text
from livelift.adapt.rules import override, parse
from livelift.registry.tree import Value
from livelift.registry.values import BINARY, DWORD, MULTI_SZ, QWORD, SZ, list_data, text_data


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "(absent)"),
        (Value("", SZ, text_data("a")), '"a"'),
        (Value("", DWORD, b"\x10\0\0\0"), "16 (0x10)"),
        (Value("", DWORD, b"\x10"), "hex(4):10"),
        (Value("", QWORD, b"\xff" * 8), f"{(1 << 64) - 1} (0x{'f' * 16})"),
        (Value("", MULTI_SZ, list_data(["a", "b"])), "[a, b]"),
        (Value("", BINARY, bytes(70)), "hex:" + " ".join(["00"] * 64) + " ... 70 bytes"),
        (Value("", 0xFFFF0012, b"\1"), "hex(ffff0012):01"),
    ],
)
def test_values(value: Value | None, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (SetValue("S", "k", "v", DWORD, bytes(4)), ("0 (0x0)",)),
        (MergeList("S", "k", "v", ("a", "b")), ("a", "b")),
        (GraftKey("S", "k", "o"), ("the target's o",)),
        (DeleteFile("x"), ()),
        (CopyFile("a", "b", 3, "d"), ("the target's b, 3 bytes, d",)),
        (WriteFile("a", b"1\n2\n"), ("1", "2")),
        (RunCommand(("update-initramfs", "-u"), ("boot",)), ("update-initramfs -u",)),
    ],
)
def test_what_comes_after(change: Change, lines: tuple[str, ...]) -> None:
    assert after(change) == lines


def test_a_plan_reads_as_a_diff() -> None:
    draft = Draft()
    draft.edit("r/one", "its reason", SetValue("S", "k", "v", DWORD, bytes(4)), inputs=["S\\x"], before=["3 (0x3)"])
    draft.edit("r/list", "merged", MergeList("S", "k", "l", ("a", "b", "c")), before=["a", "c"])
    draft.edit("r/gone", "not wanted", DeleteFile("x"))
    draft.warn("odd", "something is odd", "look at it")
    text = to_text(override(draft.plan("A to B"), parse('skip = ["r/gone"]')))
    assert "@@ r/one\n   S\\k : v\n   why: its reason\n   from: S\\x\n-  3 (0x3)\n+  0 (0x0)\n" in text
    assert "   a\n+  b\n   c\n" in text
    assert "skipped r/gone (rule 'r/gone'): x" in text
    assert "warning odd: something is odd\n  what to do: look at it" in text


def test_no_control_character_reaches_the_terminal() -> None:
    draft = Draft()
    draft.edit("a\x1b[2J", "\x07", DeleteFile("a\nb\x9b"), before=["x\r"])
    text = to_text(draft.plan("t"))
    assert not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in text)
    assert "a\\x1b[2J" in text and "a\\x0ab" in text


def test_the_json_form_is_complete() -> None:
    draft = Draft()
    draft.edit("a", "because", SetValue("S", "k", "v", BINARY, bytes(100)), before=["(absent)"])
    told = json.loads(json.dumps(to_dict(draft.plan("t"))))
    (edit,) = told["edits"]
    assert edit["change"]["change"] == "set-value" and edit["change"]["type"] == BINARY
    assert edit["touches"] == "S\\k : v" and edit["before"] == ["(absent)"]
    assert told["inhibitors"] == 0

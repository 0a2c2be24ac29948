from __future__ import annotations

import pytest

from livelift.registry.tree import Key, Value
from livelift.registry.values import (
    BINARY,
    DWORD,
    DWORD_BIG_ENDIAN,
    EXPAND_SZ,
    MULTI_SZ,
    QWORD,
    SZ,
    list_data,
    list_of,
    number_of,
    set_list,
    set_number,
    set_text,
    text_data,
    text_of,
)


def utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (Value("v", SZ, utf16("text\0")), "text"),
        (Value("v", EXPAND_SZ, utf16("%x%")), "%x%"),
        (Value("v", SZ, utf16("a\0b\0")), "a"),
        (Value("v", SZ, utf16("ab") + b"c"), "ab"),
        (Value("v", SZ, utf16("\ud800\0")), "\ud800"),
        (Value("v", BINARY, utf16("text\0")), ""),
    ],
)
def test_text(value: Value | None, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (None, []),
        (Value("v", MULTI_SZ, utf16("a\0b\0\0")), ["a", "b"]),
        (Value("v", MULTI_SZ, utf16("a\0b")), ["a", "b"]),
        (Value("v", MULTI_SZ, b""), []),
        (Value("v", SZ, utf16("alone\0")), ["alone"]),
        (Value("v", SZ, b""), []),
        (Value("v", DWORD, bytes(4)), []),
    ],
)
def test_lists(value: Value | None, parts: list[str]) -> None:
    assert list_of(value) == parts


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (None, -1),
        (Value("v", DWORD, b"\1\2\0\0"), 0x201),
        (Value("v", DWORD_BIG_ENDIAN, b"\0\0\2\1"), 0x201),
        (Value("v", QWORD, b"\1" + bytes(6) + b"\1"), (1 << 56) + 1),
        (Value("v", DWORD, b"\1"), -1),
        (Value("v", SZ, b"\1\0\0\0"), -1),
    ],
)
def test_numbers(value: Value | None, number: int) -> None:
    assert number_of(value) == number


def test_what_is_set_is_what_windows_stores() -> None:
    key = Key("R")
    set_text(key, "t", "ä")
    set_text(key, "e", "%p%", EXPAND_SZ)
    set_list(key, "l", ["a", "bc"])
    set_list(key, "none", [])
    set_number(key, "n", 0xFFFFFFFF)
    assert [(v.type, v.data) for v in key.values] == [
        (SZ, b"\xe4\0\0\0"),
        (EXPAND_SZ, utf16("%p%\0")),
        (MULTI_SZ, utf16("a\0bc\0\0")),
        (MULTI_SZ, b"\0\0"),
        (DWORD, b"\xff" * 4),
    ]
    assert text_data("") == b"\0\0" and list_data(["x"]) == utf16("x\0\0")

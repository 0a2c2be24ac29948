"""Registry text, out and in again; what it cannot hold; what is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from livelift.errors import HiveError
from livelift.registry.compare import Difference, compare
from livelift.registry.reader import read_hive
from livelift.registry.regtext import HEADER, apply, decode, encode, export, parse, real_path
from livelift.registry.tree import Hive, Key
from livelift.registry.values import set_number, set_text
from tests.registry.hives import real
from tests.registry.strategies import keys
from tests.registry.test_writer import STEADY

P = "HKEY_LOCAL_MACHINE\\SYSTEM"


def sayable(difference: Difference) -> bool:
    """Names, types and data of values are what the text holds."""
    return difference.change != "changed" or bool({"name", "type", "data"} & set(difference.aspects))


def through_text(root: Key) -> Key:
    fresh = Hive(Key(root.name))
    apply(fresh, parse(decode(encode(export(root, P)))), P, 0)
    return fresh.root


@STEADY
@given(keys())
def test_what_is_exported_comes_back(root: Key) -> None:
    names = [key.name for path, key in root.walk() if path] + [v.name for _, key in root.walk() for v in key.values]
    if any(re.search(r"[\0\r\n]", name) for name in names):
        with pytest.raises(HiveError, match="line break"):
            "".join(export(root, P))
        return
    assert [d for d in compare(root, through_text(root)) if sayable(d)] == []


@pytest.mark.parametrize("name", ["BCD", "SYSTEM"])
def test_a_real_hive_goes_through_text(name: str) -> None:
    root = read_hive(real(name)).root
    assert [d for d in compare(root, through_text(root)) if sayable(d)] == []


def test_it_looks_as_regedit_writes_it() -> None:
    root = Key("R")
    key = root.make("Key [1]")
    set_text(key, "", 'say "C:\\dir"')
    set_number(key, 'quoted "name"', 0xC0DE)
    key.set("bytes", 3, bytes(range(40)))
    key.set("none", 3, b"")
    key.set("list", 7, b"a\0\0\0\0\0")
    key.set("device", 0xFFFF0012, b"\x01")
    key.set("no end", 1, b"a\0")
    key.set("odd", 4, b"\x01\x02")
    set_text(key, "tab", "\t")
    root.make("Empty")
    assert "".join(export(root, P)).split("\r\n") == [
        HEADER,
        "",
        f"[{P}]",
        "",
        f"[{P}\\Key [1]]",
        '@="say \\"C:\\\\dir\\""',
        '"quoted \\"name\\""=dword:0000c0de',
        '"bytes"=hex:00,01,02,03,04,05,06,07,08,09,0a,0b,0c,0d,0e,0f,10,11,12,13,14,\\',
        "  15,16,17,18,19,1a,1b,1c,1d,1e,1f,20,21,22,23,24,25,26,27",
        '"none"=hex:',
        '"list"=hex(7):61,00,00,00,00,00',
        '"device"=hex(ffff0012):01',
        '"no end"=hex(1):61,00',
        '"odd"=hex(4):01,02',
        '"tab"=hex(1):09,00,00,00',
        "",
        f"[{P}\\Empty]",
        "",
        "",
    ]
    assert all(len(line) < 80 for line in "".join(export(root, P)).splitlines())
    assert encode(["ż"]) == b"\xff\xfe\x7c\x01"


def edited(text: str, hive: Hive | None = None, prefix: str = P) -> Hive:
    hive = hive or Hive(Key("R"))
    apply(hive, parse(f"{HEADER}\n\n{text}"), prefix, 42)
    return hive


def test_every_kind_of_line_is_understood() -> None:
    hive = edited(
        f"[{P}\\A ] ]\r\n"
        '@ = "x"  ; a comment\r\n'
        ";another\r\n\r\n"
        '  "a \\"\\\\ b"=dword:1f\r\n'
        '"hex"=HEX:1,02, 0a,\\\r\n  ff\r\n'
        '"typed"=hex(ffff0012):00\r\n'
        '"two lines"="a\r\nb"\r\n'
        '"end"=hex(2):'
    )
    key = hive.find("A ] ")
    assert key is not None and key.timestamp == 42
    assert [(v.name, v.type, v.data) for v in key.values] == [
        ("", 1, b"x\0\0\0"),
        ('a "\\ b', 4, b"\x1f\0\0\0"),
        ("hex", 3, b"\x01\x02\x0a\xff"),
        ("typed", 0xFFFF0012, b"\0"),
        ("two lines", 1, "a\r\nb\0".encode("utf-16-le")),
        ("end", 2, b""),
    ]


def test_keys_and_values_are_removed_in_order() -> None:
    hive = Hive(Key("R"))
    key = hive.root.make("A\\B\\C")
    for name in ("", "x", "y"):
        key.set(name, 1, b"")
    edited(f'[{P}\\a\\b\\c]\n@=-\n"X"=-\n"nothing"=-\n', hive)
    assert [value.name for value in key.values] == ["y"] and key.timestamp == 42
    edited(f'[-{P}\\A\\B]\n[-{P}\\not\\there]\n[{P}\\A\\B]\n"new"="1"\n', hive)
    assert hive.find("A\\B\\C") is None and hive.find("A\\B").value_count == 1  # type: ignore[union-attr]
    assert hive.find("not") is None
    assert hive.find("A").timestamp == 42  # type: ignore[union-attr]


def test_the_control_set_in_use_is_the_one_that_select_names() -> None:
    hive = Hive(Key("R"))
    set_number(hive.root.make("Select"), "Current", 2)
    edited("[HKLM\\system\\CURRENTCONTROLSET\\Services\\x]\n", hive)
    assert hive.find("ControlSet002\\Services\\x") is not None
    assert real_path(hive, "CurrentControlSet") == "ControlSet002"
    assert real_path(hive, "CurrentControlSetX") == "CurrentControlSetX"
    with pytest.raises(HiveError, match="Select"):
        real_path(Hive(Key("R")), "CurrentControlSet\\x")
    hive.root.make("CurrentControlSet")
    assert real_path(hive, "CurrentControlSet\\x") == "CurrentControlSet\\x"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('"v"="1"', "line 3: a value before the first key"),
        (f'[{P}\\A]\n"v"=dword:12345678f', "line 4: something follows"),
        (f'[{P}\\A]\n"v"=dword:', "line 4: the data is not understood"),
        (f'[{P}\\A]\n"v"="C:\\dir"', "line 4: in a string a backslash"),
        (f'[{P}\\A]\n"v"="open', "line 4: the data is not understood"),
        (f'[{P}\\A]\n"v"=hex:123', "one or two hexadecimal digits"),
        (f'[{P}\\A]\n"v"=hex:1,,2', "one or two hexadecimal digits"),
        (f'[{P}\\A]\n"v"=hex:0g', "something follows"),
        (f"[{P}\\A]\nv=1", "neither a key nor a value"),
        (f"[{P}\\A", "neither a key nor a value|before the first key"),
        (f"[{P}\\A\\\\B]", "a key without a name"),
        ("[]", "a key without a name"),
        (f'[-{P}\\A]\n"v"="1"', "a key that is removed"),
        ("[HKEY_LOCAL_MACHINE\\SYSTEMS\\A]", "line 3: .* is not below"),
        (f"[-{P}]", "the root of a hive cannot be removed"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_line(text: str, complaint: str) -> None:
    hive = Hive(Key("R"))
    with pytest.raises(HiveError, match=complaint):
        edited(f"{text}\n", hive)
    assert hive.counts() == (1, 0), "nothing was changed"


def test_only_version_5_is_read() -> None:
    for text in ("", "REGEDIT4\n\n[A]\n", "Windows Registry Editor Version 5.000\n"):
        with pytest.raises(HiveError, match="first line"):
            parse(text)
    assert parse(HEADER) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8", "utf-8-sig"])
def test_encodings(encoding: str) -> None:
    text = f"{HEADER}\r\n\r\n[{P}\\Größe Ω]\r\n"
    raw = (b"\xfe\xff" if encoding == "utf-16-be" else b"") + text.encode(encoding)
    (change,) = parse(decode(raw))
    assert change.path == f"{P}\\Größe Ω"
    with pytest.raises(HiveError, match=r"\.reg text"):
        decode("Größe".encode("latin-1"))


def test_hostile_text_takes_no_time() -> None:
    for text in (
        f'[{P}]\n"v"="' + "\\\\" * 200_000,
        f'[{P}]\n"v"=hex:' + "0," * 200_000 + "x",
        ";" * 400_000 + "\n" * 400_000,
    ):
        with pytest.raises(HiveError):
            edited(text + "\n?")

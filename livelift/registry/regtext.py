"""Registry text (.reg), version 5.00: export and import.

The text knows keys, names, types and data. It has no place for security, class names, flags and time stamps, so it is
for reading and for changes, not for keeping a hive. Source: Microsoft, "How to add, modify, or delete registry subkeys
and values by using a .reg file", and what regedit writes. Strings that do not come back the same (without their NUL,
with control characters) are written as bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, NoReturn

from livelift.errors import HiveError
from livelift.registry.tree import SEPARATOR, Hive, Key, Value, fold
from livelift.registry.values import BINARY, DWORD, SZ, number_of, text_data, text_of

HEADER: Final = "Windows Registry Editor Version 5.00"
WIDTH: Final = 77
SHORT: Final = {
    "HKLM": "HKEY_LOCAL_MACHINE",
    "HKCU": "HKEY_CURRENT_USER",
    "HKCR": "HKEY_CLASSES_ROOT",
    "HKU": "HKEY_USERS",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BREAK = re.compile(r"[\x00\r\n]")
_BLANK = re.compile(r"(?:[ \t\r\n]++|;[^\r\n]*+)*+")
_KEY = re.compile(r"\[(-?)([^\r\n]*)\][ \t]*(?=[\r\n]|\Z)")
_NAME = re.compile(r'(?:(@)|"((?:[^"\\\r\n]++|\\[^\r\n])*+)")[ \t]*=[ \t]*')
_STRING = re.compile(r'"((?:[^"\\]++|\\[^\r\n])*+)"')
_NUMBER = re.compile(r"dword:([0-9a-f]{1,8})", re.IGNORECASE)
_BYTES = re.compile(r"hex(?:\(([0-9a-f]{1,8})\))?:((?:[0-9a-f, \t]++|\\[ \t]*\r?\n)*+)", re.IGNORECASE)
_END = re.compile(r"[ \t]*(?:;[^\r\n]*)?(?=[\r\n]|\Z)")


class ValueChange(NamedTuple):
    """``type`` None: the value is removed."""

    name: str
    type: int | None
    data: bytes


class KeyChange(NamedTuple):
    """``path``: as in the text, with the name of its hive in front. ``line``: where it begins, from 1."""

    path: str
    remove: bool
    values: list[ValueChange]
    line: int


# -- export ----------------------------------------------------------------------------------------------------------


def export(root: Key, prefix: str, *, recursive: bool = True) -> Iterator[str]:
    """The text of a tree, or of its top alone, in pieces; lines end with CR LF. HiveError for a name with a line break
    in it, which the text cannot hold."""
    yield HEADER + "\r\n\r\n"
    for path, key in root.walk(prefix) if recursive else [(prefix, root)]:
        if _BREAK.search(path):
            _unsayable(path)
        yield f"[{path}]\r\n"
        for value in key.values:
            yield _line(path, value) + "\r\n"
        yield "\r\n"


def encode(text: Iterable[str]) -> bytes:
    """As regedit stores it: UTF-16 with a byte order mark."""
    return b"\xff\xfe" + "".join(text).encode("utf-16-le", "surrogatepass")


def _line(path: str, value: Value) -> str:
    if _BREAK.search(value.name):
        _unsayable(f"{path}: {value.name}")
    name = f'"{_escape(value.name)}"=' if value.name else "@="
    if value.type == SZ:
        text = text_of(value)
        if value.data == text_data(text) and not _CONTROL.search(text):
            return f'{name}"{_escape(text)}"'
    if value.type == DWORD and len(value.data) == 4:
        return f"{name}dword:{number_of(value):08x}"
    kind = "hex:" if value.type == BINARY else f"hex({value.type:x}):"
    return _wrap(name + kind, value.data)


def _wrap(start: str, data: bytes) -> str:
    """``start`` and the bytes with commas, broken into lines before they are too wide."""
    room = max((WIDTH - len(start)) // 3, 0)
    lines = [data[:room]] if room or not data else []
    per = (WIDTH - 2) // 3
    lines += [data[at : at + per] for at in range(room, len(data), per)]
    body = ",\\\r\n  ".join(line.hex(",") for line in lines)
    return start + ("" if room or not data else "\\\r\n  ") + body


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _unsayable(name: str) -> NoReturn:
    raise HiveError(
        f"{name!r} has a line break or NUL in its name, which .reg text cannot hold", remedy="export it as JSON"
    )


# -- import ----------------------------------------------------------------------------------------------------------


def decode(raw: bytes) -> str:
    """UTF-16 with a byte order mark, or UTF-8 with or without one."""
    try:
        if raw[:2] == b"\xff\xfe":
            return raw[2:].decode("utf-16-le", "surrogatepass")
        if raw[:2] == b"\xfe\xff":
            return raw[2:].decode("utf-16-be", "surrogatepass")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HiveError(
            f".reg text: {error}", remedy="save it as UTF-16 with a byte order mark, or as UTF-8"
        ) from error


def parse(text: str) -> list[KeyChange]:
    """The changes in their order. HiveError with the line of what is not understood."""
    at = _skip(text, 0)
    end = text.find("\n", at)
    if text[at : end if end >= 0 else len(text)].strip() != HEADER:
        _refuse(text, at, f"the first line is not {HEADER!r}")
    at = end if end >= 0 else len(text)
    changes: list[KeyChange] = []
    counted, line = 0, 1
    while (at := _skip(text, at)) < len(text):
        if match := _KEY.match(text, at):
            path = match[2].rstrip(SEPARATOR)
            if not path or "" in path.split(SEPARATOR):
                _refuse(text, at, "a key without a name")
            line += text.count("\n", counted, at)
            counted = at
            changes.append(KeyChange(path, bool(match[1]), [], line))
            at = match.end()
            continue
        if not changes:
            _refuse(text, at, "a value before the first key")
        change, at = _value(text, at)
        if changes[-1].remove:
            _refuse(text, at, "a value of a key that is removed")
        changes[-1].values.append(change)
    return changes


def _value(text: str, at: int) -> tuple[ValueChange, int]:
    match = _NAME.match(text, at)
    if match is None:
        _refuse(text, at, "neither a key nor a value")
    name = "" if match[1] else _unescape(text, at, match[2])
    at = match.end()
    if text.startswith("-", at):
        change, at = ValueChange(name, None, b""), at + 1
    elif match := _STRING.match(text, at):
        change, at = ValueChange(name, SZ, text_data(_unescape(text, at, match[1]))), match.end()
    elif match := _NUMBER.match(text, at):
        change, at = ValueChange(name, DWORD, int(match[1], 16).to_bytes(4, "little")), match.end()
    elif match := _BYTES.match(text, at):
        kind = int(match[1], 16) if match[1] else BINARY
        change, at = ValueChange(name, kind, _bytes(text, at, match[2])), match.end()
    else:
        _refuse(text, at, "the data is not understood")
    ending = _END.match(text, at)
    if ending is None:
        _refuse(text, at, "something follows the data")
    return change, ending.end()


def _bytes(text: str, at: int, body: str) -> bytes:
    digits = re.sub(r"\\[ \t]*\r?\n|[ \t]", "", body)
    parts = digits.split(",") if digits else []
    if parts and not parts[-1]:
        del parts[-1]
    if any(len(part) not in (1, 2) for part in parts):
        _refuse(text, at, "bytes are one or two hexadecimal digits each")
    return bytes(int(part, 16) for part in parts)


def _unescape(text: str, at: int, raw: str) -> str:
    if "\\" not in raw:
        return raw
    if re.search(r'\\[^\\"]', raw.replace("\\\\", "")):
        _refuse(text, at, 'in a string a backslash is written as "\\\\"')
    return re.sub(r'\\([\\"])', r"\1", raw)


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None  # it matches nothing, too
    return match.end()


def _refuse(text: str, at: int, what: str) -> NoReturn:
    line = text.count("\n", 0, at) + 1
    raise HiveError(f".reg text, line {line}: {what}", remedy=f"correct line {line}; nothing was changed")


# -- applying --------------------------------------------------------------------------------------------------------


def apply(hive: Hive, changes: Iterable[KeyChange], prefix: str, timestamp: int) -> None:
    """Make the changes. ``prefix``: what stands for this hive's root in the text (HKEY_LOCAL_MACHINE\\SYSTEM);
    CurrentControlSet, which no file has, becomes the one that Select names. HiveError before anything is changed."""
    located = [(_locate(hive, change, prefix), change) for change in changes]
    for path, change in located:
        if change.remove:
            parent, _, name = path.rpartition(SEPARATOR)
            above = hive.find(parent)
            if above is not None and above.remove(name):
                above.timestamp = timestamp
            continue
        key = hive.root.make(path, timestamp)
        for name, kind, data in change.values:
            if kind is None:
                key.unset(name)
            else:
                key.set(name, kind, data)
        if change.values:
            key.timestamp = timestamp


def _locate(hive: Hive, change: KeyChange, prefix: str) -> str:
    first, separator, rest = change.path.partition(SEPARATOR)
    path = SHORT.get(first.upper(), first) + separator + rest
    if fold(path + SEPARATOR).startswith(fold(prefix + SEPARATOR)):
        path = path[len(prefix) + 1 :]
    else:
        raise HiveError(
            f".reg text, line {change.line}: {change.path!r} is not below {prefix!r}",
            remedy="say with --prefix what the hive's root is called in the text",
        )
    if change.remove and not path:
        raise HiveError(
            f".reg text, line {change.line}: the root of a hive cannot be removed", remedy="remove the line"
        )
    return real_path(hive, path)


def real_path(hive: Hive, path: str) -> str:
    """CurrentControlSet is a link that the kernel makes when it starts, so no file has it: the set that Select names.
    HiveError where it names none."""
    first, separator, rest = path.partition(SEPARATOR)
    if fold(first) != "CURRENTCONTROLSET" or hive.find(first) is not None:
        return path
    select = hive.find("Select")
    number = number_of(select.value("Current") if select else None)
    if not 1 <= number <= 999:
        raise HiveError(
            f"{first} is in no file, and Select\\Current does not say which set it is",
            remedy="write ControlSet001 or the like in its place",
        )
    return f"ControlSet{number:03d}{separator}{rest}"

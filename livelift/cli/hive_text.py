"""Keys, values and differences as lines for people and as JSON. Whatever is in a name, a terminal gets text only."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from livelift.errors import UsageError
from livelift.registry.compare import Difference
from livelift.registry.tree import Key, Value
from livelift.registry.values import (
    DWORD,
    DWORD_BIG_ENDIAN,
    EXPAND_SZ,
    LINK,
    MULTI_SZ,
    QWORD,
    SZ,
    list_of,
    number_of,
    text_of,
)

NAMES = (
    "REG_NONE", "REG_SZ", "REG_EXPAND_SZ", "REG_BINARY", "REG_DWORD", "REG_DWORD_BIG_ENDIAN", "REG_LINK",
    "REG_MULTI_SZ", "REG_RESOURCE_LIST", "REG_FULL_RESOURCE_DESCRIPTOR", "REG_RESOURCE_REQUIREMENTS_LIST", "REG_QWORD",
)  # fmt: skip
SHORT = 32
"""Bytes of binary data that a line shows."""
SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


def say(line: str) -> None:
    """A line on stdout, whatever its encoding."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def say_text(text: str) -> None:
    """Text that a program may read: exactly it, in UTF-8, unless a terminal would."""
    if sys.stdout.isatty():
        for line in text.splitlines():
            say(plain(line))
        return
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("it has a name that UTF-8 cannot hold", remedy="write it with -o") from error
    sys.stdout.flush()
    sys.stdout.buffer.write(raw)
    sys.stdout.buffer.flush()


def plain(text: str) -> str:
    """Control characters, lone surrogates and what turns the direction of text, as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def type_name(number: int) -> str:
    return NAMES[number] if number < len(NAMES) else f"0x{number:08x}"


def time_of(filetime: int) -> str:
    """ISO 8601, UTC; "" for zero. FILETIME counts 100 ns since 1601."""
    if not filetime:
        return ""
    try:
        return (_EPOCH + timedelta(microseconds=filetime // 10)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"0x{filetime:016x}"


def value_line(value: Value) -> str:
    return f"{plain(value.name) or '(default)'}  {type_name(value.type)}  {data_text(value)}"


def data_text(value: Value) -> str:
    if value.type in (SZ, EXPAND_SZ, LINK):
        return '"' + plain(text_of(value)) + '"'
    if value.type == MULTI_SZ:
        return ", ".join('"' + plain(part) + '"' for part in list_of(value)) or "(empty)"
    if (number := number_of(value)) >= 0:
        return f"0x{number:x}"
    rest = f" ... ({len(value.data)} bytes)" if len(value.data) > SHORT else ""
    return (value.data[:SHORT].hex(" ") or "(empty)") + rest


def value_json(value: Value) -> dict[str, Any]:
    """``data`` in hexadecimal is exact; the readable form beside it is there where the type has one."""
    shown: dict[str, Any] = {"name": value.name, "type": value.type, "type_name": type_name(value.type)}
    shown["data"] = value.data.hex()
    if value.type in (SZ, EXPAND_SZ, LINK):
        shown["text"] = text_of(value)
    elif value.type == MULTI_SZ:
        shown["list"] = list_of(value)
    elif value.type in (DWORD, DWORD_BIG_ENDIAN, QWORD) and (number := number_of(value)) >= 0:
        shown["number"] = number
    return shown


def key_json(path: str, key: Key) -> dict[str, Any]:
    return {
        "path": path,
        "timestamp": time_of(key.timestamp),
        "flags": key.flags,
        "class": None if key.class_name is None else key.class_name.hex(),
        "security": key.security.hex(),
        "subkeys": [child.name for child in key],
        "values": [value_json(value) for value in key.values],
    }


def difference_lines(found: Difference) -> list[str]:
    sign, where = SIGNS[found.change], plain(found.path) or "(root)"
    if found.value is None:
        return [f"{sign} {where}" + (f"  ({', '.join(found.aspects)})" if found.aspects else "")]
    if found.change == "changed" and isinstance(found.old, Value) and isinstance(found.new, Value):
        return [f"- {where}: {value_line(found.old)}", f"+ {where}: {value_line(found.new)}"]
    value = found.new if found.old is None else found.old
    assert isinstance(value, Value)
    return [f"{sign} {where}: {value_line(value)}"]


def difference_json(found: Difference) -> dict[str, Any]:
    def shown(side: Key | Value | None) -> dict[str, Any] | None:
        if isinstance(side, Value):
            return value_json(side)
        if side is None or found.change != "changed":
            return None
        whole = key_json(found.path, side)
        return {aspect: whole.get(aspect, side.name) for aspect in found.aspects}

    return {
        "change": found.change, "path": found.path, "value": found.value, "aspects": list(found.aspects),
        "old": shown(found.old), "new": shown(found.new),
    }  # fmt: skip

"""fstab(5) and crypttab(5): lines read without losing comments, spacing or unknown options, and written again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from livelift.model.facts import FstabEntry

_ESCAPED = re.compile(r"\\([0-7]{3})")


class Line(NamedTuple):
    """A line of a table. ``entry`` is None for a comment, an empty line, or one that cannot be read."""

    text: str
    entry: FstabEntry | None = None


def unescape(field: str) -> str:
    """Space, tab, newline and backslash are written as octal (getmntent(3))."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), field)


def escape(field: str) -> str:
    return field.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")


def read_fstab(text: str) -> list[Line]:
    """Every line, in order. A line with fewer than three fields is kept as text without an entry."""
    return [Line(line, _entry(line)) for line in text.splitlines()]


def fstab_entries(text: str) -> tuple[FstabEntry, ...]:
    return tuple(line.entry for line in read_fstab(text) if line.entry is not None)


def _entry(line: str) -> FstabEntry | None:
    fields = line.split()
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    options = tuple(fields[3].split(",")) if len(fields) > 3 else ("defaults",)
    numbers = [int(field) if field.isdigit() else 0 for field in fields[4:6]] + [0, 0]
    return FstabEntry(
        spec=unescape(fields[0]),
        file=unescape(fields[1]),
        vfstype=fields[2],
        options=options,
        freq=numbers[0],
        passno=numbers[1],
    )


def fstab_line(entry: FstabEntry) -> str:
    options = ",".join(entry.options) or "defaults"
    return f"{escape(entry.spec)} {escape(entry.file)} {entry.vfstype} {options} {entry.freq} {entry.passno}"


class CryptEntry(NamedTuple):
    """A line of crypttab(5)."""

    name: str
    device: str
    key: str = "none"
    options: str = ""


def crypttab_entries(text: str) -> tuple[CryptEntry, ...]:
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 2 and not fields[0].startswith("#"):
            found.append(CryptEntry(*fields[:4]))
    return tuple(found)


def join(lines: Iterable[str]) -> str:
    """Lines to a file that ends with a newline; an empty list to an empty file."""
    text = "\n".join(lines)
    return f"{text}\n" if text else ""

"""The lines of /proc/pid/mountinfo: proc(5). Nothing but the standard library: the take-over stage loads it too."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line. ``root``: which directory is mounted. ``device``: that of the superblock, not always st_dev."""

    mount_id: int
    parent_id: int
    device: tuple[int, int]
    root: bytes
    mountpoint: bytes
    fstype: bytes
    source: bytes
    options: tuple[bytes, ...]
    super_options: tuple[bytes, ...]

    @property
    def read_only(self) -> bool:
        return b"ro" in self.options or b"ro" in self.super_options


def parse_mountinfo(text: bytes) -> list[Mount]:
    """Lines in the kernel's order. ValueError for a line that is not of this format."""
    return [_parse_line(line) for line in text.splitlines() if line.strip()]


def _parse_line(line: bytes) -> Mount:
    head, separator, tail = line.partition(b" - ")  # the optional fields before it vary in number
    fields, rest = head.split(b" "), tail.split(b" ")
    if not separator or len(fields) < 6 or len(rest) < 2:
        raise ValueError(f"not a mountinfo line: {line!r}")
    major, _, minor = fields[2].partition(b":")
    return Mount(
        int(fields[0]),
        int(fields[1]),
        (int(major), int(minor)),
        unescape(fields[3]),
        unescape(fields[4]),
        rest[0],
        unescape(rest[1]),
        tuple(fields[5].split(b",")),
        tuple(rest[2].split(b",")) if len(rest) > 2 else (),
    )


def unescape(field: bytes) -> bytes:
    """Space, tab, newline and backslash are written as \\040, \\011, \\012, \\134 (seq_path)."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field) if b"\\" in field else field

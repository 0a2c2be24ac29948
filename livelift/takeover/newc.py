"""Writes a cpio archive as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst). Pure.

Only names that are given are in it. The kernel makes a directory by name even where a symlink stands, and removes that
first (init/initramfs.c, clean_path): a directory is named only if nobody else has it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import Final, NamedTuple

TRAILER: Final = b"TRAILER!!!"
ALIGNMENT: Final = 4


class Member(NamedTuple):
    """``name`` without a slash in front. ``mode``: st_mode; a directory has no content."""

    name: bytes
    mode: int
    content: bytes = b""


def file(name: str, content: bytes, executable: bool = False) -> Member:
    return Member(name.strip("/").encode(), stat.S_IFREG | (0o755 if executable else 0o644), content)


def directory(name: str) -> Member:
    return Member(name.strip("/").encode(), stat.S_IFDIR | 0o755)


def archive(members: Iterable[Member]) -> bytes:
    """In the order given: a directory before what is in it."""
    pieces = [_record(number, member) for number, member in enumerate(members, 1)]
    return b"".join([*pieces, _record(0, Member(TRAILER, 0))])


def _record(inode: int, member: Member) -> bytes:
    links = 2 if stat.S_ISDIR(member.mode) else 1
    fields = (inode, member.mode, 0, 0, links, 0, len(member.content), 0, 0, 0, 0, len(member.name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + member.name + b"\0"
    return _padded(head) + _padded(member.content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


def parents(paths: Iterable[str], top: str) -> list[str]:
    """All directories from ``top`` down to the given files, each before what is in it."""
    found: set[str] = set()
    for path in paths:
        parts = path.strip("/").split("/")[:-1]
        found |= {"/".join(parts[:number]) for number in range(1, len(parts) + 1)}
    return sorted(name for name in found if f"{name}/".startswith(f"{top.strip('/')}/"))

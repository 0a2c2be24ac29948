"""The two files that a swap leaves on disk: a journal on each file system, the state on the first.

Both are lines of text with a checksum, so that a small program without Python can finish or undo a swap
(docs/internals/swap-journal.md). A journal says what stood where before the first rename; how far the swap has come is
seen from the inode numbers, so it is never written during the swap.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from livelift.errors import CorruptError
from livelift.log.crc import crc32c
from livelift.takeover.top_directory import Top

MAGIC: Final = "livelift-swap 2"
STATE_MAGIC: Final = "livelift-swap-state 1"
REMEDY = "do not boot the staged system; look at both trees and compare with the other copy"


class Object(NamedTuple):
    """What a name leads to: inode number (0: nothing), first letter of its type (d, f, l, o), its barrier flags
    (immutable, append-only), which are taken off for the rename and put back, and a directory's mtime in ns, which XFS
    changes when it exchanges directories (their ".." changes)."""

    inode: int = 0
    kind: str = "-"
    flags: int = 0
    mtime: int = 0


class Entry(NamedTuple):
    """A name at the top: ``live`` and ``staged`` as they were before the swap."""

    name: bytes
    live: Object
    staged: Object


class Journal(NamedTuple):
    """``live``, ``staged``: the top directories themselves, as they were before the swap."""

    generation: int
    live: Top
    staged: Top
    entries: list[Entry]


class State(NamedTuple):
    """``direction``: forward (each entry is exchanged) or back (as before the journal was written). ``settled``: all
    entries have got there. ``live``: which system stood in the live place before, old or new. ``mounts``: the file
    systems that take part, by where they are mounted in the system."""

    generation: int
    direction: str
    settled: bool
    live: str
    mounts: tuple[str, ...]

    @property
    def standing(self) -> str:
        """Which system is live once this is settled."""
        other = "new" if self.live == "old" else "old"
        return other if self.direction == "forward" else self.live


def render_journal(journal: Journal) -> bytes:
    lines = [MAGIC, f"generation {journal.generation}", _render_top("live", journal.live)]
    lines.append(_render_top("staged", journal.staged))
    for entry in journal.entries:
        words = (f"{o.inode} {o.kind} {o.flags} {o.mtime}" for o in (entry.live, entry.staged))
        lines.append(f"entry {entry.name.hex()} {' '.join(words)}")
    return _seal(lines)


def _render_top(side: str, top: Top) -> str:
    xattrs = "".join(f" {os.fsencode(name).hex()}={value.hex()}" for name, value in top.xattrs)
    return f"{side} {top.uid} {top.gid} {top.mode:o} {top.times[0]} {top.times[1]}{xattrs}"


def parse_journal(raw: bytes) -> Journal:
    """CorruptError: cut off, damaged, or of another version."""
    magic, *lines = _open(raw, "swap journal")
    try:
        if magic != MAGIC:
            raise ValueError(f"it begins with {magic!r}")
        word, number = lines[0].split(" ")
        if word != "generation":
            raise ValueError("no generation")
        live, staged = _parse_top("live", lines[1]), _parse_top("staged", lines[2])
        entries = []
        for line in lines[3:]:
            word, name, *rest = line.split(" ")
            if word != "entry" or len(rest) != 8:
                raise ValueError(f"unknown line {line!r}")
            one, two = (Object(int(rest[at]), rest[at + 1], int(rest[at + 2]), int(rest[at + 3])) for at in (0, 4))
            entries.append(Entry(bytes.fromhex(name), one, two))
        return Journal(int(number), live, staged, entries)
    except (ValueError, IndexError) as error:
        raise CorruptError(f"swap journal: {error}", remedy=REMEDY) from error


def _parse_top(side: str, line: str) -> Top:
    word, uid, gid, mode, atime, mtime, *xattrs = line.split(" ")
    if word != side:
        raise ValueError(f"unknown line {line!r}")
    pairs = (xattr.split("=") for xattr in xattrs)
    found = tuple((os.fsdecode(bytes.fromhex(name)), bytes.fromhex(value)) for name, value in pairs)
    return Top(int(uid), int(gid), int(mode, 8), (int(atime), int(mtime)), found)


def render_state(state: State) -> bytes:
    settled = "settled" if state.settled else "moving"
    lines = [STATE_MAGIC, f"{state.generation} {state.direction} {settled} {state.live}"]
    return _seal([*lines, *(f"mount {os.fsencode(mount).hex()}" for mount in state.mounts)])


def parse_state(raw: bytes) -> State:
    magic, *lines = _open(raw, "swap state")
    try:
        if magic != STATE_MAGIC:
            raise ValueError(f"it begins with {magic!r}")
        generation, direction, settled, live = lines[0].split(" ")
        if direction not in ("forward", "back") or settled not in ("settled", "moving") or live not in ("old", "new"):
            raise ValueError(f"unknown line {lines[0]!r}")
        mounts = []
        for line in lines[1:]:
            word, name = line.split(" ")
            if word != "mount":
                raise ValueError(f"unknown line {line!r}")
            mounts.append(os.fsdecode(bytes.fromhex(name)))
        return State(int(generation), direction, settled == "settled", live, tuple(mounts))
    except (ValueError, IndexError) as error:
        raise CorruptError(f"swap state: {error}", remedy=REMEDY) from error


def _seal(lines: list[str]) -> bytes:
    body = "".join(f"{line}\n" for line in lines).encode()
    return body + b"end %08x\n" % crc32c(body)


def _open(raw: bytes, what: str) -> list[str]:
    body, separator, end = raw.rpartition(b"end ")
    if not separator or end != b"%08x\n" % crc32c(body):
        raise CorruptError(f"{what}: its checksum does not fit", remedy=REMEDY)
    return body.decode("ascii").splitlines()


def write_durably(directory_fd: int, name: str, raw: bytes, mode: int = 0o600) -> None:
    """The old content or the new, never a part: written beside, synced, renamed, directory synced."""
    new = f"{name}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    try:
        while raw:
            raw = raw[os.write(fd, raw) :]
        if mode != 0o600:
            os.fchmod(fd, mode)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(new, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    os.fsync(directory_fd)


def read_whole(directory_fd: int, name: str) -> bytes | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    except FileNotFoundError:
        return None
    try:
        found = b""
        while piece := os.read(fd, 1 << 16):
            found += piece
        return found
    finally:
        os.close(fd)

"""The source tree: a copy of parts of this machine's own system, tens of thousands of real files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from livelift.demo.process import run
from livelift.errors import LiveliftError

ENTRIES = 45_000
BYTES = 750 << 20
"""What the choice aims at: enough for a demo to mean something, little enough for three minutes on two cores."""

LARGEST_PIECE = 0.25
"""A piece with more than this share of the bytes is left out: one toolchain would crowd out the rest."""


class Piece(NamedTuple):
    path: Path
    entries: int
    size: int  # bytes on disk


def measure(path: Path) -> Piece:
    """Entries and bytes on disk at and below a path; what disappears meanwhile counts as nothing."""
    entries, size = 0, 0
    pending = [os.fspath(path)]
    while pending:
        name = pending.pop()
        try:
            status = os.lstat(name)
            entries += 1
            size += status.st_blocks * 512
            if (status.st_mode & 0o170000) == 0o040000:
                with os.scandir(name) as children:
                    pending.extend(child.path for child in children)
        except (FileNotFoundError, PermissionError):
            continue
    return Piece(path, entries, size)


def candidates(root: Path = Path("/")) -> Iterator[Path]:
    """Pieces of /usr: what stands directly in its directories, the multiarch library directory one level deeper."""
    for directory in ("usr/bin", "usr/sbin", "usr/share", "usr/lib", "usr/libexec"):
        parent = root / directory
        if not parent.is_dir():
            continue
        for child in sorted(parent.iterdir()):
            # usr/lib/x86_64-linux-gnu holds most of all libraries (Debian multiarch)
            if child.name.endswith("-linux-gnu") and child.is_dir() and not child.is_symlink():
                yield from sorted(child.iterdir())
            else:
                yield child


def choose(pieces: list[Piece], entries: int, size: int) -> list[Piece]:
    """Pieces that come to about ``entries`` and ``size``: from the ones with many small files and the ones with few big
    files in turn, whichever goal is farther away, and never more than a tenth above ``size``."""
    # dense first: few bytes an entry
    rest = sorted((p for p in pieces if p.entries and p.size <= size * LARGEST_PIECE), key=lambda p: p.size / p.entries)
    chosen: list[Piece] = []
    have_entries = have_size = 0
    while rest and (have_entries < entries or have_size < size):
        dense = have_entries / entries < have_size / size
        piece = rest.pop(0 if dense else -1)
        if have_size + piece.size <= size * 1.1:
            chosen.append(piece)
            have_entries += piece.entries
            have_size += piece.size
    return chosen


def copy(paths: list[Path], destination: Path) -> None:
    """``cp -a --parents``: hard links between pieces, owners, times, xattrs and holes are kept."""
    done = run(["cp", "-a", "--parents", "-t", destination, "--", *paths], timeout=300, check=False)
    complaints = [line for line in done.stderr.splitlines() if "No such file" not in line]  # gone since it was listed
    if done.returncode != 0 and complaints and os.geteuid() == 0:
        raise LiveliftError("copying the system tree: " + "\n".join(complaints[:5]))


def build(tree: Path, say: Callable[[str], None], size: int = BYTES, entries: int = ENTRIES) -> Piece:
    """Fill ``tree`` with /etc and parts of /usr. Returns what it holds now. About 25 s for 45,000 entries on two cores.

    On a machine too small for that (a container image) the same parts go in a second time below var/lib/machines, as
    the root of a container would.
    """
    etc = measure(Path("/etc"))
    chosen = choose([measure(path) for path in candidates()], entries - etc.entries, size - etc.size)
    paths = [etc.path, *(piece.path for piece in chosen)]
    total = Piece(tree, etc.entries + sum(p.entries for p in chosen), etc.size + sum(p.size for p in chosen))
    say(f"copying {total.entries} entries, {total.size >> 20} MiB, of /etc and /usr")
    copy(paths, tree)
    guests = 0
    while total.entries * (guests + 2) <= entries and total.size * (guests + 2) <= size:
        guests += 1
        guest = tree / f"var/lib/machines/guest{guests}"
        guest.mkdir(parents=True)
        copy(paths, guest)
    return Piece(tree, total.entries * (1 + guests), total.size * (1 + guests))

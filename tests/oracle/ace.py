"""Every sequence of up to three operations over a tiny name space, after CrashMonkey's ACE (OSDI 2018).

Bugs of file systems, and of those who follow them, show in very short sequences; so try all of those. A pure model of
the names leaves out sequences that the kernel would refuse, and the order of the enumeration never changes.
"""

from __future__ import annotations

import itertools
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.oracle import syscalls

Names = frozenset[tuple[str, str]]
"""(path, kind): "f" file, "h" file with a second name, "d" directory, "l" symlink."""

START: Names = frozenset({("A", "d"), ("B", "d"), ("foo", "f"), ("A/foo", "f"), ("A/bar", "f")})
"""What is there before the first operation. B is empty; A/bar has 20,000 bytes and an xattr; the others 5,000 bytes."""


class Step(NamedTuple):
    verb: str
    path: str
    other: str = ""

    def __str__(self) -> str:
        return f"{self.verb}({self.path}{', ' + self.other if self.other else ''})"


Sequence = tuple[Step, ...]

_CONTENT = ("overwrite", "extend", "shrink", "grow", "punch", "store", "replace", "chmod", "xattr", "no_xattr", "touch")
_FILES = ("foo", "A/foo", "A/bar")

STEPS: tuple[Step, ...] = (
    *(Step(verb, path) for verb in _CONTENT for path in ("A/foo", "A/bar")),
    *(Step("create", path) for path in ("A/new", "B/foo", "new")),
    *(Step("mkdir", path) for path in ("A/C", "C")),
    *(Step("symlink", path) for path in ("A/new",)),
    *(Step("unlink", path) for path in (*_FILES, "B/foo", "A/new")),
    *(Step("unlink_written", path) for path in ("A/foo",)),
    *(Step("brief", path) for path in ("A/new", "B/foo")),
    Step("rmdir", "B"),
    Step("rmdir", "C"),
    *(Step("link", "A/foo", other) for other in ("A/new", "B/foo", "new")),
    *(Step("rename", "A/foo", other) for other in ("foo", "A/bar", "A/new", "B/foo")),
    *(Step("rename", "foo", other) for other in ("A/foo", "B/foo")),
    *(Step("rename", "B/foo", other) for other in ("A/foo", "foo")),
    *(Step("rename", "A", other) for other in ("B", "C", "B/C")),
    *(Step("rename", "B", other) for other in ("A/C", "C")),
    *(Step("rename", "C", "A"),),
    Step("exchange", "A/foo", "A/bar"),
    Step("exchange", "A/foo", "B"),
    Step("exchange", "A", "B"),
)


def after(names: Names, step: Step) -> Names | None:
    """The names after a step, or None where the kernel would refuse it. Pure."""
    kinds = dict(names)
    kind, other = kinds.get(step.path), kinds.get(step.other)
    if step.verb in ("create", "mkdir", "symlink", "brief"):
        if kind or not _parent_exists(kinds, step.path):
            return None
        made = {"create": "f", "mkdir": "d", "symlink": "l"}.get(step.verb)
        return names | {(step.path, made)} if made else names
    if kind is None:
        return None
    below = {path for path in kinds if path.startswith(step.path + "/")}
    if step.verb == "rmdir":
        return names - {(step.path, "d")} if kind == "d" and not below else None
    if step.verb == "unlink" or step.verb == "unlink_written":
        if kind == "d" or (step.verb == "unlink_written" and kind == "l"):
            return None
        return names - {(step.path, kind)}
    if step.verb == "link":
        if kind == "d" or other or not _parent_exists(kinds, step.other):
            return None
        linked = "h" if kind == "f" else kind
        return names - {(step.path, kind)} | {(step.path, linked), (step.other, linked)}
    if step.verb in ("rename", "exchange"):
        inside = (step.other + "/").startswith(step.path + "/") or (step.path + "/").startswith(step.other + "/")
        if inside or not _parent_exists(kinds, step.other):
            return None
        if step.verb == "exchange":
            return _moved(names, step.path, step.other, swap=True) if other else None
        if other and ((kind == "d") != (other == "d") or any(path.startswith(step.other + "/") for path in kinds)):
            return None
        if kind == other == "h":
            return names  # two names of one inode: rename(2) does nothing and says that it did
        return _moved(names - {(step.other, other or "")}, step.path, step.other)
    return names if kind in ("f", "h") else None  # the content steps


def _parent_exists(kinds: dict[str, str], path: str) -> bool:
    parent = path.rpartition("/")[0]
    return not parent or kinds.get(parent) == "d"


def _moved(names: Names, old: str, new: str, swap: bool = False) -> Names:
    def place(path: str) -> str:
        if (path + "/").startswith(old + "/"):
            return new + path[len(old) :]
        if swap and (path + "/").startswith(new + "/"):
            return old + path[len(new) :]
        return path

    return frozenset((place(path), kind) for path, kind in names)


def sequences(length: int) -> Iterator[Sequence]:
    """All valid sequences of exactly ``length`` steps, in a fixed order."""

    def grow(names: Names, left: int) -> Iterator[Sequence]:
        if left == 0:
            yield ()
            return
        for step in STEPS:
            following = after(names, step)
            if following is not None:
                for rest in grow(following, left - 1):
                    yield (step, *rest)

    return grow(START, length)


def all_sequences(length: int = 3) -> Iterator[Sequence]:
    """All valid sequences of 1 up to ``length`` steps, the short ones first."""
    return itertools.chain.from_iterable(map(sequences, range(1, length + 1)))


def sample(seed: int, count: int, length: int = 3) -> list[Sequence]:
    """``count`` different valid sequences of ``length`` steps, drawn step by step from the seed alone; sorted."""
    chooser = random.Random(seed)
    drawn: set[Sequence] = set()
    while len(drawn) < count:
        names, steps = START, []
        for _ in range(length):
            step, names = chooser.choice([(s, n) for s in STEPS if (n := after(names, s)) is not None])
            steps.append(step)
        drawn.add(tuple(steps))
    return sorted(drawn)


def prepare(directory: bytes | str | Path) -> None:
    """Make the tree that `START` describes in an existing, empty directory."""
    top = os.fsencode(directory)
    for name in (b"A", b"B"):
        os.mkdir(top + b"/" + name)
    for name, content in ((b"foo", b"f" * 5000), (b"A/foo", b"a" * 5000), (b"A/bar", b"b" * 20_000)):
        _write(top + b"/" + name, content, os.O_CREAT | os.O_EXCL)
    os.setxattr(top + b"/A/bar", "user.first", b"1")


def perform(directory: bytes | str | Path, step: Step) -> None:
    """One step below a prepared directory. Raises OSError: the model says that the kernel accepts it."""
    path = os.fsencode(directory) + b"/" + step.path.encode()
    other = os.fsencode(directory) + b"/" + step.other.encode()
    match step.verb:
        case "create":
            _write(path, b"new content", os.O_CREAT | os.O_EXCL)
        case "mkdir":
            os.mkdir(path)
        case "symlink":
            os.symlink(b"foo", path)
        case "unlink":
            os.unlink(path)
        case "unlink_written":
            with open(path, "r+b") as file:
                os.unlink(path)
                file.write(b"nobody will see this")
        case "brief":
            _write(path, b"brief", os.O_CREAT | os.O_EXCL)
            os.rename(path, path + b"~")
            os.unlink(path + b"~")
        case "rmdir":
            os.rmdir(path)
        case "link":
            os.link(path, other, follow_symlinks=False)
        case "rename":
            os.rename(path, other)
        case "exchange":
            syscalls.renameat2(path, other, syscalls.RENAME_EXCHANGE)
        case "overwrite":
            _write(path, b"OVERWRITTEN", 0, 1000)
        case "extend":
            _write(path, b"E" * 3000, os.O_APPEND)
        case "shrink":
            os.truncate(path, 100)
        case "grow":
            os.truncate(path, 40_000)
        case "punch":
            with open(path, "r+b") as file:
                syscalls.fallocate(file.fileno(), syscalls.FALLOC_PUNCH | syscalls.FALLOC_KEEP_SIZE, 0, 4096)
        case "store":
            with open(path, "r+b") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    file.truncate(1)
                with mmap.mmap(file.fileno(), 0) as mapping:
                    mapping[0] = 0x21
        case "replace":
            _write(path + b"~", b"replaced", os.O_CREAT | os.O_EXCL)
            os.rename(path + b"~", path)
        case "chmod":
            os.chmod(path, 0o4711)
        case "xattr":
            os.setxattr(path, "user.ace", b"value")
        case "no_xattr":
            for name in [name for name in os.listxattr(path) if name.startswith("user.")]:
                os.removexattr(path, name)
        case "touch":
            os.utime(path, ns=(1, 987_654_321))
        case _:
            raise ValueError(f"no such step: {step}")


def _write(path: bytes, content: bytes, flags: int, offset: int = 0) -> None:
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        if offset:
            os.lseek(fd, offset, os.SEEK_SET)
        os.write(fd, content)
    finally:
        os.close(fd)

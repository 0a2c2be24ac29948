"""Numbers of third-party driver packages (oemN.inf): what each machine uses, and under which number a source's package
goes on.

A number is given by the machine that the package is installed on, so both machines use the same ones for different
packages. The target's keep theirs, because its boot drivers go by them; a source's package that collides gets a number
that neither uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from livelift.adapt.windows.system import DRIVERS, SYSTEM, System
from livelift.registry.tree import Key, Value, fold
from livelift.registry.values import EXPAND_SZ, MULTI_SZ, SZ, list_of, text_of

INF = "Windows/INF"
MENTION = re.compile(r"(?<![A-Za-z0-9_.])oem(\d{1,5})\.(inf|pnf|cat)(?![A-Za-z0-9_])", re.I)
"""A package file's name inside of a text: "oem3.inf", "@oem3.inf,%name%;Text", "oem3.inf:section:...". """
TEXTS = (SZ, EXPAND_SZ, MULTI_SZ, 0xFFFF0012, 0xFFFF2012, 0xFFFF0019)
"""Types that hold UTF-16 text: registry strings and DEVPROP_TYPE_STRING, _STRING_LIST, _STRING_INDIRECT
(devpropdef.h)."""
HIGHEST = 1 << 15


class Package(msgspec.Struct, frozen=True):
    """``names``: folded names of the package directories (inf_arch_hash). ``digest``: of INF\\oemN.inf, "" where
    unknown. ``seen``: something names it besides a bit of OemInfMap, which may be left of a package that was
    removed."""

    number: int
    names: frozenset[str] = frozenset()
    digest: str = ""
    seen: bool = True

    def same(self, other: Package) -> bool:
        return bool(self.names & other.names) or (self.digest != "" and self.digest == other.digest)


class Move(msgspec.Struct, frozen=True):
    """``number``: the package's number in the merged system. ``shared``: the target has this very package under it."""

    number: int
    shared: bool


def number_in(name: str) -> int | None:
    """N of oemN.inf, oemN.pnf or oemN.cat."""
    match = MENTION.fullmatch(name)
    return int(match[1]) if match is not None else None


def databases(machine: System) -> Iterator[tuple[str, Key]]:
    """(hive, its DriverDatabase key): the boot-critical part in SYSTEM, the rest in DRIVERS (layout of the latter as
    used by public driver tools that edit HKLM\\DRIVERS\\DriverDatabase; not seen in a hive here)."""
    for hive in (SYSTEM, DRIVERS):
        database = machine.hives[hive].find("DriverDatabase") if hive in machine.hives else None
        if database is not None:
            yield hive, database


def packages(machine: System) -> dict[int, Package]:
    """Every number that the machine uses or may use, with what is known of its package."""
    names: dict[int, set[str]] = {}
    mapped: set[int] = set()
    for _, database in databases(machine):
        mapped |= mapped_numbers(database)
        for inf in database.get("DriverInfFiles") or ():
            number = number_in(inf.name)
            if number is not None:
                active = {text_of(inf.value("Active")), *list_of(inf.value(""))} - {""}
                names.setdefault(number, set()).update(map(fold, active))
    digests: dict[int, str] = {}
    for file in machine.files.directory(INF).values():
        number = number_in(file.path.rpartition("/")[2])
        if number is not None and file.path.lower().endswith(".inf"):
            names.setdefault(number, set())
            digests[number] = file.digest
    for number in mentioned(machine.control("Services")):
        names.setdefault(number, set())
    return {
        n: Package(n, frozenset(names.get(n, ())), digests.get(n, ""), n in names)
        for n in sorted(names.keys() | mapped)
    }


def mapped_numbers(database: Key) -> set[int]:
    """Bits of DriverDatabase\\OemInfMap, the highest of the first byte for oem0.inf (10 1709 and 1903: ff fc and ff f0
    for the numbers 0 to 13 and 0 to 11)."""
    value = database.value("OemInfMap")
    data = value.data if value is not None else b""
    return {8 * i + bit for i, byte in enumerate(data[: HIGHEST // 8]) for bit in range(8) if byte & 0x80 >> bit}


def map_of(numbers: set[int], length: int) -> bytes:
    """OemInfMap of these numbers, at least ``length`` bytes long."""
    data = bytearray(max(length, (max(numbers, default=-1) + 8) // 8))
    for number in numbers:
        data[number // 8] |= 0x80 >> number % 8
    return bytes(data)


def mentioned(top: Key | None) -> set[int]:
    """Numbers in names and texts at any depth below a key."""
    found: set[int] = set()
    for _, value in mentions(top):
        found.update(int(match[1]) for match in MENTION.finditer(value_text(value)))
    return found


def mentions(top: Key | None) -> Iterator[tuple[str, Value]]:
    """Values whose text names a package file, with the relative paths of their keys."""
    if top is None:
        return
    for path, key in top.walk():
        for value in key.values:
            if value.type in TEXTS and b"o\0e\0m\0" in value.data.lower() and MENTION.search(value_text(value)):
                yield path, value


def value_text(value: Value) -> str:
    return value.data[: len(value.data) // 2 * 2].decode("utf-16-le", "surrogatepass")


def moves(source: dict[int, Package], target: dict[int, Package]) -> dict[int, Move]:
    """For every package of the source its number in the merged system. ValueError when no number is free."""
    taken = source.keys() | target.keys()
    found: dict[int, Move] = {}
    for number, package in source.items():
        if not package.seen:
            continue
        twin = next((theirs for theirs in target.values() if theirs.same(package)), None)
        if twin is not None:
            found[number] = Move(twin.number, True)
        elif number not in target:
            found[number] = Move(number, False)
        else:
            free = next((n for n in range(HIGHEST) if n not in taken), None)
            if free is None:
                raise ValueError("no free oem number")
            taken = taken | {free}
            found[number] = Move(free, False)
    return found


def renamed(text: str, numbers: dict[int, Move]) -> str:
    """The text with every package file under its new number."""

    def name(match: re.Match[str]) -> str:
        move = numbers.get(int(match[1]))
        if move is None or move.number == int(match[1]):
            return match[0]
        digits = match.start(1) - match.start(0), match.end(1) - match.start(0)
        return f"{match[0][: digits[0]]}{move.number}{match[0][digits[1] :]}"

    return MENTION.sub(name, text)

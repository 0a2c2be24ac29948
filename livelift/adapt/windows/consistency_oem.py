"""Numbers of third-party packages: all places of the merged system agree."""

from __future__ import annotations

from collections.abc import Iterator

from livelift.adapt.windows.files import FileView
from livelift.adapt.windows.oem_numbers import (
    INF,
    MENTION,
    Move,
    databases,
    mapped_numbers,
    mentions,
    moves,
    number_in,
    packages,
    renamed,
    value_text,
)
from livelift.adapt.windows.system import System
from livelift.checks.findings import Finding, Level
from livelift.registry.tree import Key, fold
from livelift.registry.values import list_of, text_of

REMEDY = "look at the plan's edits of oem-inf and inf-files; do not boot this hive"


def oem_findings(merged: System, source: System, target: System) -> Iterator[Finding]:
    for hive, database in databases(merged):
        yield from _database(hive, database, merged.files)
    numbers = moves(packages(source), packages(target))
    yield from _texts(merged, source, target, numbers)
    yield from _known(merged, source, target, numbers)


def _database(hive: str, database: Key, files: FileView) -> Iterator[Finding]:
    infs = {fold(key.name): key for key in database.get("DriverInfFiles") or ()}
    bits = mapped_numbers(database)
    for inf in infs.values():
        number = number_in(inf.name)
        names = list_of(inf.value(""))
        if number is not None:
            if database.value("OemInfMap") is not None and number not in bits:
                yield _wrong("oem-map", f"{hive}: OemInfMap does not have the number of {inf.name}")
            if files.knows(INF) and files.get(f"{INF}/{inf.name}") is None:
                yield _wrong("oem-file-missing", f"{hive}: {inf.name} is registered, and {INF} has no such file")
        for name in names:
            package = database.find(f"DriverPackages\\{name}")
            if package is None:
                yield _wrong(
                    "oem-package-missing", f"{hive}: {inf.name} names the package {name}, which does not exist"
                )
            elif fold(text_of(package.value(""))) != fold(inf.name):
                told = text_of(package.value("")) or "nothing"
                yield _wrong("oem-disagrees", f"{hive}: {inf.name} names the package {name}, which names {told}")
        active = text_of(inf.value("Active"))
        if active and fold(active) not in {fold(name) for name in names}:
            yield _wrong("oem-active", f"{hive}: the active package of {inf.name} is {active}, which it does not list")
    told_ids = set()
    for path, key in (database.get("DeviceIds") or Key("")).walk():
        for value in key.values:
            name = fold(value.name)
            if number_in(name) is not None and name not in infs and name not in told_ids:
                told_ids.add(name)
                yield _wrong("oem-ids", f"{hive}: DeviceIds\\{path} names {value.name}, which is not registered")


def _texts(merged: System, source: System, target: System, numbers: dict[int, Move]) -> Iterator[Finding]:
    """A text that names a package is the target's own, or the source's with the new numbers."""
    for path, value in mentions(merged.control("")):
        text = value_text(value)
        allowed = []
        for machine, change in ((source, numbers), (target, {})):
            key = machine.control(path)
            old = key.value(value.name) if key is not None else None
            if old is not None:
                allowed.append(renamed(value_text(old), change))
        if allowed and text not in allowed:
            place = f"{path} : {value.name or '(default)'}"
            yield _wrong(
                "oem-disagrees", f"{place} is {_plain(text)}, and should be {' or '.join(map(_plain, allowed))}"
            )


def _known(merged: System, source: System, target: System, numbers: dict[int, Move]) -> Iterator[Finding]:
    """Every number that is named belongs to a package or a file."""
    here = _resolved(merged)
    theirs, ours = _resolved(target), _resolved(source)
    lost = {n for n, p in packages(target).items() if p.seen and n not in theirs}
    lost |= {numbers[n].number for n, p in packages(source).items() if p.seen and n not in ours}
    lost |= _named(target) - theirs
    told = set()
    for path, value in mentions(merged.control("")):
        for match in MENTION.finditer(value_text(value)):
            number = int(match[1])
            if number in here or number in told:
                continue
            told.add(number)
            diagnosis = (
                f"{path} : {value.name or '(default)'} names {match[0]}, of which there is neither package nor file"
            )
            if number in lost:
                yield Finding("oem-unknown", Level.NOTE, f"{diagnosis} (as on its own machine before)")
            else:
                yield _wrong("oem-unknown", diagnosis)


def _named(machine: System) -> set[int]:
    return {int(m[1]) for _, value in mentions(machine.control("")) for m in MENTION.finditer(value_text(value))}


def _resolved(machine: System) -> set[int]:
    """Numbers with a package in a database or a file in INF."""
    found = {
        n
        for _, database in databases(machine)
        for key in database.get("DriverInfFiles") or ()
        if (n := number_in(key.name)) is not None
    }
    files = (file.path.rpartition("/")[2] for file in machine.files.directory(INF).values())
    return found | {n for name in files if name.lower().endswith(".inf") and (n := number_in(name)) is not None}


def _plain(text: str) -> str:
    return repr(text.rstrip("\0").replace("\0", " "))


def _wrong(id: str, diagnosis: str) -> Finding:
    return Finding(id, Level.INHIBITOR, diagnosis, REMEDY)

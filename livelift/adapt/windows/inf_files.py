"""INF files and catalogues: the target's are added, the source's renumbered ones renamed."""

from __future__ import annotations

import re

from livelift.adapt.changes import CopyFile, DeleteFile, RenameFile
from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.files import FileFact, same_content
from livelift.adapt.windows.generation import Generation
from livelift.adapt.windows.oem_numbers import INF, number_in

CATALOGUES = "Windows/System32/CatRoot/{F750E6C3-38EE-11D1-85E5-00C04FC295EE}"
"""The system's catalogue database: signatures of driver packages."""
STORE_INDEX = ("infpub.dat", "infstor.dat", "infstrng.dat", "drvindex.dat", "INFCACHE.1")
"""Index of the driver store before DriverDatabase (Windows 7): its layout is not known, so it is the target's as a
whole."""


def plan(bench: Bench) -> None:
    gone: set[str] = set()
    for directory in (INF, CATALOGUES):
        gone |= _renumber(bench, directory)
    for directory in (INF, CATALOGUES):
        _add(bench, directory, gone)
    if bench.generation is Generation.SEVEN:
        _index(bench)


def _renumber(bench: Bench, directory: str) -> set[str]:
    """Folded names in the directory that are free afterwards."""
    numbers = bench.numbers
    theirs = bench.target.files.directory(directory)
    gone = set()
    for folded, file in sorted(bench.source.files.directory(directory).items()):
        number = number_in(folded)
        move = numbers.get(number) if number is not None else None
        if move is None or move.number == number:
            continue
        name = file.path.rpartition("/")[2]
        id = f"inf-files/{name.lower()}"
        gone.add(folded)
        if move.shared or folded.endswith(".PNF"):
            if folded not in theirs or folded.endswith(".PNF"):
                what = (
                    "compiled from the INF of that number, made anew when needed"
                    if not move.shared
                    else "the target has it"
                )
                bench.edit(
                    id, f"{what}; the package is oem{move.number} now", DeleteFile(file.path), before=[_told(file)]
                )
            continue
        new = re.sub(r"\d+", str(move.number), name, count=1)
        reason = f"oem{number} is another package on the target: the source's is oem{move.number} now"
        bench.edit(id, reason, RenameFile(file.path, f"{file.path.rpartition('/')[0]}/{new}"), before=[_told(file)])
    return gone


def _add(bench: Bench, directory: str, gone: set[str]) -> None:
    """The target's files that the merged tree lacks, and its numbered ones whatever stands there."""
    ours = bench.source.files.directory(directory)
    differ = 0
    for folded, file in sorted(bench.target.files.directory(directory).items()):
        name = file.path.rpartition("/")[2]
        if not folded.endswith((".INF", ".CAT")):
            continue
        mine = ours.get(folded) if folded not in gone else None
        if mine is not None and (same_content(mine, file) or number_in(folded) is None):
            differ += not same_content(mine, file)
            continue
        change = CopyFile(file.path, file.path, file.size, file.digest)
        before = [_told(mine)] if mine is not None else []
        bench.edit(f"inf-files/{name.lower()}/target", "a driver package of the target", change, before=before)
    if differ:
        bench.draft.note("inf-files-differ", f"{directory}: {differ} in-box files differ and stay the source's")
    if not bench.target.files.knows(directory):
        id = "inf-not-listed" if directory == INF else "catalogues-not-listed"
        bench.draft.inhibit(id, f"the target's {directory} was not listed", "give the target's whole Windows directory")


def _index(bench: Bench) -> None:
    for name in STORE_INDEX:
        path = f"Windows/System32/DriverStore/{name}"
        file = bench.target.files.get(path)
        mine = bench.source.files.get(path)
        if file is not None and (mine is None or not same_content(mine, file)):
            change = CopyFile(file.path, file.path, file.size, file.digest)
            before = [_told(mine)] if mine is not None else []
            bench.edit(
                f"inf-files/store-index/{name.lower()}",
                "the index of the driver store is the target's",
                change,
                before=before,
            )
    lost = [f"oem{n}.inf" for n, move in bench.numbers.items() if not move.shared]
    if lost:
        bench.draft.warn(
            "store-index-without-source",
            "packages that only the source has are in the driver store, but not in its index: "
            f"{', '.join(sorted(lost))}",
            "add those that the workload needs again: pnputil -i -a with the INF in its FileRepository directory",
        )


def _told(file: FileFact) -> str:
    return f"{file.size} bytes {file.digest}".strip()


RULE = Rule(
    id="inf-files",
    touches=r"Windows\INF, CatRoot\{F750E6C3-...}; on 7 and 2008 R2 DriverStore\infpub.dat and the like",
    does="Renumbered oemN.inf and oemN.cat of the source are renamed, then what only the target has is added.",
    why="An INF without its number, or a boot driver whose catalogue is missing, is not trusted; x64 does not load "
    "unsigned boot drivers.",
    evidence="Layout: Windows trees of public images (general knowledge); the collisions are measured.",
    plan=plan,
)

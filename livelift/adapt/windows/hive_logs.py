"""Transaction logs beside hives that are written anew: deleted, or the next boot plays them onto the wrong hive."""

from __future__ import annotations

import re

from livelift.adapt.changes import CopyFile, DeleteFile, HiveChange
from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.system import BCD, HIVE_FILES
from livelift.registry.tree import fold


def plan(bench: Bench) -> None:
    changed = {c.hive for edit in bench.draft.edits if isinstance(c := edit.change, HiveChange)} - {BCD}
    copied = {fold(c.path) for edit in bench.draft.edits if isinstance(c := edit.change, CopyFile)}
    changed |= {name for name, path in HIVE_FILES.items() if fold(path) in copied}
    for hive in sorted(changed):
        directory, _, name = HIVE_FILES[hive].rpartition("/")
        for folded, file in sorted(bench.source.files.directory(directory).items()):
            if is_log(name, folded):
                reason = f"belongs to the {hive} hive that is replaced; it must not be replayed onto the new one"
                bench.edit(f"hive-logs/{folded.lower()}", reason, DeleteFile(file.path), before=[f"{file.size} bytes"])


def is_log(hive: str, name: str) -> bool:
    """NAME.LOG, .LOG1, .LOG2, and the common log file system's NAME{guid}.TM.blf, ...regtrans-ms."""
    pattern = re.escape(hive) + r"(\.LOG[12]?|\{[0-9A-F-]+\}[^/]*\.(BLF|REGTRANS-MS))"
    return re.fullmatch(pattern, name, re.I) is not None


RULE = Rule(
    id="hive-logs",
    touches=r"System32\config\SYSTEM.LOG*, DRIVERS.LOG*, *.blf, *.regtrans-ms of the replaced hives",
    does="Deleted.",
    why="A log is replayed when its sequence number fits; what it holds are pages of the old hive.",
    evidence="A hive that was closed cleanly has equal sequence numbers and needs no log (measured).",
    plan=plan,
)

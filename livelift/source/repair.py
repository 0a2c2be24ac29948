"""What a comparison has found different is looked at, and made good whatever the log says."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from livelift.errors import LiveliftError
from livelift.model.record import Kind, Unlink
from livelift.verify import pieces
from livelift.verify.compare import EXTRA, MISSING, UNREADABLE, Difference
from livelift.verify.pieces import Pieces

if TYPE_CHECKING:
    from livelift.source.agent import SourceAgent

log = logging.getLogger(__name__)

LOOKED_AT: Final = 20
PATIENCE: Final = 3.0
"""Paths that are looked at, and seconds for all of them: behind the fence the workload stands still."""
CONTENT: Final = frozenset({"content", "size", "mtime"})
"""Fields of which a file's pieces tell more."""
_WORD: Final = 40

Path = tuple[int, bytes]
Ask = Callable[[bytes, bytes, float], bytes]
"""(kind, payload, deadline) -> the other side's answer. LiveliftError."""


class Repair:
    def __init__(self, agent: SourceAgent) -> None:
        self._agent = agent

    # -- what it is --------------------------------------------------------------------------------------------------

    def look(
        self, found: list[Difference], mine: Callable[[int, bytes, int], Pieces | None], ask: Ask
    ) -> dict[Path, str]:
        """What is said of each path: its fields with both values, and of files which bytes differ. The merge lock is
        not held: the target is asked."""
        told: dict[Path, str] = {}
        fields: dict[Path, list[Difference]] = {}
        for difference in found:
            fields.setdefault((difference.map, difference.path), []).append(difference)
        deadline = time.monotonic() + PATIENCE
        for number, (path, differences) in enumerate(fields.items()):
            words = [f"{d.field}: {' | '.join(v[:_WORD] for v in (d.source, d.target) if v)}" for d in differences]
            content = path[1] and not CONTENT.isdisjoint(each.field for each in differences)
            if content and number < LOOKED_AT and time.monotonic() < deadline:
                try:
                    here = mine(*path, 0)
                    question = pieces.Question(*path, here.piece if here else 0)
                    answer = ask(pieces.KIND, msgspec.msgpack.encode(question), deadline)
                    there = msgspec.msgpack.decode(answer, type=Pieces | None)
                    words += [pieces.describe(here, there)] if here or there else []
                except (LiveliftError, OSError, msgspec.MsgspecError) as error:
                    words.append(f"not looked at: {error}")
            told[path] = "; ".join(words)
            if number < LOOKED_AT:
                log.warning("verification: %r: %s", path[1], told[path])
        return told

    # -- what becomes of it ------------------------------------------------------------------------------------------

    def run(self, found: list[Difference], told: dict[Path, str]) -> None:
        """What differs is read again (or, if only the target has it, removed there). First the log is made to say what
        is there now under each name that differs: it may be the log that is wrong (an event was lost), and what is read
        again under a name that another object has by now makes nothing good. ``told``: as `look` gives it."""
        agent = self._agent
        settled: set[tuple[int, bytes]] = set()
        again: set[int] = set()
        robbed: set[int] = set()
        for difference in sorted(found, key=lambda d: len(d.path), reverse=True):
            with agent.journal.lock:
                self._settle(difference, settled)
                oid, parent, name = self.find(difference)
                if difference.field == EXTRA:
                    if parent and not oid:
                        self._remove_extra(parent, name, difference)
                        robbed.add(parent)
                    continue
                if not oid:
                    if parent:
                        agent.walker.add(parent, False)
                    continue
                self._read_again(oid, difference, again, told.get((difference.map, difference.path), difference.field))
        for directory in robbed:
            agent.gaps.open(directory, "verification", EXTRA)
            agent.walker.add(directory, False)

    def _read_again(self, oid: int, difference: Difference, again: set[int], told: str) -> None:
        """``again``: what has been dealt with, by another of its differences. The merge lock is held."""
        agent = self._agent
        if agent.journal.index.is_dir(oid):
            agent.gaps.open(oid, "verification", told)
            if difference.field == MISSING:
                agent.healer.reissue_tree(oid)
            else:  # the attributes, whatever the index knows, and then its names
                agent.healer.reissue(oid)
                agent.dirty.add(oid, False)
        elif oid not in again:
            again.add(oid)
            agent.gaps.open(oid, "verification", told)
            agent.healer.reissue(oid, keep=difference.field == UNREADABLE)
            agent.dirty.add(oid, True)

    def _settle(self, difference: Difference, settled: set[tuple[int, bytes]]) -> None:
        """Each name of the path by what is there now, once. The merge lock is held."""
        index = self._agent.journal.index
        at = index.lookup(0, b"%d" % difference.map)
        for name in difference.path.split(b"/") if difference.path else ():
            if at and (at, name) not in settled:
                settled.add((at, name))
                self._agent.healer.settle(at, name)
            at = index.lookup(at, name) if at else 0

    def find(self, difference: Difference) -> tuple[int, int, bytes]:
        """(object, parent, last name) of a difference's path by the index; 0 where the index knows nothing."""
        index = self._agent.journal.index
        at = index.lookup(0, b"%d" % difference.map)
        parent, name = 0, b""
        for name in difference.path.split(b"/") if difference.path else ():
            parent, at = at, index.lookup(at, name) if at else 0
        return at, parent, name

    def _remove_extra(self, parent: int, name: bytes, difference: Difference) -> None:
        kind = Kind.RMTREE if difference.target == "directory" else Kind.UNLINK
        self._agent.journal.put(kind, Unlink(0, parent, name))

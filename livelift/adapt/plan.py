"""A plan: the edits that make one system fit another machine, each with its reason, and what stands in the way.

A plan is made from facts alone and changes nothing. It can be printed for review (`adapt.render`), overridden by the
operator's rules file (`adapt.rules`), and is then carried out in its order. A rule that lacks a fact, or has two that
contradict each other, adds a finding at the level INHIBITOR instead of an edit: a plan with one of those is not carried
out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec

from livelift.adapt.changes import Change, touches
from livelift.checks.findings import Finding, Findings, Level

Kind = TypeVar("Kind", bound=Change)


class Edit(msgspec.Struct, frozen=True):
    """``id``: stable and unique in a plan, words separated by slashes, the rule's name first ("services/storahci");
    patterns of the rules file match it. ``inputs``: the facts that it was decided from. ``before``: lines of what
    stands there now, none where there is nothing; what comes after is rendered from the change."""

    id: str
    reason: str
    change: Change
    inputs: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

    @property
    def touches(self) -> str:
        return touches(self.change)


class Skipped(msgspec.Struct, frozen=True):
    """An edit that the operator's rules file took out: shown, never made."""

    edit: Edit
    pattern: str


class Plan(msgspec.Struct, frozen=True):
    """``title``: what is adapted to what."""

    title: str
    edits: tuple[Edit, ...] = ()
    findings: tuple[Finding, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def changes(self, kind: type[Kind]) -> Iterator[Kind]:
        """All changes of one kind, in the order of the plan."""
        for edit in self.edits:
            if isinstance(edit.change, kind):
                yield edit.change

    def matching(self, pattern: str) -> Iterator[Edit]:
        """Edits whose id matches a shell pattern, upper and lower case alike ("*" also matches a slash)."""
        for edit in self.edits:
            if fnmatchcase(edit.id.lower(), pattern.lower()):
                yield edit

    def check(self, ignored: Iterable[str] = ()) -> None:
        """PreflightError for the inhibitors that are not among the ignored ids."""
        Findings(self.findings, ignored).raise_inhibitors()


class Draft:
    """Where rules put what they decide. Ids are kept unique: the second edit of the same id is a mistake of the
    rule."""

    def __init__(self) -> None:
        self._edits: dict[str, Edit] = {}
        self._findings: list[Finding] = []

    def edit(
        self, id: str, reason: str, change: Change, *, inputs: Iterable[str] = (), before: Iterable[str] = ()
    ) -> None:
        if id in self._edits:
            raise ValueError(f"two edits have the id {id!r}")
        self._edits[id] = Edit(id, reason, change, tuple(inputs), tuple(before))

    def inhibit(self, id: str, diagnosis: str, remedy: str) -> None:
        self._find(id, Level.INHIBITOR, diagnosis, remedy)

    def warn(self, id: str, diagnosis: str, remedy: str = "") -> None:
        self._find(id, Level.WARNING, diagnosis, remedy)

    def note(self, id: str, diagnosis: str, remedy: str = "") -> None:
        self._find(id, Level.NOTE, diagnosis, remedy)

    def _find(self, id: str, level: Level, diagnosis: str, remedy: str) -> None:
        self._findings.append(Finding(id, level, diagnosis, remedy))

    @property
    def edits(self) -> tuple[Edit, ...]:
        """What has been decided so far."""
        return tuple(self._edits.values())

    def plan(self, title: str) -> Plan:
        return Plan(title, tuple(self._edits.values()), tuple(self._findings))

"""The workbench of the rules: both machines, the merged hives as far as they have come, and the draft of the plan.

A rule looks and edits; each edit is carried out at once, so a later rule sees what the earlier ones decided. An edit
that would change nothing is not made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import NamedTuple, Protocol

import msgspec

from livelift.adapt.changes import Change, GraftKey, HiveChange, MergeList, RemoveKey, RemoveValue, SetValue
from livelift.adapt.plan import Draft
from livelift.adapt.render import value_text
from livelift.adapt.windows.apply import base, carry_out, copy_hive, count, same_tree
from livelift.adapt.windows.generation import Generation
from livelift.adapt.windows.oem_numbers import Move, moves, packages
from livelift.adapt.windows.system import BCD, DRIVERS, SYSTEM, System
from livelift.registry.tree import SEPARATOR, Key, Value, fold
from livelift.registry.values import DWORD, EXPAND_SZ, MULTI_SZ, SZ, list_data, text_data

SHOWN = 10
"""Values of a replaced key that a plan lists."""


class Choices(msgspec.Struct, frozen=True):
    """What the operator decides and no fact can tell. ``letters``: source letter to target letter ("E": "F"), None
    where the data of that volume were not moved. ``nics``: interface of the source to one of the target, each by GUID
    or connection name, None where its addresses are given up. ``same_hypervisor``: keep the source's guest agent."""

    letters: Mapping[str, str | None] = {}
    nics: Mapping[str, str | None] = {}
    same_hypervisor: bool = False


class Bench:
    """``set``: the merged control set (the source's current one); ``other``: the target's. ``grafted``: folded paths in
    SYSTEM whose content is the target's now."""

    def __init__(self, source: System, target: System, generation: Generation, choices: Choices, draft: Draft) -> None:
        self.source = source
        self.target = target
        self.generation = generation
        self.choices = choices
        self.draft = draft
        self.set = source.control_set
        self.other = target.control_set
        known = source.hives.keys() | target.hives.keys()
        self.merged = {
            name: copy_hive(base(name, source.hives, target.hives))
            for name in (SYSTEM, DRIVERS, BCD)
            if name in known and (name != BCD or name in target.hives)
        }
        self.grafted: set[str] = set()
        self.kept_instances: list[tuple[str, str, str]] = []
        """(device instance, its new place below Control\\Class, the old one) of software devices that are put back."""
        self.disabled: set[str] = set()
        """Folded names of services that a rule keeps from starting."""

    @cached_property
    def numbers(self) -> dict[int, Move]:
        """The source's third-party packages under their numbers in the merged system."""
        return moves(packages(self.source), packages(self.target))

    def control(self, path: str) -> Key | None:
        """A key below the merged control set."""
        return self.merged[SYSTEM].find(f"{self.set}\\{path}" if path else self.set)

    def control_key(self, path: str) -> Key:
        """The same for one that must be there; an empty key where it is not (never put into the hive)."""
        return self.control(path) or Key(path.rpartition(SEPARATOR)[2])

    # -- edits -------------------------------------------------------------------------------------------------------

    def edit(
        self, id: str, reason: str, change: Change, *, inputs: Iterable[str] = (), before: Iterable[str] = ()
    ) -> None:
        self.draft.edit(id, reason, change, inputs=inputs, before=before)
        if isinstance(change, HiveChange):
            carry_out(change, self.merged, self.source.hives, self.target.hives)
        if isinstance(change, GraftKey) and change.hive == SYSTEM and change.side == "target":
            self.grafted.add(fold(change.key))

    def set_value(
        self, id: str, reason: str, key: str, name: str, type: int, data: bytes, *, hive: str = SYSTEM
    ) -> None:
        found = self.merged[hive].find(key)
        old = found.value(name) if found is not None else None
        if old is None or (old.type, old.data) != (type, data):
            self.edit(id, reason, SetValue(hive, key, name, type, data), before=_shown(old))

    def set_text(self, id: str, reason: str, key: str, name: str, text: str, *, expand: bool = False) -> None:
        self.set_value(id, reason, key, name, EXPAND_SZ if expand else SZ, text_data(text))

    def set_number(self, id: str, reason: str, key: str, name: str, number: int) -> None:
        self.set_value(id, reason, key, name, DWORD, number.to_bytes(4, "little"))

    def set_list(self, id: str, reason: str, key: str, name: str, parts: list[str], *, hive: str = SYSTEM) -> None:
        """Each part is a line of the diff. An empty list removes the value."""
        found = self.merged[hive].find(key)
        old = found.value(name) if found is not None else None
        if not parts:
            self.remove_value(id, reason, key, name, hive=hive)
        elif old is None or old.type != MULTI_SZ or old.data != list_data(parts):
            lines = old.data.decode("utf-16-le", "replace").split("\0") if old is not None else []
            before = [line for line in lines if line]
            self.edit(id, reason, MergeList(hive, key, name, tuple(parts)), before=before)

    def remove_value(self, id: str, reason: str, key: str, name: str, *, hive: str = SYSTEM) -> None:
        found = self.merged[hive].find(key)
        old = found.value(name) if found is not None else None
        if old is not None:
            self.edit(id, reason, RemoveValue(hive, key, name), before=_shown(old))

    def graft(self, id: str, reason: str, key: str, origin: str, *, hive: str = SYSTEM, side: str = "target") -> bool:
        """Whether the other hive has ``origin`` at all; where it has not, nothing is done."""
        new = (self.target if side == "target" else self.source).hives[hive].find(origin)
        if new is None:
            return False
        old = self.merged[hive].find(key)
        if same_tree(old, new):
            if hive == SYSTEM and side == "target":
                self.grafted.add(fold(key))
            return True
        before = [str(count(old))] if old is not None else []
        inputs = [f"{side}'s: {count(new)}", *_changed(old, new)]
        self.edit(id, reason, GraftKey(hive, key, origin, side), inputs=inputs, before=before)
        return True

    def graft_control(self, id: str, reason: str, path: str) -> bool:
        """The same path below both current control sets."""
        return self.graft(id, reason, f"{self.set}\\{path}", f"{self.other}\\{path}")

    def remove_key(self, id: str, reason: str, key: str, *, hive: str = SYSTEM) -> None:
        old = self.merged[hive].find(key)
        if old is not None:
            self.edit(id, reason, RemoveKey(hive, key), before=[str(count(old))])

    def is_grafted(self, path: str) -> bool:
        """Whether a path in SYSTEM holds the target's content."""
        folded = fold(path)
        while folded:
            if folded in self.grafted:
                return True
            folded = folded.rpartition(SEPARATOR)[0]
        return False


class Plans(Protocol):
    def __call__(self, bench: Bench) -> None: ...


class Rule(NamedTuple):
    """``id``: first word of its edits' ids. ``touches``: for the reference. ``why``: what happens without it.
    ``evidence``: where that is known from."""

    id: str
    touches: str
    does: str
    why: str
    evidence: str
    plan: Plans


def _shown(value: Value | None) -> list[str]:
    return [value_text(value)] if value is not None else []


def _changed(old: Key | None, new: Key) -> list[str]:
    """The key's own values that change, for the reviewer; what is below it is only counted."""
    if old is None:
        return []
    told = []
    for name in dict.fromkeys(value.name for key in (old, new) for value in key.values):
        before, after = value_text(old.value(name)), value_text(new.value(name))
        if before != after:
            told.append(f"{name or '(default)'} {before} -> {after}")
    return told[:SHOWN] + ([f"{len(told) - SHOWN} more values"] if len(told) > SHOWN else [])

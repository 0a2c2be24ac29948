"""The operator's rules file: skip an edit, or put another value in its place.

    skip = ["start-override/*", "network/addresses/Ethernet0"]

    [[replace]]
    id = "setup/crash-control"
    value = 1

``skip`` takes shell patterns on the ids that a dry run prints. ``value`` is text, a number, a list of texts or, for raw
bytes, ``{ hex = "01 02" }``.
"""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec

from livelift.adapt.changes import Change, CopyFile, MakeLink, MergeList, SetValue, WriteFile
from livelift.adapt.plan import Edit, Plan, Skipped
from livelift.checks.findings import Finding, Level
from livelift.errors import UsageError
from livelift.registry.values import BINARY, DWORD, EXPAND_SZ, MULTI_SZ, QWORD, SZ, list_data, text_data


class Replacement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    value: str | int | list[str] | dict[str, str]


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    skip: tuple[str, ...] = ()
    replace: tuple[Replacement, ...] = ()


def parse(text: str) -> Rules:
    """The text of a rules file (TOML 1.0). UsageError with the line or the field that is wrong."""
    try:
        return msgspec.convert(tomllib.loads(text), Rules)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"rules file: {error}", remedy="the keys are skip and [[replace]] with id and value") from None


def override(plan: Plan, rules: Rules) -> Plan:
    """The plan as the operator wants it. A rule that matches no edit is a warning of the new plan: it may be a slip of
    the pen, and the edit that it was meant for would be made. UsageError for a value that does not fit its edit."""
    skipped: dict[str, Skipped] = {}
    findings = list(plan.findings)
    for pattern in rules.skip:
        hits = list(plan.matching(pattern))
        for edit in hits:
            skipped.setdefault(edit.id, Skipped(edit, pattern))
        if not hits:
            findings.append(_without_effect(f"skip {pattern!r}"))
    replaced: dict[str, Edit] = {}
    for rule in rules.replace:
        hits = [edit for edit in plan.edits if edit.id == rule.id]
        for edit in hits:
            replaced[edit.id] = msgspec.structs.replace(
                edit, change=_with_value(edit, rule.value), reason=f"{edit.reason} (value from the rules file)"
            )
        if not hits:
            findings.append(_without_effect(f"replace {rule.id!r}"))
    if both := sorted(skipped.keys() & replaced.keys()):
        raise UsageError(f"rules file: {both[0]!r} is both skipped and replaced", remedy="keep one of the two rules")
    edits = tuple(replaced.get(edit.id, edit) for edit in plan.edits if edit.id not in skipped)
    return Plan(plan.title, edits, tuple(findings), plan.skipped + tuple(skipped.values()))


def _without_effect(rule: str) -> Finding:
    return Finding(
        "rule-without-effect", Level.WARNING, f"rules file: {rule} matches no edit", "compare with the ids of --dry-run"
    )


def _with_value(edit: Edit, value: Any) -> Change:
    change = edit.change
    match change, value:
        case SetValue(), _:
            return msgspec.structs.replace(change, data=_data(edit, change.type, value))
        case MergeList(), list():
            return msgspec.structs.replace(change, parts=tuple(value))
        case WriteFile(), str():
            return msgspec.structs.replace(change, data=value.encode())
        case MakeLink(), str():
            return msgspec.structs.replace(change, text=value)
        case CopyFile(), str():
            raise _misfit(edit, "a copied file cannot be exchanged; skip the edit and copy the other file yourself")
        case _:
            raise _misfit(edit, "this kind of edit takes no such value; skip it or leave it")


def _data(edit: Edit, type: int, value: Any) -> bytes:
    match type, value:
        case ((1 | 2), str()):
            assert type in (SZ, EXPAND_SZ)
            return text_data(value)
        case 7, list():
            assert type == MULTI_SZ
            return list_data(value)
        case 4, int() if 0 <= value < 1 << 32:
            assert type == DWORD
            return value.to_bytes(4, "little")
        case 11, int() if 0 <= value < 1 << 64:
            assert type == QWORD
            return value.to_bytes(8, "little")
        case _, {"hex": digits, **rest} if not rest:
            try:
                return bytes.fromhex(digits)
            except ValueError:
                raise _misfit(edit, "hex takes pairs of hexadecimal digits") from None
        case _:
            kinds = {
                SZ: "text",
                EXPAND_SZ: "text",
                MULTI_SZ: "a list of texts",
                DWORD: "0 to 2^32-1",
                QWORD: "0 to 2^64-1",
            }
            kinds[BINARY] = '{ hex = "..." }'
            raise _misfit(edit, f"the value is {kinds.get(type, kinds[BINARY])}")


def _misfit(edit: Edit, what: str) -> UsageError:
    return UsageError(f"rules file: the value for {edit.id!r} does not fit", remedy=what)

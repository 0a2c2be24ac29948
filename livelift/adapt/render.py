"""A plan as a reviewable diff (text) and as data (JSON)."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from livelift.adapt.changes import (
    Change,
    CopyFile,
    CopyTree,
    CopyValues,
    GraftKey,
    MakeLink,
    MergeList,
    RenameFile,
    RunCommand,
    SetValue,
    WriteFile,
)
from livelift.adapt.plan import Edit, Plan
from livelift.checks.findings import Findings
from livelift.registry.tree import Value
from livelift.registry.values import BINARY, DWORD, EXPAND_SZ, LINK, MULTI_SZ, QWORD, SZ, list_of, number_of, text_of

LONGEST = 64
"""Bytes of a binary value, and lines of a text diff times four, that are shown; the JSON form has all."""
CONTROL = {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if code != 9}


def after(change: Change) -> tuple[str, ...]:
    """Lines of what stands there once the change is made; none where nothing stands there any more."""
    match change:
        case SetValue():
            return (value_text(Value(change.name, change.type, change.data)),)
        case MergeList():
            return tuple(change.parts)
        case GraftKey():
            return (f"the {change.side}'s {change.origin}",)
        case CopyValues():
            return (f"the source's values {change.name} below {change.origin}, named {change.to}",)
        case RenameFile():
            return (f"renamed to {change.to}",)
        case CopyFile():
            return (
                f"the target's {change.origin}, {change.size} bytes" + (f", {change.digest}" if change.digest else ""),
            )
        case CopyTree():
            return (f"the target's {change.origin}/, {change.files} files, {change.size} bytes",)
        case MakeLink():
            return (f"-> {change.text}",)
        case WriteFile():
            return tuple(change.data.decode("utf-8", "backslashreplace").splitlines())
        case RunCommand():
            return (" ".join(change.arguments),)
        case _:
            return ()


def value_text(value: Value | None) -> str:
    """A value on one line, its type told by its form."""
    if value is None:
        return "(absent)"
    if value.type in (SZ, EXPAND_SZ, LINK):
        return f'"{text_of(value)}"'
    if value.type == MULTI_SZ:
        return "[" + ", ".join(list_of(value)) + "]"
    if value.type in (DWORD, QWORD) and (number := number_of(value)) >= 0:
        return f"{number} (0x{number:x})"
    kind = "hex" if value.type == BINARY else f"hex({value.type:x})"
    more = f" ... {len(value.data)} bytes" if len(value.data) > LONGEST else ""
    return f"{kind}:{value.data[:LONGEST].hex(' ')}{more}"


def to_text(plan: Plan) -> str:
    """The whole plan for a terminal or a file. Control characters of names are shown, never sent."""
    rules = Counter(edit.id.partition("/")[0] for edit in plan.edits)
    told = f": {', '.join(f'{rule} {count}' for rule, count in rules.items())}" if rules else ""
    lines = [plan.title, f"{len(plan.edits)} edits, {len(plan.skipped)} skipped by the rules file{told}", ""]
    for edit in plan.edits:
        lines += _edit(edit)
    for skipped in plan.skipped:
        lines += [f"skipped {skipped.edit.id} (rule {skipped.pattern!r}): {skipped.edit.touches}", ""]
    lines += Findings(plan.findings).to_text().splitlines()
    return "\n".join(line.translate(CONTROL) for line in lines)


def _edit(edit: Edit) -> list[str]:
    lines = [f"@@ {edit.id}", f"   {edit.touches}", f"   why: {edit.reason}"]
    if edit.inputs:
        lines.append(f"   from: {'; '.join(edit.inputs)}")
    return [*lines, *_diff(edit.before, after(edit.change)), ""]


def _diff(old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[str]:
    if len(old) <= 1 and len(new) <= 1:
        yield from (f"-  {line}" for line in old)
        yield from (f"+  {line}" for line in new)
        return
    body = list(difflib.unified_diff(old, new, n=2, lineterm=""))[2:]
    for line in body[: 4 * LONGEST]:
        yield "   ..." if line.startswith("@@") else f"{line[0]}  {line[1:]}"
    if len(body) > 4 * LONGEST:
        yield f"   ... {len(body) - 4 * LONGEST} more lines"


def to_dict(plan: Plan) -> dict[str, Any]:
    """Raw bytes as base64 in "change", readable in "before" and "after"."""
    return {
        "title": plan.title,
        "edits": [_edit_dict(edit) for edit in plan.edits],
        "skipped": [{"id": s.edit.id, "pattern": s.pattern, "touches": s.edit.touches} for s in plan.skipped],
        **Findings(plan.findings).to_dict(),
    }


def _edit_dict(edit: Edit) -> dict[str, Any]:
    return {
        "id": edit.id,
        "touches": edit.touches,
        "reason": edit.reason,
        "inputs": list(edit.inputs),
        "before": list(edit.before),
        "after": list(after(edit.change)),
        "change": msgspec.to_builtins(edit.change),
    }

"""A Windows take-over plan in words, for review before anything is done. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from livelift.takeover.windows import TakeoverPlan, undo_moves

LETTERS = "CDEFGHIJKLMNOPQRSTUVW"
"""Where the recovery image may have put the volume; X: is its own."""

SPECIAL = frozenset(' \t&|<>^"%()')


def quoted(arguments: tuple[str, ...]) -> str:
    """A line that can be pasted into cmd.exe: arguments with blanks or cmd's own characters in quotation marks."""
    parts = []
    for argument in arguments:
        if not argument or SPECIAL & set(argument):
            # Backslashes before a quotation mark count twice (CommandLineToArgvW).
            body = argument.replace('"', '\\"')
            tail = len(body) - len(body.rstrip("\\"))
            argument = f'"{body}{chr(92) * tail}"'
        parts.append(argument)
    return " ".join(parts)


def render(plan: TakeoverPlan) -> str:
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: TakeoverPlan) -> Iterator[str]:
    yield f"take-over of Windows by way of {plan.way}: {len(plan.steps)} steps; nothing has been done yet"
    for number, step in enumerate(plan.steps, 1):
        yield ""
        yield f"{number}. [{step.phase}] {step.title}"
        yield f"   why: {step.why}"
        yield from (f"   {quoted(command)}" for command in step.commands)
        yield from (f"   undo: {quoted(command)}" for command in step.undo)
    if plan.pending:
        yield ""
        yield "pending renames in the merged SYSTEM hive:"
        yield from (f"   {move.old} -> {move.new}" for move in plan.pending)
    yield ""
    yield from (f"note: {warning}" for warning in plan.warnings)
    yield "way back: the undo lines of the steps that were done, from the last to the first"


def swap_script(plan: TakeoverPlan) -> str:
    """The batch file of the recovery image. ``livelift.cmd back`` renames everything back.

    Each rename is told in the journal on the volume before and after it; a rename that was done is skipped, so the
    script can be started again after a power cut, forwards or backwards."""
    drive = plan.moves[0].old[:2]
    lines = [
        "@echo off",
        "setlocal",
        "set V=",
        f"for %%D in ({' '.join(LETTERS)}) do if exist %%D:\\.livelift\\new if not defined V set V=%%D:",
        "if not defined V exit /b 2",
        'if /i "%~1"=="back" goto back',
        "",
    ]
    for label, moves in (("forward", plan.moves), ("back", undo_moves(plan.moves))):
        lines.append(f":{label}")
        for move in moves:
            old, new = _batch(move.old, drive), _batch(move.new, drive)
            lines += [
                f'echo {label} begin "{old}">>"%V%\\.livelift\\journal.txt"',
                f'if exist "{old}" if not exist "{new}" move "{old}" "{new}" || goto failed',
                f'echo {label} done "{old}">>"%V%\\.livelift\\journal.txt"',
            ]
        lines += ["exit /b 0", ""]
    lines += [":failed", 'echo failed>>"%V%\\.livelift\\journal.txt"', "exit /b 1", ""]
    return "\r\n".join(lines)


def _batch(path: str, drive: str) -> str:
    """The volume's letter is found when the script runs: the recovery image gives letters of its own."""
    return "%V%" + path.removeprefix(drive).replace("%", "%%")

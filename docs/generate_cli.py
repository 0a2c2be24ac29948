"""Writes docs/reference/cli.md from the parser of the command line: ``python docs/generate_cli.py``."""

from __future__ import annotations

import argparse
from pathlib import Path

from livelift.cli.main import build_parser

OUT = Path(__file__).resolve().parent / "reference/cli.md"


def render() -> str:
    (verbs,) = (action for action in build_parser()._actions if action.dest == "verb")
    assert isinstance(verbs, argparse._SubParsersAction)
    summaries = {choice.dest: choice.help or "" for choice in verbs._choices_actions}
    lines = [
        "# Command line",
        "",
        "Generated from the parser by `docs/generate_cli.py`; a test compares the two.",
        "Every verb ends with one of the [exit codes](exit-codes.md).",
        "",
        "| verb | |",
        "|---|---|",
        *(f"| [`{name}`](#livelift-{name}) | {summary} |" for name, summary in summaries.items()),
    ]
    for name, parser in verbs.choices.items():
        lines += ["", f"## livelift {name}", "", *_text(parser.description or "")]
        lines += ["", "| argument | |", "|---|---|"]
        lines += [row for action in parser._actions if action.dest != "help" for row in _row(action)]
    return "\n".join(lines) + "\n"


def _text(description: str) -> list[str]:
    """Paragraphs as they are; an example is a block of its own."""
    prose, separator, example = description.partition("\nexample")
    if not separator:
        return prose.strip().splitlines()
    return [*prose.strip().splitlines(), "", "```", *(line.strip() for line in example.splitlines()[1:]), "```"]


def _row(action: argparse.Action) -> list[str]:
    if action.help == argparse.SUPPRESS:
        return []
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    if action.choices is not None and action.metavar is None:
        value = "|".join(map(str, action.choices))
    if isinstance(value, tuple):
        value = " ".join(value)
    takes = action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction)
    names = ", ".join(f"`{option} {value}`" if takes else f"`{option}`" for option in action.option_strings)
    text = (action.help or "") % {"default": action.default, "prog": "livelift"}
    return [f"| {names or f'`{value}`'} | {text} |".replace("|`", "| `").replace(f" {value}`", f" {_cell(value)}`")]


def _cell(value: str) -> str:
    """A bar inside of a table's cell."""
    return value.replace("|", "\\|")


if __name__ == "__main__":
    OUT.write_text(render(), encoding="utf-8")

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
        lines += _section(f"livelift {name}", parser, "##")
    return "\n".join(lines) + "\n"


def _section(name: str, parser: argparse.ArgumentParser, level: str) -> list[str]:
    """A verb; one that has verbs of its own is followed by theirs, one level below."""
    lines = ["", f"{level} {name}", "", *_text(parser.description or "")]
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    plain = [action for action in parser._actions if action.dest != "help" and action not in nested]
    if plain:
        lines += ["", "| argument | |", "|---|---|", *(row for action in plain for row in _row(action))]
    for action in nested:
        for verb, below in action.choices.items():
            lines += _section(f"{name} {verb}", below, level + "#")
    return lines


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

"""The documents say what the program does: generated tables are current, links lead somewhere, commands exist."""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path
from typing import get_args

import pytest

from livelift.adapt.changes import Change
from livelift.cli.main import build_parser
from livelift.errors import LiveliftError
from livelift.model.entry import Attributes
from livelift.model.record import BODY_OF, Kind
from livelift.protocol import messages, pairing
from livelift.verify import messages as dialogue

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/**/*.md")])


def exit_codes() -> object:
    return generator("generate_exit_codes")


def generator(name: str) -> object:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_exit_codes_are_those_of_the_errors() -> None:
    generator = exit_codes()
    assert generator.OUT.read_text(encoding="utf-8") == generator.render()  # type: ignore[attr-defined]
    codes = {error.exit_code for error in generator.all_errors()}  # type: ignore[attr-defined]
    assert codes <= generator.MEANING.keys()  # type: ignore[attr-defined]
    assert LiveliftError in generator.all_errors()  # type: ignore[attr-defined]


def test_the_command_line_is_that_of_the_parser() -> None:
    cli = generator("generate_cli")
    assert cli.OUT.read_text(encoding="utf-8") == cli.render(), "run: python docs/generate_cli.py"  # type: ignore[attr-defined]


def test_the_windows_edits_are_those_of_the_rules() -> None:
    edits = generator("generate_windows_edits")
    text = edits.OUT.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert text == edits.render(), "run: python docs/generate_windows_edits.py"  # type: ignore[attr-defined]


def test_the_kinds_of_changes_are_told() -> None:
    text = (ROOT / "docs/internals/adaptation.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]*?) \| `(?:adapt|edits)", text, re.M))
    kinds = {kind.__struct_config__.tag: ", ".join(kind.__struct_fields__) for kind in get_args(Change)}
    assert told == kinds


def rows(name: str) -> dict[int, tuple[str, str]]:
    """Number, name and last-but-one cell of the tables of kinds and messages."""
    text = (ROOT / "docs/internals" / name).read_text(encoding="utf-8")
    return {int(n): (kind, rest) for n, kind, rest in re.findall(r"^\| (\d+) \| `(\w+)` \| ([^|]*)", text, re.M)}


def test_the_log_format_names_every_kind_and_body() -> None:
    told = rows("log-format.md")
    for kind in Kind:
        name, body = told[kind.value]
        assert name == kind.name
        assert body.startswith(BODY_OF[kind].__name__), f"{name} has the body {BODY_OF[kind].__name__}"
    text = (ROOT / "docs/internals/log-format.md").read_text(encoding="utf-8")
    for body in {*BODY_OF.values(), Attributes}:
        (fields,) = re.findall(rf"^\| {body.__name__} \| (.*) \|$", text, re.M)
        assert tuple(re.sub(r" \[[^]]*]", "", fields).split(", ")) == body.__struct_fields__


def test_the_wire_format_names_every_message() -> None:
    text = (ROOT / "docs/internals/wire-format.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| (\d+) \| `(\w+)` \| ([^|]*?) ?\|$", text, re.M))
    for union in (messages.Message, pairing.PairMessage, dialogue.Request, dialogue.Reply):
        for message in get_args(union):
            expected = (str(message.__struct_config__.tag), message.__name__, ", ".join(message.__struct_fields__))
            assert expected in told


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_options_exist(path: Path) -> None:
    """Every ``livelift VERB --option`` in a code block is one that the parser knows."""
    (verbs,) = (action.choices for action in build_parser()._actions if action.dest == "verb")
    assert verbs is not None
    known = dict(verbs)  # type: ignore[call-overload]
    for block in re.findall(r"^(?:```.*?^```| {4}.*?$)", path.read_text(encoding="utf-8"), re.M | re.S):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            match = re.search(r"^\s*(?:[$#] )?livelift ([a-z-]+)\b(.*)", line)
            if match is None:
                continue
            verb, rest = match.groups()
            assert verb in known, f"{path.name}: {line.strip()}"
            parser = known[verb]
            for action in parser._actions:
                if isinstance(action, argparse._SubParsersAction):
                    word = (rest.split() or [""])[0]
                    assert word in action.choices, f"{path.name}: {line.strip()}"
                    parser = action.choices[word]
            for option in re.findall(r"(?<!\S)(--[a-z-]+)", rest.partition(" #")[0]):
                assert option in parser._option_string_actions, f"{path.name}: {line.strip()}"


@pytest.mark.parametrize("name", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_tests_exist(name: Path) -> None:
    """A guarantee names the tests that hold it: `tests/room/test_file.py::test_name`."""
    for path, _, test in re.findall(r"`(tests/[\w/]+\.py)(::(\w+))?`", name.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path
        assert f"def {test}" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"

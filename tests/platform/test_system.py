"""One set of names for both systems: here they are Linux's, and Windows has each of them too."""

from __future__ import annotations

import ast
import os
from pathlib import Path

from livelift.platform import system
from livelift.source import edge

ROOT = Path(system.__file__).parent


def branches(path: Path) -> tuple[set[str], set[str]]:
    """Names that the Windows branch and the other one define, by the text of the module."""
    (test,) = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.If))

    def defined(body: list[ast.stmt]) -> set[str]:
        names: set[str] = set()
        for node in body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        return names

    return defined(test.body), defined(test.orelse)


def test_on_linux_it_is_the_standard_library_itself() -> None:
    assert system.os is os


def test_both_systems_have_every_name() -> None:
    for module in (system, edge):
        windows, linux = branches(Path(module.__file__))
        names = set(module.__all__)
        assert names <= windows, names - windows
        assert names <= linux, names - linux


def test_the_windows_side_defines_what_it_is_asked_for() -> None:
    """Its modules can be imported anywhere; only their calls need Windows."""
    import importlib

    for path in (Path(system.__file__), Path(edge.__file__)):
        (test,) = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.If))
        for node in test.body:
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")

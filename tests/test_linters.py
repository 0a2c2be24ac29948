"""Linters are tests: style, types, size, a sentence for every package. A missing tool fails in CI, else skips."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "livelift"
CEILING = 400


def lint(tool: str, *arguments: str) -> None:
    if importlib.util.find_spec(tool) is None and not os.environ.get("CI"):
        pytest.skip(f"{tool} is not installed (make lint installs it)")
    done = subprocess.run([sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    lint("ruff", "check", *(room for room in ("livelift", "tests", "benchmarks") if (ROOT / room).is_dir()))


@pytest.mark.timeout(300)
def test_mypy() -> None:
    lint("mypy", "--strict", "livelift")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_holds_one_concept(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= CEILING, f"{lines} lines; split it"


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: str(path.parent.relative_to(PACKAGE))
)
def test_a_package_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


@pytest.mark.parametrize("script", [".ci/run", ".ci/packages"])
def test_shell_scripts_parse(script: str) -> None:
    subprocess.run(["sh", "-n", ROOT / script], check=True)
    assert os.access(ROOT / script, os.X_OK)

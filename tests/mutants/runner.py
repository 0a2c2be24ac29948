"""Copies the package, applies one fault, runs the test that must notice it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.mutants.faults import Fault

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ("livelift", "tests", "docs", "benchmarks", "pyproject.toml")
TESTS_FAILED = 1
"""pytest's exit code; 2 to 5 (interrupted, internal error, usage, nothing collected) are mistakes of ours, no kill."""
LIMIT = 60.0
"""Seconds for one run. A mutant that hangs its test is noticed as well, but it should be given a quicker test."""
CONTROL = 300.0
"""Seconds for all of them without a fault: 33 were seen on a machine that was busy fivefold."""


class Outcome(NamedTuple):
    fault: Fault
    killed: bool
    seconds: float
    detail: str


@contextmanager
def copy() -> Iterator[Path]:
    """The repository's package and tests in a directory of their own."""
    with tempfile.TemporaryDirectory(prefix="livelift-mutant-") as name:
        root = Path(name)
        for part in PARTS:
            source = REPOSITORY / part
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis")
                shutil.copytree(source, root / part, ignore=ignored)
            else:
                shutil.copy(source, root / part)
        yield root


def apply(root: Path, fault: Fault) -> None:
    path = root / "livelift" / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        raise LookupError(f"{fault.name}: its text occurs {text.count(fault.old)} times in {fault.file}, not once")
    path.write_text(text.replace(fault.old, fault.new))


def pytest_in(
    root: Path, tests: Sequence[str], keyword: str = "", limit: float = LIMIT
) -> subprocess.CompletedProcess[str]:
    """``python -m pytest`` puts its working directory first in the path, so the copy is what gets tested."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--seed", "1"]
    command += [f"tests/{test}" for test in tests] + (["-k", keyword] if keyword else [])
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=limit, check=False
    )


def run(fault: Fault) -> Outcome:
    began = time.monotonic()
    with copy() as root:
        try:
            apply(root, fault)
        except LookupError as error:
            return Outcome(fault, False, 0.0, str(error))
        try:
            done = pytest_in(root, [fault.test], fault.keyword)
        except subprocess.TimeoutExpired:
            return Outcome(fault, True, time.monotonic() - began, "its test hangs")
    seconds = time.monotonic() - began
    if done.returncode == TESTS_FAILED:
        return Outcome(fault, True, seconds, "")
    tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
    return Outcome(fault, False, seconds, f"pytest exit {done.returncode}\n{tail}")


def run_all(faults: Sequence[Fault], workers: int = 2) -> Iterator[Outcome]:
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(run, faults)


def control(faults: Sequence[Fault]) -> str:
    """The same tests without a fault: empty if all pass, else what they say."""
    plain = sorted({fault.test for fault in faults if not fault.keyword})
    with copy() as root:
        for _ in range(2):  # some measure time, on a machine that does other things: twice is no accident
            done = pytest_in(root, plain, limit=CONTROL)
            if done.returncode == 0:
                return ""
    return done.stdout[-3000:] + done.stderr[-1000:]

"""The tests of `inside`, run by the Windows Python under Wine."""

from __future__ import annotations

import re

import pytest

from tests.windows.wine import REPOSITORY, Wine

SCRIPT = """
import sys, pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.timeout(400)
def test_what_wine_can_run(wine: Wine) -> None:
    _, base = wine.scratch()
    inside = wine.windows(REPOSITORY / "tests" / "windows" / "inside")
    text = wine.run(
        SCRIPT, inside, "-rs", "-p", "no:cacheprovider", "--rootdir", wine.windows(REPOSITORY), "-c",
        wine.windows(REPOSITORY / "pyproject.toml"), "--basetemp", f"{base}\\pytest", timeout=360,
    )  # fmt: skip
    found = re.search(r"(\d+) passed(?:, (\d+) skipped)?", text)
    assert found, text
    assert int(found[1]) >= 30, text
    skipped = set(re.findall(r"Skipped: (.*)|SKIPPED \[\d+\] \S+ (.*)", text))
    assert all("Wine: " in "".join(reason) or "8.3" in "".join(reason) for reason in skipped), text

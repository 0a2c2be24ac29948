"""Wine for the tests of this directory, and the gate of those that need a real Windows machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.windows.wine import Wine, session


@pytest.fixture(scope="session")
def wine() -> Iterator[Wine]:
    yield from session()


@pytest.fixture
def scratch(wine: Wine) -> tuple[Path, str]:
    """A fresh directory on drive C:, as Linux and as Windows see it."""
    return wine.scratch()

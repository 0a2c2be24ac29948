"""Everything here is marked ``windows``. What Wine does not do is marked ``real`` beside it, with the reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from livelift.platform.windows.dll import under_wine

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    wine = under_wine()
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.windows)
        if sys.platform != "win32":
            item.add_marker(pytest.mark.skip(reason="needs Windows (tests/windows/test_wine.py runs it under Wine)"))
        elif wine and (real := item.get_closest_marker("real")):
            item.add_marker(pytest.mark.skip(reason=f"Wine: {real.args[0]}"))


@pytest.fixture(scope="session", autouse=True)
def privileges() -> None:
    if sys.platform == "win32":
        from livelift.platform.windows.privileges import NEEDED, enable

        missing = enable(*NEEDED)
        if missing:
            pytest.skip(f"run the tests as an administrator: {', '.join(missing)}")

"""Real hives, where they lie beside the repository; what needs them is skipped, with the reason, where they do not."""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared/hives"
NAMES = ("BCD", "SYSTEM", "SYSTEM_B", "SYSTEM_WIN_10_1709")


@cache
def real(name: str) -> bytes:
    path = FOLDER / f"{name}.xz"
    if not path.exists():
        pytest.skip(f"needs real hives in {FOLDER.parent.name}/{FOLDER.name} beside the repository")
    return lzma.decompress(path.read_bytes())

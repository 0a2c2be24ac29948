"""Upper case as Windows has it, compared with the table that an NTFS volume carries."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from livelift.registry.casing import fold, order


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Services", "SERVICES"), ("Größe", "GRÖßE"), ("ÿ", "Ÿ"), ("µı", "µı"), ("ώ", "Ώ"), ("ᾳ", "ᾼ"),
        ("\U00010428", "\U00010428"), ("\ud800x", "\ud800X"), ("ა", "ა"), ("", ""),
    ],
)  # fmt: skip
def test_one_unit_for_one_unit(name: str, folded: str) -> None:
    assert fold(name) == folded
    assert len(fold(name)) == len(name)


def test_order_is_that_of_utf_16_units() -> None:
    names = ["\uffee", "\U00010000", "\ud7ff", "A", "_"]
    assert sorted(names, key=order) == ["A", "_", "\ud7ff", "\U00010000", "\uffee"]


def test_the_table_is_that_of_ntfs(tmp_path: Path) -> None:
    if not shutil.which("mkntfs") or not shutil.which("ntfscat"):
        pytest.skip("needs mkntfs and ntfscat (Debian package ntfs-3g)")
    image = tmp_path / "image"
    image.write_bytes(bytes(2 << 20))
    subprocess.run(["mkntfs", "-q", "-F", image], check=True, capture_output=True, timeout=50)
    table = subprocess.run(["ntfscat", "-f", "-i", "10", image], check=True, capture_output=True, timeout=50).stdout
    units = struct.unpack("<65536H", table)
    surrogates = range(0xD800, 0xE000)
    differing = [hex(unit) for unit in range(65536) if unit not in surrogates and ord(fold(chr(unit))) != units[unit]]
    assert sum(unit != upper for unit, upper in enumerate(units)) > 900, "this is no table of capitals"
    assert differing == []

from __future__ import annotations

import struct

import pytest

from livelift.registry.inspect import SHOWN, inspect
from livelift.registry.reader import open_hive, tree_of
from livelift.registry.tree import Hive, Key
from livelift.registry.writer import write_hive
from tests.registry.hives import NAMES, real
from tests.registry.raw import Raw


def found(data: bytes) -> dict[str, int]:
    opened = open_hive(data)
    tree_of(opened)
    return dict(inspect(opened.cells, opened.block).counts)


@pytest.mark.parametrize("name", NAMES)
def test_there_is_nothing_to_find_in_what_windows_wrote(name: str) -> None:
    assert found(real(name)) == {}


def test_each_fault_is_found() -> None:
    raw = Raw()
    security = raw.security(1)
    other = raw.security(5, b"x" * 20)
    values = raw.offsets([raw.value(b"name", 3, 8, raw.cell(bytes(8)))])
    root = raw.key(b"R", flags=0x2C, security=security, subkeys=(3, 0), values=(1, values))
    children = [raw.key(name, parent=root, security=other) for name in (b"B", b"A")]
    children.append(raw.key(b"C", parent=0, security=other))
    raw.patch(root, 28, struct.pack("<I", raw.list(b"lh", children, [66, 65, 1])))
    assert found(raw.hive(root)) == {"order": 1, "hash": 1, "parent": 1, "counter": 2, "ring": 1}


def test_uses_are_counted() -> None:
    raw = Raw()
    assert found(raw.hive(raw.key(b"R", security=raw.security(2)))) == {"uses": 1}


def test_of_many_findings_some_are_told() -> None:
    hive = Hive(Key("R"))
    for number in range(100):
        hive.root.add(Key(f"k{number:03}"))
    data = bytearray(write_hive(hive))
    for at in range(4096, len(data), 8):
        if data[at + 4 : at + 6] == b"nk":
            data[at + 20 : at + 24] = bytes(4)  # the parent
    opened = open_hive(bytes(data))
    tree_of(opened)
    inspection = inspect(opened.cells, opened.block)
    assert inspection.counts == {"parent": 100} and len(inspection.findings) == SHOWN

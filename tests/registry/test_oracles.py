"""Readers that others wrote, on what our writer wrote: the same keys, values and data. They are in the test
environment only."""

from __future__ import annotations

import base64
import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from livelift.registry.lists import LEAF
from livelift.registry.reader import read_hive
from livelift.registry.tree import Hive, Key
from livelift.registry.writer import write_hive
from tests.registry.hives import real

Told = dict[str, list[tuple[str, int, bytes]]]
"""Path of a key, without the root's name: its values, sorted, as (name, type, data)."""


def module(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.skip(f"needs {package} (a wheel of the extra dev)")


def libregf(path: Path) -> Told:
    file = module("pyregf", "libregf-python").file()
    file.open(str(path))
    try:
        assert not file.is_corrupted()
        told: Told = {}
        waiting = [("", file.get_root_key())]
        while waiting:
            here, key = waiting.pop()
            values = [key.get_value(index) for index in range(key.get_number_of_values())]
            told[here] = sorted((value.name or "", value.type, value.data or b"") for value in values)
            for index in range(key.get_number_of_sub_keys()):
                child = key.get_sub_key(index)
                waiting.append((f"{here}\\{child.name}", child))
        return told
    finally:
        file.close()


def python_registry(path: Path) -> Told:
    registry = module("Registry.Registry", "python-registry")
    told: Told = {}
    waiting = [("", registry.Registry(str(path)).root())]
    while waiting:
        here, key = waiting.pop()
        told[here] = sorted(
            ("" if value.name() == "(default)" else value.name(), value._vkrecord.data_type(), value.raw_data())
            for value in key.values()
        )
        waiting.extend((f"{here}\\{child.name()}", child) for child in key.subkeys())
    return told


def regipy(path: Path) -> Told:
    told: Told = {}
    hive = module("regipy.registry", "regipy").RegistryHive(str(path))
    waiting = [("", hive.root)]
    while waiting:
        here, key = waiting.pop()
        told[here] = []
        for value in key.iter_values(as_json=False) if key.values_count else ():
            told[here].append(("" if value.name == "(default)" else value.name, -1, b""))
        told[here].sort()
        if key.subkey_count:
            waiting.extend((f"{here}\\{child.name}", child) for child in key.iter_subkeys())
    return told


HIVEX_TYPES = {"none": 0, "string": 1, "expand": 2, "binary": 3, "int32": 4, "string-list": 7, "int64": 11}


def hivexml(path: Path) -> Told:
    if not shutil.which("hivexml"):
        pytest.skip("needs hivexml (Debian package libhivex-bin)")
    done = subprocess.run(["hivexml", path], capture_output=True, check=True, timeout=50)
    assert done.stderr == b""
    told: Told = {}
    (root,) = ElementTree.fromstring(done.stdout).findall("node")
    waiting = [("", root)]
    while waiting:
        here, node = waiting.pop()
        told[here] = sorted(_hivex_value(value) for value in node.findall("value"))
        waiting.extend((f"{here}\\{child.get('name')}", child) for child in node.findall("node"))
    return told


def _hivex_value(value: ElementTree.Element) -> tuple[str, int, bytes]:
    kind, text = value.get("type", ""), value.get("value", "")
    data = base64.b64decode(text) if value.get("encoding") == "base64" else text.encode()
    return value.get("key", ""), HIVEX_TYPES.get(kind, -1), data


READERS: list[Callable[[Path], Told]] = [libregf, python_registry, regipy, hivexml]


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="livelift-hive-") as folder:
        yield Path(folder) / "HIVE"


def told(hive: Hive) -> Told:
    return {
        "\\" + path if path else "": sorted((value.name, value.type, value.data) for value in key.values)
        for path, key in hive.root.walk()
    }


def synthetic(minor: int = 5) -> Hive:
    """Within what all of them can say: no NUL or surrogates in names, types that they know."""
    hive = Hive(Key("ROOT"), minor, "HIVE")
    for number in range(2 * LEAF + 3):
        hive.root.make(f"many\\key {number:04}")
    names = hive.root.make("names\\Größe\\Ω\\日本")
    names.class_name = "class".encode("utf-16-le")
    names.set("", 1, "default\0".encode("utf-16-le"))
    names.set("Ünïcode", 1, "ä\0".encode("utf-16-le"))
    names.set("Ωmega", 1, "ω\0".encode("utf-16-le"))
    sizes = hive.root.make("sizes")
    for size in (0, 1, 2, 3, 4, 5, 100, 4064, 16344, 16345, 40000):
        sizes.set(f"{size} bytes", 3, bytes(range(256)) * (size // 256) + bytes(range(size % 256)))
    types = hive.root.make("types")
    types.set("dword", 4, b"\1\2\3\4")
    types.set("qword", 11, bytes(range(8)))
    types.set("expand", 2, "%x%\0".encode("utf-16-le"))
    types.set("list", 7, "a\0b\0\0".encode("utf-16-le"))
    for number in range(3):
        hive.root.make(f"secure {number}").security = hive.root.security
    return hive


@pytest.mark.parametrize("minor", [3, 5])
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_they_read_what_we_wrote(reader: Callable[[Path], Told], minor: int, place: Path) -> None:
    hive = synthetic(minor)
    sizes = hive.find("sizes")
    assert sizes is not None
    if reader is libregf:
        for name in ("1 bytes", "2 bytes", "3 bytes"):  # wrong there in Windows' own hives, too
            sizes.unset(name)
    if reader is regipy:
        hive.root.remove("names")  # it takes names for ASCII
    place.write_bytes(write_hive(hive))
    ours, theirs = told(hive), reader(place)
    assert theirs.keys() == ours.keys()
    for path, values in ours.items():
        assert [value[0] for value in theirs[path]] == [value[0] for value in values], path
        if reader is regipy:
            continue  # it decodes data; the names and their number have to do
        if reader is hivexml:
            known = [v for v in theirs[path] if v[1] == 3]
            assert known == [v for v in values if v[1] == 3], path
            continue
        assert theirs[path] == values, path


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_they_read_a_real_hive_that_we_wrote(reader: Callable[[Path], Told], place: Path) -> None:
    hive = read_hive(real("BCD"))
    place.write_bytes(write_hive(hive))
    ours, theirs = told(hive), reader(place)
    assert {path: [v[0] for v in values] for path, values in theirs.items()} == {
        path: [v[0] for v in values] for path, values in ours.items()
    }


@pytest.mark.parametrize("reader", [libregf, hivexml], ids=lambda reader: reader.__name__)
def test_the_quick_ones_read_a_big_one(reader: Callable[[Path], Told], place: Path) -> None:
    hive = read_hive(real("SYSTEM_B"), [real("SYSTEM_B.LOG1"), real("SYSTEM_B.LOG2")])
    place.write_bytes(write_hive(hive))
    theirs = reader(place)
    assert (len(theirs), sum(map(len, theirs.values()))) == hive.counts() == (35595, 78901)


def test_windows_own_file_is_read_as_others_read_it(place: Path) -> None:
    """Data above 4 bytes: what lies in the place of an offset python-registry gives padded, and of types 16 bits."""
    data = real("SYSTEM")
    place.write_bytes(data)
    ours, theirs = told(read_hive(data)), python_registry(place)
    assert theirs.keys() == ours.keys()
    for path, values in ours.items():
        assert [value[0] for value in values] == [value[0] for value in theirs[path]]
        assert [v[2] for v in values if len(v[2]) > 4] == [
            theirs[path][index][2] for index, v in enumerate(values) if len(v[2]) > 4
        ]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_a_reader_would_tell_a_fault(reader: Callable[[Path], Told], place: Path) -> None:
    """The comparison above can fail: with one name changed in the file it does."""
    hive = synthetic()
    place.write_bytes(write_hive(hive).replace(b"key 0007", b"key 0OO7"))
    assert reader(place).keys() != told(hive).keys()

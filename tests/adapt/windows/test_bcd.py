"""The boot store."""

from __future__ import annotations

import pytest

from livelift.adapt.windows import control_sets
from livelift.adapt.windows.bcd import RULE, default_entry
from livelift.adapt.windows.bench import Bench
from livelift.adapt.windows.system import BCD
from livelift.registry.values import BINARY, number_of
from tests.adapt.windows.machine import BOOTMGR, ENTRY, findings, ids, pair, run
from tests.adapt.windows.realhives import hive, need_hives


def bench(**store: str) -> Bench:
    source, target = pair()
    made = run(control_sets.RULE, source, target)
    made.target.hives[BCD] = made.merged[BCD] = target.boot_store(**store)
    return made


def test_a_store_that_fits_stays() -> None:
    made = bench()
    RULE.plan(made)
    assert ids(made) == findings(made) == []


@pytest.mark.parametrize(
    ("store", "id"),
    [
        ({"root": "\\Other"}, "bcd-system-root"),
        ({"loader": "\\grub.efi"}, "bcd-loader"),
        ({"loader": "\\Windows\\system32\\winload.exe"}, "bcd-loader-missing"),
    ],
)
def test_an_entry_that_starts_something_else_is_refused(store: dict[str, str], id: str) -> None:
    made = bench(**store)
    RULE.plan(made)
    assert findings(made) == [id]


@pytest.mark.parametrize(
    ("path", "id"),
    [
        (f"Objects\\{BOOTMGR}\\Elements", "bcd-no-default"),
        ("Objects", "bcd-no-default"),
    ],
)
def test_a_store_without_a_default_is_refused(path: str, id: str) -> None:
    made = bench()
    parent, _, name = path.rpartition("\\")
    key = made.target.hives[BCD].find(parent)
    assert key is not None
    key.remove(name)
    RULE.plan(made)
    assert findings(made) == [id]


def test_no_store_is_refused() -> None:
    made = bench()
    del made.target.hives[BCD]
    RULE.plan(made)
    assert findings(made) == ["bcd-unknown"]


def test_flags_of_the_source_come_and_devices_do_not() -> None:
    made = bench()
    entry = made.source.hives[BCD].root.make(f"Objects\\{ENTRY}\\Elements")
    entry.make("16000049").set("Element", BINARY, b"\1")
    RULE.plan(made)
    assert ids(made) == ["bcd/testsigning"]
    device = made.merged[BCD].find(f"Objects\\{ENTRY}\\Elements\\11000001")
    value = device.value("Element") if device is not None else None
    assert value is not None and value.data == b"new"


def test_a_real_store_is_understood() -> None:
    need_hives()
    made = bench()
    made.target.hives[BCD] = made.merged[BCD] = hive("BCD")
    RULE.plan(made)
    entry = default_entry(hive("BCD"))
    assert findings(made) == [] and entry is not None
    assert number_of(entry.value("nosuch"), 0) == 0 and entry.name.startswith("{733b62e5")

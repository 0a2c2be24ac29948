"""The generation is decided from facts, or not at all."""

from __future__ import annotations

import msgspec
import pytest

from livelift.adapt.plan import Draft
from livelift.adapt.windows.generation import Generation, decide, of_build
from livelift.adapt.windows.system import SOFTWARE, System, Version
from livelift.registry.tree import Hive, Key
from livelift.registry.values import set_number, set_text
from tests.adapt.windows.machine import Maker, pair
from tests.adapt.windows.realhives import BUILDS, NAMES, machine, need_hives


@pytest.mark.parametrize(
    ("build", "generation"),
    [
        (6002, None), (7600, Generation.SEVEN), (7601, Generation.SEVEN), (8250, None), (9200, Generation.EIGHT),
        (9600, Generation.EIGHT), (10240, Generation.TEN), (14393, Generation.TEN), (17763, Generation.TEN),
        (19045, Generation.TEN), (20348, Generation.ELEVEN), (22000, Generation.ELEVEN), (26100, Generation.ELEVEN),
    ],
)  # fmt: skip
def test_builds(build: int, generation: Generation | None) -> None:
    assert of_build(build) is generation


def decided(source: System, target: System) -> tuple[Generation | None, list[str]]:
    draft = Draft()
    generation = decide(source, target, draft)
    return generation, [finding.id for finding in draft.plan("").findings]


def test_equal_machines() -> None:
    one, two = pair()
    assert decided(one.done(), two.done()) == (Generation.TEN, [])


@pytest.mark.parametrize(
    ("field", "value", "id"),
    [
        ("build", 0, "build-unknown-target"),
        ("build", 6002, "unsupported-target"),
        ("build", 14393, "build-differs"),
        ("architecture", "x86", "architecture-differs"),
        ("architecture", "", "architecture-differs"),
        ("system_root", "D:\\Windows", "system-root-differs"),
        ("ubr", 9, "patch-level-differs"),
        ("edition", "ServerDatacenter", "edition-differs"),
        ("kind", "WinNT", "kind-differs"),
        ("language", "0407", "language-differs"),
    ],
)
def test_differences_are_told(field: str, value: object, id: str) -> None:
    one, two = pair()
    target = two.done()
    target.version = msgspec.structs.replace(target.version, **{field: value})
    assert decided(one.done(), target)[1] == [id]


def test_a_hive_of_another_generation_than_its_build_is_a_contradiction() -> None:
    source = Maker(17763)
    source.root.remove("DriverDatabase")
    assert decided(source.done(), pair()[1].done()) == (None, ["generation-contradicts-source"])
    source = Maker(9600)
    source.cs.make("Control\\NetworkSetup2")
    assert decided(source.done(), pair(9600)[1].done()) == (None, ["generation-contradicts-source"])


def test_a_hive_without_its_control_set_or_not_closed_cleanly_is_refused() -> None:
    one, two = pair()
    set_number(one.root.make("Select"), "Current", 5)
    assert decided(one.done(), two.done()) == (None, ["no-control-set-source"])
    target = two.done()
    target.hives["DRIVERS"].notes.append("an entry of its log is torn")
    assert decided(pair()[0].done(), target)[1] == ["hive-logs-target"]
    target = pair()[1].done()
    target.hives["DRIVERS"].dirty = True
    assert decided(pair()[0].done(), target)[1] == ["dirty-hive-target"]


def test_the_version_is_read_from_the_hives() -> None:
    made = pair()[0].done()
    now = Key("ROOT")
    key = now.make("Microsoft\\Windows NT\\CurrentVersion")
    set_text(key, "CurrentBuildNumber", "17763")
    set_text(key, "EditionID", "ServerStandard")
    set_text(key, "SystemRoot", "C:\\Windows")
    set_number(key, "UBR", 1)
    found = System({**made.hives, SOFTWARE: Hive(now)}, made.files).version
    assert found == made.version
    set_text(key, "CurrentBuildNumber", "many")
    assert System({**made.hives, SOFTWARE: Hive(now)}, made.files).version.build == 0
    assert System(made.hives, made.files).version == Version(0, 0, "", "ServerNT", "AMD64", "0409", "")


@pytest.mark.parametrize("name", NAMES)
def test_real_hives_are_what_their_build_says(name: str) -> None:
    need_hives()
    generation, found = decided(machine(name), machine(name))
    assert generation is of_build(BUILDS[name])
    assert not any(id.startswith("generation") for id in found)

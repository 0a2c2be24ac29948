"""Numbers of third-party packages: what is known, and where a collision goes."""

from __future__ import annotations

import pytest

from livelift.adapt.windows.oem_numbers import (
    Move,
    Package,
    map_of,
    mapped_numbers,
    moves,
    number_in,
    packages,
    renamed,
)
from livelift.adapt.windows.system import DRIVERS
from livelift.registry.tree import Key
from livelift.registry.values import BINARY, set_list
from tests.adapt.windows.machine import pair


def package(number: int, name: str = "", digest: str = "", seen: bool = True) -> Package:
    return Package(number, frozenset({name} if name else ()), digest, seen)


@pytest.mark.parametrize(("data", "numbers"), [("fff0", range(12)), ("fffc", range(14)), ("", ()), ("2001", (2, 15))])
def test_the_map_as_two_real_hives_have_it(data: str, numbers: range) -> None:
    key = Key("DriverDatabase")
    key.set("OemInfMap", BINARY, bytes.fromhex(data))
    assert mapped_numbers(key) == set(numbers)
    assert map_of(set(numbers), len(data) // 2) == bytes.fromhex(data)


def test_the_map_grows_and_never_shrinks() -> None:
    assert map_of({16}, 2) == b"\0\0\x80" and map_of(set(), 2) == b"\0\0"


@pytest.mark.parametrize(
    ("text", "number"),
    [("oem2.inf", 2), ("OEM12.PNF", 12), ("oem.inf", None), ("oem2.inf2", None), ("xoem2.inf", None)],
)
def test_names(text: str, number: int | None) -> None:
    assert number_in(text) == number


def test_collisions_get_numbers_that_neither_uses() -> None:
    """The numbers of two real machines: {0,2,4,6,11} and {2,3,5,6,7}."""
    source = {n: package(n, f"s{n}") for n in (0, 2, 4, 6, 11)}
    target = {n: package(n, f"t{n}") for n in (2, 3, 5, 6, 7)}
    found = moves(source, target)
    assert {n: move.number for n, move in found.items()} == {0: 0, 2: 1, 4: 4, 6: 8, 11: 11}
    assert not any(move.shared for move in found.values())


def test_the_same_package_takes_the_targets_number() -> None:
    by_name = moves({2: package(2, "a")}, {5: package(5, "a")})
    by_content = moves({2: package(2, digest="d")}, {5: package(5, digest="d")})
    assert by_name == by_content == {2: Move(5, True)}


def test_equal_numbers_without_knowledge_are_a_collision() -> None:
    assert moves({2: package(2)}, {2: package(2)}) == {2: Move(0, False)}


def test_a_number_that_only_the_map_has_is_taken_but_nothing_to_move() -> None:
    source = {0: package(0, seen=False), 1: package(1, "a")}
    assert moves(source, {1: package(1, "b"), 2: package(2, seen=False)}) == {1: Move(3, False)}


def test_texts_get_all_new_numbers_at_once() -> None:
    numbers = {2: Move(3, False), 3: Move(2, True), 4: Move(4, False)}
    text = "oem2.inf\0!x.inf_amd64_1\0OEM3.inf\0oem4.inf\0xoem2.inf\0"
    assert renamed(text, numbers) == "oem3.inf\0!x.inf_amd64_1\0OEM2.inf\0oem4.inf\0xoem2.inf\0"
    assert renamed("@oem2.inf,%a%;b", numbers) == "@oem3.inf,%a%;b"


def test_what_is_known_of_a_machine() -> None:
    source, _ = pair()
    source.package("oem5.inf", "printer.inf_amd64_05", ["USBPRINT\\X"], hive=DRIVERS)
    source.file("Windows/INF/oem7.inf", "seven")
    set_list(source.service("late", 3), "Owners", ["oem9.inf"])
    found = packages(source.done())
    assert {n: (sorted(p.names), p.digest, p.seen) for n, p in found.items()} == {
        2: (["PVSCSI.INF_AMD64_01"], "pvscsi.inf_amd64_01", True),
        5: (["PRINTER.INF_AMD64_05"], "printer.inf_amd64_05", True),
        7: ([], "seven", True),
        9: ([], "", True),
    }

"""All rules together: pure, repeatable, complete; real hives in every order."""

from __future__ import annotations

import itertools

import pytest

from livelift.adapt.plan import Draft
from livelift.adapt.render import to_text
from livelift.adapt.rules import override, parse
from livelift.adapt.windows.apply import apply, same_tree
from livelift.adapt.windows.bench import Bench, Choices
from livelift.adapt.windows.consistency import check
from livelift.adapt.windows.generation import Generation
from livelift.adapt.windows.planner import RULES, make_plan
from livelift.adapt.windows.system import BCD, DRIVERS, SYSTEM
from livelift.checks.findings import Level
from livelift.errors import PreflightError
from livelift.registry.values import BINARY, number_of
from tests.adapt.windows.machine import ENTRY, merged_system, pair
from tests.adapt.windows.realhives import BUILDS, NAMES, machine, need_hives

BUILDS_OF_ALL_GENERATIONS = (7601, 9600, 17763, 20348)


@pytest.mark.parametrize("build", BUILDS_OF_ALL_GENERATIONS)
def test_planning_changes_nothing_and_comes_to_the_same_again(build: int) -> None:
    one, two = pair(build)
    source, target = one.done(), two.done()
    before = [(name, hive.root.copy()) for m in (source, target) for name, hive in m.hives.items()]
    plan = make_plan(source, target)
    again = make_plan(source, target)
    after = [hive.root for m in (source, target) for hive in m.hives.values()]
    assert all(same_tree(old, new) for (_, old), new in zip(before, after, strict=True))
    assert to_text(plan) == to_text(again)
    assert plan.edits and all(edit.reason and edit.touches for edit in plan.edits)


def test_the_plan_carried_out_is_what_the_rules_saw() -> None:
    """And the boot store that gets the source's flags is the target's."""
    one, two = pair()
    one.package("oem3.inf", "printer.inf_amd64_03", ["USBPRINT\\X"], hive=DRIVERS)
    source, target = one.done(), two.done()
    source.hives[BCD].root.make(f"Objects\\{ENTRY}\\Elements\\16000049").set("Element", BINARY, b"\1")
    bench = Bench(source, target, Generation.TEN, Choices(), Draft())
    for rule in RULES:
        rule.plan(bench)
    merged = apply(make_plan(source, target), source.hives, target.hives)
    assert merged.keys() == bench.merged.keys() == {SYSTEM, DRIVERS, BCD}
    assert all(same_tree(merged[name].root, bench.merged[name].root) for name in merged)
    device = merged[BCD].find(f"Objects\\{ENTRY}\\Elements\\11000001")
    value = device.value("Element") if device is not None else None
    assert value is not None and value.data == b"new"


@pytest.mark.parametrize("name", NAMES)
def test_a_real_machine_onto_itself_changes_next_to_nothing(name: str) -> None:
    need_hives()
    one = machine(name)
    plan = make_plan(one, one, Choices(letters={"E": "E", "F": "F"}))
    rules = {edit.id.split("/")[0] for edit in plan.edits}
    assert rules <= {"control-sets", "classes", "setup", "pending-renames", "oem-inf", "hive-logs"}
    assert len(plan.edits) < 20
    assert [f for f in check(merged_system(plan, one, one), one, one) if f.level > Level.NOTE] == []


def test_every_edit_belongs_to_a_rule() -> None:
    one, two = pair()
    plan = make_plan(one.done(), two.done())
    assert {edit.id.split("/")[0] for edit in plan.edits} <= {rule.id for rule in RULES}
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_a_second_adaptation_comes_to_the_same_hives() -> None:
    one, two = pair()
    source, target = one.done(), two.done()
    merged = merged_system(make_plan(source, target), source, target)
    again = make_plan(merged, target, Choices(nics={"Ethernet0": "Ethernet"}))
    twice = merged_system(again, merged, target)
    assert all(same_tree(merged.hives[name].root, twice.hives[name].root) for name in merged.hives)


def test_a_skipped_edit_is_left_out_of_the_merge() -> None:
    one, two = pair()
    source, target = one.done(), two.done()
    plan = override(make_plan(source, target), parse('skip = ["boot-drivers/pvscsi"]'))
    service = merged_system(plan, source, target).control("Services\\pvscsi")
    assert service is not None and number_of(service.value("Start")) == 0


def test_a_replaced_value_is_the_one_merged() -> None:
    one, two = pair()
    source, target = one.done(), two.done()
    rules = parse('[[replace]]\nid = "boot-drivers/pvscsi"\nvalue = 3')
    service = merged_system(override(make_plan(source, target), rules), source, target).control("Services\\pvscsi")
    assert service is not None and number_of(service.value("Start")) == 3


def test_other_generations_are_refused_without_edits() -> None:
    plan = make_plan(pair(7601)[0].done(), pair(17763)[1].done())
    assert plan.edits == ()
    with pytest.raises(PreflightError, match="generation"):
        plan.check()


@pytest.mark.parametrize(("ours", "theirs"), list(itertools.permutations(NAMES, 2)))
def test_real_hives_in_every_order(ours: str, theirs: str) -> None:
    need_hives()
    source, target = machine(ours), machine(theirs)
    plan = make_plan(source, target, Choices(letters={"E": None, "F": None}))
    stops = {finding.id for finding in plan.findings if finding.level is Level.INHIBITOR}
    assert "build-differs" in stops
    if 7601 in (BUILDS[ours], BUILDS[theirs]):
        assert "generation-differs" in stops and plan.edits == ()
        return
    assert stops <= {"build-differs", "dirty-hive-source", "dirty-hive-target"}
    merged = merged_system(plan, source, target)
    worse = [finding for finding in check(merged, source, target) if finding.level > Level.NOTE]
    assert worse == []
    keys, _ = merged.hives[SYSTEM].counts()
    assert keys > 30_000


def test_real_hives_say_when_their_last_writes_are_lost() -> None:
    need_hives()
    plan = make_plan(machine("SYSTEM_WIN_10_1709"), machine("SYSTEM_B"))
    assert "dirty-hive-source" in {finding.id for finding in plan.findings}
    assert "dirty-hive-target" not in {finding.id for finding in plan.findings}

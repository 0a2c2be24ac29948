"""All rules in their order: both machines in, the plan out."""

from __future__ import annotations

from livelift.adapt.plan import Draft, Plan
from livelift.adapt.windows import (
    bcd,
    boot_drivers,
    classes,
    control_sets,
    device_classes,
    device_database,
    devices,
    driver_files,
    generation,
    group_order,
    hardware_config,
    hive_logs,
    identity,
    inf_files,
    mounted_devices,
    network,
    oem_inf,
    pending_renames,
    policies,
    services,
    setup,
    start_override,
)
from livelift.adapt.windows.bench import Bench, Choices, Rule
from livelift.adapt.windows.system import System

RULES: tuple[Rule, ...] = (
    control_sets.RULE,
    boot_drivers.RULE,
    devices.RULE,
    classes.RULE,
    services.RULE,
    start_override.RULE,
    device_database.RULE,
    device_classes.RULE,
    group_order.RULE,
    hardware_config.RULE,
    mounted_devices.RULE,
    setup.RULE,
    pending_renames.RULE,
    network.RULE,
    policies.RULE,
    oem_inf.RULE,
    inf_files.RULE,
    driver_files.RULE,
    bcd.RULE,
    identity.RULE,
    hive_logs.RULE,
)
"""Their order matters: what is disabled decides on class filters; numbers are replaced in what is still the source's
after all grafts; files follow the services; the identity is checked and the logs deleted last."""


def make_plan(source: System, target: System, choices: Choices | None = None) -> Plan:
    """The source's system, made fit for the target's machine. Pure: the hives stay as they are. Where the generation
    cannot be decided there are no edits, only the findings that say why."""
    draft = Draft()
    decided = generation.decide(source, target, draft)
    ours, theirs = (machine.version.build or "unknown" for machine in (source, target))
    title = f"Windows, build {ours}, onto a machine that runs build {theirs}"
    if decided is None:
        return draft.plan(title)
    bench = Bench(source, target, decided, choices or Choices(), draft)
    for rule in RULES:
        rule.plan(bench)
    return draft.plan(title)

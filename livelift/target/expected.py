"""What the take-over is to know of the moved system: how its kernel is started, and what shows that it is well."""

from __future__ import annotations

from collections.abc import Sequence

from livelift.adapt.linux import cloud, cmdline
from livelift.adapt.linux.case import Policy
from livelift.adapt.linux.moves import moves
from livelift.checks.findings import Finding
from livelift.facts.host import Host
from livelift.model.facts import ServerFacts
from livelift.takeover.confirm import PASSING
from livelift.takeover.plan_config import Options, plan

OURS = "livelift-"


def options_for(source: ServerFacts, target: ServerFacts, policy: Policy, staged: str) -> Options:
    """``staged``: root of the view in which the staged system is seen."""
    return Options(
        staged=staged,
        command_line=cmdline.merge(source.command_line, target.command_line),
        services=services(source, target, policy),
        failed=tuple(s.unit for s in source.services if s.state == "failed"),
        addresses=addresses(source, target, policy),
    )


def services(source: ServerFacts, target: ServerFacts, policy: Policy) -> tuple[str, ...]:
    """Running on the source and started there at every boot; without guest agents of another hypervisor, which the plan
    masks, and those that the operator does not count on."""
    foreign = {unit for hypervisor, units in cloud.UNITS.values() if hypervisor != target.hypervisor for unit in units}
    left_out = {*foreign, *policy.not_expected}
    return tuple(
        service.unit
        for service in source.services
        if service.state == "running"
        and service.wanted
        and service.unit not in left_out
        and not service.unit.startswith((*PASSING, OURS))
    )


def addresses(source: ServerFacts, target: ServerFacts, policy: Policy) -> tuple[str, ...]:
    """Static ones: with keep-target the target's own, and always those that move to it."""
    moved = tuple(address for address, _ in moves(source, target, policy))
    if policy.network == "take-source":
        return moved
    cards = [nic for nic in target.interfaces if nic.kind == "physical"]
    return (*(address for nic in cards for address in nic.static), *moved)


def preview(root: str, target: ServerFacts, mounts: Sequence[str]) -> list[Finding]:
    """What stands in the way of the take-over on this machine, as far as it can be told before anything is staged."""
    host = Host(root)
    try:
        return list(plan(host, target, mounts, Options(), False).findings)
    finally:
        host.close()

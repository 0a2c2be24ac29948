"""All preflight rules for a whole server."""

from __future__ import annotations

from collections.abc import Iterable

from livelift.checks import booting, storage, system
from livelift.checks.findings import Findings
from livelift.model.facts import ServerFacts

RULES = (
    system.check_distribution,
    system.check_kernels,
    system.check_environment,
    storage.check_room,
    storage.check_file_systems,
    storage.check_stacks,
    booting.check_boot_loader,
    booting.check_drivers,
    booting.check_network,
)


def check_servers(source: ServerFacts, target: ServerFacts, ignored: Iterable[str] = ()) -> Findings:
    return Findings((finding for rule in RULES for finding in rule(source, target)), ignored)

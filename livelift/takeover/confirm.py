"""Whether the new system is well: its addresses, its services, nothing that failed only here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from livelift.adapt.linux.agent_unit import exec_lines
from livelift.facts import network, system
from livelift.facts.host import Host
from livelift.model.facts import Interface, Route
from livelift.takeover.records import Confirm

UNIT: Final = "livelift-confirm.service"
UNIT_PATH: Final = f"etc/systemd/system/{UNIT}"
LINK_PATH: Final = f"etc/systemd/system/multi-user.target.wants/{UNIT}"
SYSTEMD: Final = ("lib/systemd/systemd", "usr/lib/systemd/systemd")
RUNNING: Final = ("running", "exited", "listening", "active")
"""Sub-states of a unit that is active (systemctl list-units)."""

STARTING: Final = ("initializing", "starting")
"""systemctl(1), is-system-running: units that will fail may not have been tried yet."""


def unit_text(agent: str) -> str:
    """``agent``: path of the agent file, the same in both systems."""
    run = "\n".join(exec_lines((agent, "takeover", "confirm", "--wait", "600")))
    return f"""[Unit]
Description=Livelift: the moved system tells that it has come up
After=network.target
ConditionPathExists=/.livelift/takeover/state.json
StartLimitIntervalSec=0

[Service]
Type=simple
{run}
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target
"""


def look(host: Host, wanted: Confirm) -> list[str]:
    """What is missing, one line each; empty if all is well."""
    started = host.run("systemctl", "show", "--property=SystemState", "--value").strip()
    states = parse_all_units(host.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager"))
    return [
        *look_at_network(host, wanted),
        *(["the system is still starting"] if started in STARTING else []),
        *missing_services(states, wanted.services),
        *newly_failed(states, wanted.failed),
    ]


def look_at_network(host: Host, wanted: Confirm) -> list[str]:
    """For a later start of a system that has confirmed: what services it has by then is the operator's concern."""
    return [
        *missing_addresses(network.interfaces(host), wanted.addresses),
        *missing_route(network.routes(host), wanted.route),
    ]


def parse_all_units(text: str) -> dict[str, str]:
    """UNIT LOAD ACTIVE SUB DESCRIPTION of units of every type: unit to sub-state, to "failed" where that is."""
    found = {}
    for line in text.splitlines():
        fields = line.lstrip(" *●").split()
        if len(fields) >= 4 and fields[2] != "inactive":
            found[fields[0]] = "failed" if fields[2] == "failed" else fields[3]
    return found


def missing_addresses(interfaces: Iterable[Interface], addresses: Iterable[str]) -> list[str]:
    """Without addresses: any of a card that is up, and not only of the link."""
    up = [a.partition("/")[0] for nic in interfaces if nic.up and nic.kind != "loopback" for a in nic.addresses]
    wanted = [address.partition("/")[0] for address in addresses]
    if not wanted:
        found = any(not address.lower().startswith(("fe80:", "169.254.")) for address in up)
        return [] if found else ["no network card has an address"]
    return [f"the address {address} is not up" for address in wanted if address not in up]


def missing_route(routes: Iterable[Route], wanted: bool) -> list[str]:
    if wanted and not any(route.destination in ("default", "0.0.0.0/0", "::/0") for route in routes):
        return ["there is no default route"]
    return []


def missing_services(states: dict[str, str], services: Iterable[str]) -> list[str]:
    return [f"{unit} is {states.get(unit, 'not running')}" for unit in services if states.get(unit) not in RUNNING]


def newly_failed(states: dict[str, str], known: Iterable[str]) -> list[str]:
    seen = {*known, UNIT}
    return [f"{unit} has failed" for unit, state in sorted(states.items()) if state == "failed" and unit not in seen]


PASSING: Final = ("user@", "user-runtime-dir@", "getty@", "serial-getty@", "container-getty@", "run-")
"""Services that run as long as somebody is logged in, or on this hardware's consoles."""


def expected(units: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(services that run, units that have failed), from `systemctl list-units` of a system as it should be."""
    states = parse_all_units(units)
    services = tuple(sorted(system.parse_units(units)))
    running = tuple(unit for unit in services if states.get(unit) == "running" and not unit.startswith(PASSING))
    return running, tuple(sorted(unit for unit, state in states.items() if state == "failed"))

"""Adapters of the target with the addresses of the source."""

from __future__ import annotations

import pytest

from livelift.adapt.windows.adapters import NET_CLASS, TCPIP
from livelift.adapt.windows.bench import Bench, Choices
from livelift.adapt.windows.network import IPV6_ADDRESSES, RULE
from livelift.adapt.windows.system import value_of
from livelift.registry.values import BINARY, list_of, number_of, set_list, set_number, set_text
from tests.adapt.windows.machine import findings, pair, run

OLD, NEW = "{AAAAAAAA-0000-0000-0000-000000000001}", "{BBBBBBBB-0000-0000-0000-000000000002}"
SECOND = "{BBBBBBBB-0000-0000-0000-000000000003}"


def addresses(bench: Bench, guid: str) -> list[str]:
    key = bench.control(f"{TCPIP}\\{guid}")
    return list_of(key.value("IPAddress")) if key is not None else ["no interface"]


def test_one_adapter_each_needs_no_telling() -> None:
    source, target = pair()
    set_number(target.cs.make(f"{TCPIP}\\{NEW}"), "InterfaceMetric", 5)
    set_text(target.cs.make(f"{TCPIP}\\{NEW}"), "DhcpIPAddress", "198.51.100.9")
    bench = run(RULE, source, target)
    key = bench.control(f"{TCPIP}\\{NEW}")
    assert findings(bench) == [] and key is not None
    assert list_of(key.value("IPAddress")) == ["192.0.2.10"] and number_of(key.value("EnableDHCP")) == 0
    assert list_of(key.value("DefaultGateway")) == ["192.0.2.1"] and value_of(key, "NameServer") == "192.0.2.53"
    assert key.value("InterfaceMetric") is None, "the source has none"
    assert value_of(key, "DhcpIPAddress") == "198.51.100.9", "a lease is the adapter's"
    assert bench.control(f"{TCPIP}\\{OLD}") is None
    linkage = bench.control("Services\\Tcpip\\Linkage")
    assert linkage is not None and list_of(linkage.value("Bind")) == [f"\\Device\\{NEW}"]
    assert value_of(bench.control(f"Control\\Network\\{NET_CLASS}\\{NEW}\\Connection"), "Name") == "Ethernet0"


def test_a_source_with_dhcp_takes_static_addresses_away() -> None:
    source, target = pair()
    interface = source.cs.make(f"{TCPIP}\\{OLD}")
    set_number(interface, "EnableDHCP", 1)
    interface.unset("IPAddress")
    set_list(target.cs.make(f"{TCPIP}\\{NEW}"), "IPAddress", ["198.51.100.7"])
    bench = run(RULE, source, target)
    assert addresses(bench, NEW) == []


def test_two_adapters_of_the_target_must_be_told_apart() -> None:
    source, target = pair()
    target.adapter(SECOND, "Ethernet 2", 1)
    assert findings(run(RULE, source, target)) == ["nic-unmapped-ethernet0"]
    bench = run(RULE, source, target, Choices(nics={"ethernet0": SECOND.lower()}))
    assert findings(bench) == [] and addresses(bench, SECOND) == ["192.0.2.10"] and addresses(bench, NEW) == []
    assert findings(run(RULE, source, target, Choices(nics={"Ethernet0": None}))) == []


def test_an_adapter_that_keeps_its_own_static_address_is_told() -> None:
    source, target = pair()
    target.adapter(SECOND, "Ethernet 2", 1, address="198.51.100.2")
    bench = run(RULE, source, target, Choices(nics={"Ethernet0": "Ethernet"}))
    assert findings(bench) == ["nic-keeps-target-address"] and addresses(bench, SECOND) == ["198.51.100.2"]


@pytest.mark.parametrize(
    ("nics", "found"),
    [
        ({"Ethernet0": "nosuch"}, ["nic-unknown", "nic-unmapped-ethernet0"]),
        ({"nosuch": "Ethernet"}, ["nic-unknown", "nic-unmapped-ethernet0"]),
    ],
)
def test_names_that_are_not_there_are_refused(nics: dict[str, str | None], found: list[str]) -> None:
    assert findings(run(RULE, *pair(), Choices(nics=nics))) == found


def test_two_to_one_is_refused() -> None:
    source, target = pair()
    source.adapter("{AAAAAAAA-0000-0000-0000-000000000009}", "Ethernet1", 1, address="192.0.2.11")
    bench = run(RULE, source, target, Choices(nics={"Ethernet0": "Ethernet", "Ethernet1": "Ethernet"}))
    assert findings(bench)[0] == "nic-twice"


def test_what_is_bound_to_the_old_adapters_is_told() -> None:
    source, target = pair()
    set_text(source.cs.make("Control\\Network\\{4d36e974-e325-11ce-bfc1-08002be10318}\\{1}"), "ComponentId", "av_ndis")
    source.cs.make(IPV6_ADDRESSES).set("1", BINARY, b"x")
    assert findings(run(RULE, source, target)) == ["network-components-lost", "ipv6-static"]


def test_a_filter_that_only_the_target_has_brings_its_service() -> None:
    source, target = pair()
    key = target.cs.make("Control\\Network\\{4d36e974-e325-11ce-bfc1-08002be10318}\\{1}")
    set_text(key, "ComponentId", "team_filter")
    set_text(key.make("Ndi"), "Service", "teamflt")
    target.service("teamflt", 1)
    bench = run(RULE, source, target)
    assert bench.control("Services\\teamflt") is not None and findings(bench) == ["network-component-added"]


def test_a_name_that_another_connection_has_is_left() -> None:
    source, target = pair()
    target.adapter(SECOND, "Ethernet0", 1)
    bench = run(RULE, source, target, Choices(nics={"Ethernet0": "Ethernet"}))
    assert "nic-name-taken" in findings(bench)
    assert value_of(bench.control(f"Control\\Network\\{NET_CLASS}\\{NEW}\\Connection"), "Name") == "Ethernet"


def test_settings_of_the_host_stay_the_sources() -> None:
    source, target = pair()
    for machine in (source, target):
        set_text(machine.cs.make("Services\\Tcpip\\Parameters"), "Hostname", machine.name)
        set_text(machine.cs.make("Services\\Tcpip\\Parameters\\PersistentRoutes"), machine.name, "")
    bench = run(RULE, source, target)
    assert value_of(bench.control("Services\\Tcpip\\Parameters"), "Hostname") == "old"
    routes = bench.control("Services\\Tcpip\\Parameters\\PersistentRoutes")
    assert routes is not None and [value.name for value in routes.values] == ["old"]

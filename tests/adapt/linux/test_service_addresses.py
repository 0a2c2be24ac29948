"""Addresses of the source that move beside the target's own: in the file of every network service, or refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from livelift.adapt.changes import CopyFile, DeleteFile, WriteFile
from livelift.adapt.linux.case import Policy, parse_policy
from livelift.adapt.linux.moves import moves
from livelift.adapt.linux.service_addresses import chosen
from livelift.adapt.linux.trees import Item
from livelift.adapt.plan import Plan
from livelift.checks.findings import Level
from livelift.errors import UsageError
from livelift.target.expected import addresses
from tests.adapt.linux.trees import changes, debian_new, debian_old, plan_of
from tests.machines import change, debian_source, debian_target

V4, V6 = "192.0.2.77/24", "2001:db8::77/64"
MAC = "52:54:00:00:00:02"


def machines(**target: Any) -> tuple[Any, Any]:
    source = debian_source()
    lo, nic = source.interfaces
    source = change(source, interfaces=(lo, change(nic, addresses=("192.0.2.10/24", V4, V6))))
    return source, change(debian_target(), **target)


SOURCE, TARGET = machines()
CARD = next(nic for nic in TARGET.interfaces if nic.kind == "physical")


def planned(files: dict[str, str | Item], wanted: tuple[str, ...] = (V4, V6)) -> Plan:
    """The target has only these network files."""
    new = {p: c for p, c in debian_new().items() if p != "etc/network/interfaces"}
    policy = {"addresses": {address: CARD.name for address in wanted}}
    return plan_of(SOURCE, TARGET, debian_old(), {**new, **files}, **policy)


CASES = [
    (
        "etc/network/interfaces",
        "auto enp0s3\niface enp0s30 inet manual\niface enp0s3 inet dhcp",
        "\n\niface enp0s3 inet static\n    address 192.0.2.77/24\n"
        "\niface enp0s3 inet6 static\n    address 2001:db8::77/64\n",
    ),
    (
        "etc/systemd/network/10-lan.network",
        f"[Match]\nMACAddress={MAC.upper()}\n\n[Network]\nDHCP=yes\n",
        "\n[Address]\nAddress=192.0.2.77/24\n\n[Address]\nAddress=2001:db8::77/64\n",
    ),
    (
        "etc/systemd/network/10-lan.network",
        "[Match]\nName=eth* enp*\n",
        "\n[Address]\nAddress=192.0.2.77/24\n\n[Address]\nAddress=2001:db8::77/64\n",
    ),
    (
        "etc/sysconfig/network-scripts/ifcfg-lan",
        f"HWADDR={MAC.upper()}\nBOOTPROTO=none\nIPADDR=192.0.2.20\nIPADDR1=192.0.2.21\nPREFIX1=24\n",
        "IPADDR2=192.0.2.77\nPREFIX2=24\nIPV6INIT=yes\nIPV6ADDR=2001:db8::77/64\n",
    ),
    (
        "etc/sysconfig/network-scripts/ifcfg-enp0s3",
        "DEVICE=enp0s3\nIPADDR=192.0.2.20\nIPV6ADDR=2001:db8::20/64\n",
        'IPADDR1=192.0.2.77\nPREFIX1=24\nIPV6ADDR_SECONDARIES="2001:db8::77/64"\n',
    ),
    (
        "etc/sysconfig/network/ifcfg-enp0s3",
        "BOOTPROTO='dhcp'\nIPADDR_1='192.0.2.21/24'\n",
        "IPADDR_2='192.0.2.77/24'\nIPADDR_3='2001:db8::77/64'\n",
    ),
]


@pytest.mark.parametrize(("path", "text", "more"), CASES, ids=[f"{at}-{case[0]}" for at, case in enumerate(CASES)])
def test_the_file_of_the_card_gets_them(path: str, text: str, more: str) -> None:
    plan = planned({path: text})
    found = changes(plan, "network/")[path]
    assert isinstance(found, WriteFile) and found.data.decode() == text + more
    assert "network-address" not in said(plan)
    edit = next(edit for edit in plan.edits if edit.change == found)
    assert V4 in edit.reason and edit.before == tuple(text.splitlines()), "the diff is against the target's file"


def test_secondary_addresses_of_ifcfg_are_added_to() -> None:
    path = "etc/sysconfig/network-scripts/ifcfg-enp0s3"
    text = 'DEVICE=enp0s3\nIPV6ADDR=2001:db8::20/64\nIPV6ADDR_SECONDARIES="2001:db8::21/64"\nMTU=9000\n'
    found = changes(planned({path: text}, (V6,)), "network/")[path]
    assert isinstance(found, WriteFile) and found.data.decode() == text.replace("21/64", f"21/64 {V6}")


def test_a_keyfile_gets_the_next_numbers_and_a_method_that_takes_them() -> None:
    path = "etc/NetworkManager/system-connections/lan.nmconnection"
    text = (
        "[connection]\ninterface-name=enp0s3\n\n[ipv4]\naddress1=192.0.2.20/24,192.0.2.1\nmethod=manual\n\n"
        "[ipv6]\nmethod=ignore\n\n[proxy]\n"
    )
    found = changes(planned({path: text}), "network/")[path]
    assert isinstance(found, WriteFile)
    assert found.data.decode() == (
        "[connection]\ninterface-name=enp0s3\n\n[ipv4]\naddress1=192.0.2.20/24,192.0.2.1\nmethod=manual\n"
        f"address2={V4}\n\n[ipv6]\nmethod=manual\naddress1={V6}\n\n[proxy]\n"
    )
    bare = "[connection]\n[ethernet]\nmac-address=" + MAC.upper() + "\n"
    found = changes(planned({path: bare}, (V4,)), "network/")[path]
    assert isinstance(found, WriteFile) and found.data.decode() == f"{bare}\n[ipv4]\nmethod=manual\naddress1={V4}\n"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("network:\n  ethernets:\n    other:\n      dhcp4: true\n    enp0s3:\n      dhcp4: true\n", "enp0s3"),
        (f'network:\n  ethernets:\n    lan:\n      match:\n        macaddress: "{MAC.upper()}"\n', "lan"),
        ("network:\n  ethernets:\n    lan:\n      match:\n        name: enp*\n    wan:\n      dhcp4: true\n", "lan"),
    ],
)
def test_netplan_gets_a_file_more(text: str, key: str) -> None:
    found = changes(planned({"etc/netplan/50-cloud-init.yaml": text}, (V4,)), "network/")
    assert isinstance(found["etc/netplan/50-cloud-init.yaml"], CopyFile)
    assert found["etc/netplan/90-service-addresses-enp0s3.yaml"] == WriteFile(
        "etc/netplan/90-service-addresses-enp0s3.yaml",
        f'network:\n  version: 2\n  ethernets:\n    {key}:\n      addresses:\n        - "{V4}"\n'.encode(),
        0o600,
    )


@pytest.mark.parametrize(
    "files",
    [
        {"etc/network/interfaces": "iface enp0s30 inet dhcp\n"},
        {"etc/netplan/1.yaml": "network:\n  ethernets:\n    other:\n      dhcp4: true\n"},
        {"etc/systemd/network/1.network": "[Match]\nName=eth0\n[Network]\nDescription=Name=enp0s3\n"},
        {"etc/sysconfig/network-scripts/ifcfg-enp0s3": "DEVICE=enp0s3\nBOOTPROTO=dhcp\n"},
        {"etc/NetworkManager/system-connections/lan.nmconnection": Item("file", 9)},
    ],
)
def test_an_address_that_no_file_takes_is_an_inhibitor(files: dict[str, str | Item]) -> None:
    (finding,) = [one for one in planned(files).findings if one.id == "network-address"]
    assert finding.level is Level.INHIBITOR
    assert "enp0s3" in finding.diagnosis and V4 in finding.diagnosis and finding.remedy


def test_what_cannot_move_is_said() -> None:
    source, target = SOURCE, TARGET
    services, wrong = chosen(
        source,
        target,
        {"192.0.2.99": "enp0s3", "192.0.2.77/25": "enp0s3", "192.0.2.10": "none", "192.0.2.77": "enp0s3"},
    )
    assert [(one.address, one.held, one.card) for one in services] == [(V4, "ens3", "enp0s3")]
    assert [re.findall(r"[\d./]{9,}|none", diagnosis) for diagnosis, _ in wrong] == [
        ["192.0.2.99"], ["192.0.2.77/25"], ["192.0.2.10", "none"]
    ]  # fmt: skip
    has = change(target, interfaces=(change(CARD, addresses=(V4,)),))
    assert "has 192.0.2.77 already" in chosen(source, has, {"192.0.2.77": "enp0s3"})[1][0][0]
    lo, nic = source.interfaces
    leased = change(source, interfaces=(lo, change(nic, leased=(V4,), dynamic=True)))
    assert chosen(leased, target, {"192.0.2.77": "enp0s3"})[0] == (), "the lease's server has the word"
    plan = plan_of(source, target, debian_old(), debian_new(), addresses={"192.0.2.99": "enp0s3"})
    assert "192.0.2.99" in said(plan)["network-address"]


def said(plan: Plan) -> dict[str, str]:
    return {finding.id: finding.diagnosis for finding in plan.findings}


def test_another_network_is_warned_of() -> None:
    other = change(TARGET, interfaces=(change(CARD, addresses=("198.51.100.4/24",)),))
    plan = plan_of(SOURCE, other, debian_old(), debian_new(), addresses={V4: "enp0s3"})
    assert V4 in said(plan)["network-other-network"]
    assert "network-other-network" not in said(planned({"etc/network/interfaces": "iface enp0s3 inet dhcp\n"}, (V4,)))


def test_they_leave_the_source_and_are_expected_on_the_target() -> None:
    policy = Policy(addresses={"192.0.2.77": "enp0s3"})
    assert moves(SOURCE, TARGET, policy) == ((V4, "ens3"),)
    assert addresses(SOURCE, TARGET, policy) == (*CARD.static, V4)
    assert addresses(SOURCE, TARGET, Policy()) == CARD.static


def test_the_sources_own_file_of_that_place_goes_and_the_others_too() -> None:
    plan = planned({"etc/network/interfaces": "iface enp0s3 inet dhcp\n"}, (V4,))
    assert b"192.0.2.10" not in changes(plan, "network/")["etc/network/interfaces"].data  # type: ignore[union-attr]
    old = debian_old(**{"etc/network/interfaces.d/lan": "iface ens3 inet static\n"})
    both = plan_of(SOURCE, TARGET, old, debian_new(), addresses={V4: "enp0s3"})
    assert isinstance(changes(both, "network/")["etc/network/interfaces.d/lan"], DeleteFile)


def test_the_map_file() -> None:
    assert parse_policy('[addresses]\n"192.0.2.77" = "enp0s3"\n').addresses == {"192.0.2.77": "enp0s3"}
    with pytest.raises(UsageError, match="take-source"):
        parse_policy('network = "take-source"\n[addresses]\n"192.0.2.77" = "enp0s3"\n')

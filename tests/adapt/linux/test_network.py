"""Every network stack both ways: the target keeps its addresses, or takes the source's on its own cards."""

from __future__ import annotations

from typing import Any

import pytest

from livelift.adapt.changes import CopyFile, DeleteFile, WriteFile
from livelift.adapt.linux.network import replace_names
from livelift.adapt.linux.trees import Item
from livelift.adapt.plan import Plan
from livelift.model.facts import Interface, Route
from tests.adapt.linux.trees import changes, debian_new, debian_old, findings, plan_of
from tests.machines import change, debian_source, debian_target

SOURCE, TARGET = debian_source(), debian_target()
MAC, NEW_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02"


def planned(old: dict[str, str | Item], new: dict[str, str | Item], **policy: Any) -> Plan:
    """Of machines that have only these network files."""
    base_old = {p: c for p, c in debian_old().items() if p != "etc/network/interfaces"}
    base_new = {p: c for p, c in debian_new().items() if p != "etc/network/interfaces"}
    return plan_of(SOURCE, TARGET, {**base_old, **old}, {**base_new, **new}, **policy)


CASES = [
    (
        "etc/network/interfaces",
        "auto ens3 ens3:0 ens3.7\n",
        "etc/network/interfaces",
        "auto enp0s3 enp0s3:0 enp0s3.7\n",
    ),
    (
        "etc/netplan/50.yaml",
        f'    ens3:\n      match: {{macaddress: "{MAC}"}}\n      set-name: ens3\n',
        "etc/netplan/50.yaml",
        f'    enp0s3:\n      match: {{macaddress: "{NEW_MAC}"}}\n      set-name: enp0s3\n',
    ),
    (
        "etc/NetworkManager/system-connections/lan.nmconnection",
        f"[connection]\ninterface-name=ens3\n[ethernet]\nmac-address={MAC.upper()}\n",
        "etc/NetworkManager/system-connections/lan.nmconnection",
        f"[connection]\ninterface-name=enp0s3\n[ethernet]\nmac-address={NEW_MAC.upper()}\n",
    ),
    (
        "etc/sysconfig/network-scripts/ifcfg-ens3",
        f"DEVICE=ens3\nNAME=ens3\nHWADDR={MAC.upper()}\n",
        "etc/sysconfig/network-scripts/ifcfg-enp0s3",
        f"DEVICE=enp0s3\nNAME=enp0s3\nHWADDR={NEW_MAC.upper()}\n",
    ),
    (
        "etc/sysconfig/network-scripts/route-ens3",
        "10.0.0.0/8 via 192.0.2.1 dev ens3\n",
        "etc/sysconfig/network-scripts/route-enp0s3",
        "10.0.0.0/8 via 192.0.2.1 dev enp0s3\n",
    ),
    ("etc/sysconfig/network-scripts/ifcfg-ens3:1", "DEVICE=ens3:1\n", "etc/sysconfig/network-scripts/ifcfg-enp0s3:1",
     "DEVICE=enp0s3:1\n"),
    ("etc/systemd/network/10-ens3.network", f"[Match]\nMACAddress={MAC}\n", "etc/systemd/network/10-enp0s3.network",
     f"[Match]\nMACAddress={NEW_MAC}\n"),
    ("etc/sysconfig/network/ifcfg-ens3", "IPADDR=192.0.2.10/24\n", "etc/sysconfig/network/ifcfg-enp0s3",
     "IPADDR=192.0.2.10/24\n"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "text", "place", "expected"), CASES, ids=[case[0] for case in CASES])
def test_take_source(path: str, text: str, place: str, expected: str) -> None:
    found = changes(planned({path: text}, {}, network="take-source"), "network/")
    change_ = found[place]
    assert isinstance(change_, WriteFile) and change_.data.decode() == expected
    if place != path:
        assert isinstance(found[path], DeleteFile)


@pytest.mark.parametrize(("path", "text", "place", "expected"), CASES, ids=[case[0] for case in CASES])
def test_keep_target(path: str, text: str, place: str, expected: str) -> None:
    names = {"etc/network": "interfaces", "etc/netplan": "x.yaml", "etc/systemd/network": "x.network"}
    directory = path.rpartition("/")[0]
    theirs = f"{directory}/{names.get(directory, 'ifcfg-x')}"
    found = changes(planned({path: text}, {theirs: "theirs"}), "network/")
    assert isinstance(found[theirs], CopyFile)
    if theirs != path:
        assert isinstance(found[path], DeleteFile)


def test_two_cards_that_change_places() -> None:
    names = {"eth0": "eth1", "eth1": "eth0"}
    assert replace_names("auto eth0 eth1\neth10 eth0.5 xeth0 veth0-1 my-eth0 eth0-x\n", names) == (
        "auto eth1 eth0\neth10 eth1.5 xeth0 veth0-1 my-eth0 eth0-x\n"
    )


def nic(name: str, *addresses: str, kind: str = "physical") -> Interface:
    return Interface(name=name, kind=kind, mac=f"02:00:00:00:00:{len(name):02x}", addresses=addresses)


def pairs(source: Any, target: Any, **policy: Any) -> tuple[str, set[str]]:
    text = " ".join(n.name for n in source.interfaces)
    plan = plan_of(
        source, target, debian_old(**{"etc/network/interfaces": text}), debian_new(), network="take-source", **policy
    )
    found = [e.change.data.decode() for e in plan.edits if e.id == "network/etc/network/interfaces"]  # type: ignore[union-attr]
    return (found or [text])[0], findings(plan)


def test_cards_are_paired_by_network_then_default_route_then_order() -> None:
    source = change(SOURCE, interfaces=(nic("a", "10.0.0.1/24"), nic("b", "10.1.0.1/24"), nic("c", "10.2.0.1/24")),
                    routes=(Route(destination="default", interface="b"),))  # fmt: skip
    target = change(TARGET, interfaces=(nic("x"), nic("y", "10.9.0.9/24"), nic("z", "10.0.0.9/24")),
                    routes=(Route(destination="default", interface="y"),))  # fmt: skip
    assert pairs(source, target)[0] == "z y x"
    assert pairs(source, target, interfaces={"a": "x"})[0] == "x y z"


def test_a_card_without_a_counterpart() -> None:
    source = change(SOURCE, interfaces=(nic("a", "10.0.0.1/24"), nic("b", "10.1.0.1/24")))
    assert "network-card" in pairs(source, TARGET)[1]
    assert "network-map" in pairs(source, TARGET, interfaces={"a": "nowhere"})[1]


def test_a_file_with_a_secret_is_not_read_and_is_told() -> None:
    path = "etc/NetworkManager/system-connections/wifi"
    plan = planned({path: Item("file", 9, 0o600)}, {}, network="take-source")
    assert "network-by-hand" in findings(plan) and path not in changes(plan)


def test_a_match_by_driver_is_told() -> None:
    plan = planned({"etc/systemd/network/a.network": "[Match]\nDriver=e1000\n"}, {}, network="take-source")
    assert "network-driver" in findings(plan)


def test_a_renamed_file_keeps_its_mode() -> None:
    old = debian_old(**{"etc/sysconfig/network-scripts/ifcfg-ens3": "DEVICE=ens3\n"})
    plan = plan_of(SOURCE, TARGET, old, debian_new(), network="take-source")
    change_ = changes(plan)["etc/sysconfig/network-scripts/ifcfg-enp0s3"]
    assert isinstance(change_, WriteFile) and change_.mode == 0o644


def test_keep_target_with_another_stack_is_told() -> None:
    target = change(TARGET, network_stacks=("networkd",))
    plan = plan_of(SOURCE, target, debian_old(), debian_new(**{"etc/systemd/network/a.network": "x"}))
    assert "network-stack-differs" in findings(plan)


def test_names_of_cards() -> None:
    rule, link = "etc/udev/rules.d/70-persistent-net.rules", "etc/systemd/network/10-lan.link"
    found = changes(planned({rule: "old", link: "old"}, {link: "new", "etc/network/interfaces": "x"}), "network-names")
    assert isinstance(found[rule], DeleteFile) and isinstance(found[link], CopyFile)

"""Interfaces from sysfs, addresses and routes from ip, and who configures them."""

from __future__ import annotations

from pathlib import Path

import pytest

from livelift.facts import network
from livelift.facts.host import Host
from livelift.model.facts import Route
from tests.facts.tree import plant, programs

ADDRESSES = """1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
2: ens3    inet 10.0.2.15/24 brd 10.0.2.255 scope global dynamic ens3\\       valid_lft 86363sec preferred_lft 86363sec
2: ens3    inet6 fe80::5054:ff:fe12:3456/64 scope link \\       valid_lft forever preferred_lft forever
3: bond0.7    inet 192.0.2.7/28 scope global bond0.7\\       valid_lft forever preferred_lft forever
3: bond0.7    inet6 2001:db8::7/64 scope global \\       valid_lft forever preferred_lft forever
"""
PCI = "/sys/devices/pci0000:00/0000:00:03.0"


def test_addresses() -> None:
    assert network.parse_addresses(ADDRESSES) == {
        "ens3": (("10.0.2.15/24", True),),
        "bond0.7": (("192.0.2.7/28", False), ("2001:db8::7/64", False)),
    }


def test_routes() -> None:
    text = (
        "default via 10.0.2.2 dev ens3 proto dhcp metric 100\n"
        "10.0.2.0/24 dev ens3 proto kernel scope link src 10.0.2.15\n"
        "198.51.100.0/24 via 192.0.2.1 dev ens4\n"
        "unreachable 192.0.2.9 metric 5\n"
        "192.0.2.0/28 via 10.0.0.1 dev ens5 onlink metric 7\n"
    )
    assert network.parse_routes(text) == (
        Route(destination="default", gateway="10.0.2.2", interface="ens3", metric=100),
        Route(destination="198.51.100.0/24", gateway="192.0.2.1", interface="ens4"),
        Route(destination="192.0.2.0/28", gateway="10.0.0.1", interface="ens5", metric=7),
    )


@pytest.fixture
def machine(tmp_path: Path) -> Host:
    plant(
        tmp_path,
        {
            f"{PCI}/modalias": "pci:v00008086d0000100E\n",
            f"{PCI}/net/ens3/address": "52:54:00:12:34:56\n",
            f"{PCI}/net/ens3/type": "1\n",
            f"{PCI}/net/ens3/mtu": "9000\n",
            f"{PCI}/net/ens3/operstate": "up\n",
            f"{PCI}/net/ens3/device": "-> ../../../0000:00:03.0",
            f"{PCI}/net/ens3/master": "-> ../../../../virtual/net/bond0",
            f"{PCI}/driver": "-> ../../../bus/pci/drivers/e1000",
            "/sys/bus/pci/drivers/e1000/module": "-> ../../../../module/e1000",
            "/sys/module/e1000": None,
            "/sys/class/net/ens3": f"-> ../../{PCI[5:]}/net/ens3",
            "/sys/devices/virtual/net/bond0/type": "1",
            "/sys/devices/virtual/net/bond0/uevent": "DEVTYPE=bond\nINTERFACE=bond0\n",
            "/sys/class/net/bond0": "-> ../../devices/virtual/net/bond0",
            "/sys/devices/virtual/net/lo/type": "772",
            "/sys/class/net/lo": "-> ../../devices/virtual/net/lo",
            "/sys/class/net/bonding_masters": "bond0\n",
            "/proc/net/bonding/bond0": "Slave Interface: ens3\nMII Status: up\nPermanent HW addr: 52:54:00:AA:BB:CC\n",
        },
    )
    return Host(str(tmp_path), programs({"ip -o address": ADDRESSES}))


def test_interfaces(machine: Host) -> None:
    bond, ens3, loopback = network.interfaces(machine)
    assert (bond.kind, loopback.kind, ens3.kind) == ("bond", "loopback", "physical")
    assert (ens3.driver, ens3.mtu, ens3.master, ens3.up) == ("e1000", 9000, "bond0", True)
    assert ens3.mac == "52:54:00:aa:bb:cc", "its own, not the bond's"
    assert ens3.addresses == ("10.0.2.15/24",) and ens3.dynamic
    assert [(link.modalias, link.driver, link.module) for link in ens3.links] == [
        ("pci:v00008086d0000100E", "e1000", "e1000")
    ]


@pytest.mark.parametrize(
    ("path", "text", "stacks"),
    [
        ("/etc/network/interfaces", "auto lo\niface lo inet loopback\n", ()),
        ("/etc/network/interfaces", "iface lo inet loopback\niface ens3 inet dhcp\n", ("ifupdown",)),
        ("/etc/netplan/50-cloud-init.yaml", "network: {}", ("netplan",)),
        ("/etc/NetworkManager/system-connections/a.nmconnection", "[connection]", ("networkmanager",)),
        ("/etc/sysconfig/network-scripts/ifcfg-lo", "", ()),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0", "", ("ifcfg",)),
        ("/etc/sysconfig/network-scripts/ifcfg-eth0.bak", "", ()),
        ("/etc/systemd/network/10-a.network", "", ("networkd",)),
        ("/etc/sysconfig/network/ifcfg-eth0", "", ("wicked",)),
    ],
)
def test_stacks(tmp_path: Path, path: str, text: str, stacks: tuple[str, ...]) -> None:
    assert network.stacks(Host(str(plant(tmp_path, {path: text})))) == stacks

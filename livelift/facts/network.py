"""Network interfaces, addresses, routes, and which programs configure them: sysfs, ip(8), /etc."""

from __future__ import annotations

import re
from typing import Final

from livelift.facts.host import Host
from livelift.facts.links import links_of
from livelift.model.facts import Interface, Route

STACKS: Final = {
    "ifupdown": ("/etc/network/interfaces", "/etc/network/interfaces.d/*"),
    "netplan": ("/etc/netplan/*.yaml",),
    "networkmanager": (
        "/etc/NetworkManager/system-connections/*.nmconnection",
        "/etc/NetworkManager/system-connections/*",
    ),
    "ifcfg": ("/etc/sysconfig/network-scripts/ifcfg-*",),
    "networkd": ("/etc/systemd/network/*.network",),
    "wicked": ("/etc/sysconfig/network/ifcfg-*",),
}
"""Where each configures interfaces. A stack counts only if a file says something beyond the loopback."""
_PHYSICAL_ETHERNET: Final = "1"  # ARPHRD_ETHER, linux/if_arp.h
_LOOPBACK: Final = "772"


def interfaces(host: Host) -> tuple[Interface, ...]:
    """All of sysfs, with the addresses of the running kernel. Addresses made by the kernel itself (link scope) are not
    configuration and are left out."""
    addresses = parse_addresses(host.run("ip", "-o", "address", "show"))
    found = []
    for name in host.names("/sys/class/net"):
        base = f"/sys/class/net/{name}"
        if not host.is_dir(base):
            continue  # bonding_masters is a file
        known = addresses.get(name, ())
        found.append(
            Interface(
                name=name,
                kind=_kind(host, base),
                mac=_permanent_mac(host, base, name),
                driver=host.real(f"{base}/device/driver").rpartition("/")[2],
                mtu=int(host.line(f"{base}/mtu") or 0),
                up=host.line(f"{base}/operstate") in ("up", "unknown") and bool(known),
                master=host.real(f"{base}/master").rpartition("/")[2],
                addresses=tuple(address for address, _ in known),
                dynamic=any(dynamic for _, dynamic in known),
                leased=tuple(address for address, dynamic in known if dynamic),
                links=links_of(host, f"{base}/device"),
            )
        )
    return tuple(found)


def _kind(host: Host, base: str) -> str:
    if host.line(f"{base}/type") == _LOOPBACK:
        return "loopback"
    told = re.search(r"^DEVTYPE=(\w+)", host.text(f"{base}/uevent"), re.M)
    if told and told[1] in ("bridge", "bond", "vlan"):
        return told[1]
    return "physical" if host.exists(f"{base}/device") else "virtual"


def _permanent_mac(host: Host, base: str, name: str) -> str:
    """Interfaces of a bond all have the bond's address; their own is in /proc/net/bonding."""
    told = re.search(
        rf"^Slave Interface: {re.escape(name)}$.*?^Permanent HW addr: (\S+)",
        "\n".join(host.text(path) for path in host.glob("/proc/net/bonding/*")),
        re.M | re.S,
    )
    return (told[1] if told else host.line(f"{base}/address")).lower()


def parse_addresses(text: str) -> dict[str, tuple[tuple[str, bool], ...]]:
    """``ip -o address``: "2: ens3    inet 10.0.2.15/24 brd ... scope global dynamic ens3 ..."; name to (address with
    prefix length, whether a lease or router advertisement made it)."""
    found: dict[str, list[tuple[str, bool]]] = {}
    for line in text.splitlines():
        match = re.match(r"\d+:\s+(\S+)\s+inet6?\s+(\S+)(.*)", line)
        if match and not re.search(r"\bscope (link|host)\b", match[3]):
            found.setdefault(match[1], []).append((match[2], " dynamic" in match[3]))
    return {name: tuple(entries) for name, entries in found.items()}


def routes(host: Host) -> tuple[Route, ...]:
    """Of the main table, both families; what the kernel made for an address of its own is left out."""
    text = host.run("ip", "-o", "route", "show") + host.run("ip", "-6", "-o", "route", "show")
    return parse_routes(text)


def parse_routes(text: str) -> tuple[Route, ...]:
    found = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0] in ("unreachable", "blackhole", "prohibit") or "proto kernel" in line:
            continue
        # Words without a value (onlink, linkdown) stand between the pairs.
        fields = {word: words[at + 1] for at, word in enumerate(words[:-1]) if word in ("via", "dev", "metric")}
        found.append(
            Route(
                destination=words[0],
                gateway=fields.get("via", ""),
                interface=fields.get("dev", ""),
                metric=int(fields.get("metric", 0)),
            )
        )
    return tuple(found)


def stacks(host: Host) -> tuple[str, ...]:
    """In the order of `STACKS`."""
    return tuple(name for name, patterns in STACKS.items() if any(_configures(host, name, p) for p in patterns))


def _configures(host: Host, stack: str, pattern: str) -> bool:
    for path in host.glob(pattern):
        if not host.is_dir(path) and not path.endswith((".bak", ".rpmsave", ".rpmnew", ".dpkg-old", "~", "/ifcfg-lo")):
            text = host.text(path)
            if stack != "ifupdown" or re.search(r"^\s*iface\s+(?!lo\b)\S+", text, re.M):
                return True
    return False

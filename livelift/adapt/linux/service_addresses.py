"""Single addresses of the source that move onto a card of the target, beside the target's own (map file, [addresses]).

The target's files stay, and the one that configures the card gets the address: after its own ones, in its own syntax.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from livelift.adapt.linux.case import Case
from livelift.model.facts import Interface, ServerFacts


class Service(NamedTuple):
    """``address``: with its prefix length, as the source has it. ``held``: the source's interface; ``card``: the
    target's that gets it."""

    address: str
    held: str
    card: str


Problem = tuple[str, str]
"""What is wrong, and what to do."""


def chosen(
    source: ServerFacts, target: ServerFacts, wanted: Mapping[str, str]
) -> tuple[tuple[Service, ...], list[Problem]]:
    """``wanted``: address, with prefix length or without, to the name of a card of the target."""
    found, wrong = [], []
    cards = {nic.name: nic for nic in target.interfaces if nic.kind != "loopback"}
    there = {address.partition("/")[0] for nic in target.interfaces for address in nic.addresses}
    for address, card in wanted.items():
        bare = address.partition("/")[0]
        held = [(full, nic) for nic in source.interfaces for full in nic.static if full.partition("/")[0] == bare]
        if not held or (held[0][0] != address and "/" in address):
            wrong.append((f"no card of the source has the static address {address}", "livelift facts shows them all"))
        elif card not in cards:
            wrong.append((f"{address} is to move to {card}, which the target does not have", f"name {_or(cards)}"))
        elif bare in there:
            wrong.append((f"the target has {bare} already", "take it off there: only one of the two may answer"))
        else:
            found.append(Service(held[0][0], held[0][1].name, card))
    return tuple(found), wrong


def texts(case: Case, files: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Path to the text that it gets, of the target's files with the addresses in them. ``files``: of the target, by
    the service that reads them. An address that no file takes is an inhibitor."""
    services, wrong = chosen(case.source, case.target, case.policy.addresses)
    for diagnosis, remedy in wrong:
        case.draft.inhibit("network-address", diagnosis, f"{remedy}; see [addresses] in the map file")
    known = {path: case.new.text(path) for paths in files.values() for path in paths if path in case.new.contents}
    told: dict[str, str] = {}
    for card in dict.fromkeys(service.card for service in services):
        nic = next(nic for nic in case.target.interfaces if nic.name == card)
        addresses = [service.address for service in services if service.card == card]
        for stack, write in WRITERS.items():
            readable = {path: told.get(path, known[path]) for path in files.get(stack, ()) if path in known}
            if (written := write(readable, nic, addresses)) is not None:
                told[written[0]] = written[1]
                _look_at_network(case, nic, addresses)
                break
        else:
            case.draft.inhibit(
                "network-address",
                f"no file of the target configures {card} in a way that {', '.join(addresses)} could be added to",
                "give the card a static configuration in a file that holds no password, or use take-source",
            )
    return told


def _look_at_network(case: Case, nic: Interface, addresses: list[str]) -> None:
    """A card that is in no network of the address can still answer, but its router has to know."""
    own = {ipaddress.ip_interface(address).network for address in nic.addresses}
    for address in addresses:
        interface = ipaddress.ip_interface(address)
        if interface.network.prefixlen < interface.max_prefixlen and interface.network not in own:
            case.draft.warn(
                "network-other-network",
                f"{nic.name} of the target is in no network of {address}, which moves to it",
                "see that the two machines' cards are in one segment, and that answers find their way",
            )


Written = tuple[str, str] | None
"""Path and text; None: none of these files configures the card."""


def ifupdown(files: Mapping[str, str], nic: Interface, addresses: list[str]) -> Written:
    """interfaces(5): stanzas of one interface are all applied."""
    for path, text in files.items():
        if re.search(rf"^[ \t]*iface[ \t]+{re.escape(nic.name)}[ \t]", text, re.M):
            stanzas = [
                f"\niface {nic.name} {'inet6' if _is_6(address) else 'inet'} static\n    address {address}\n"
                for address in addresses
            ]
            return path, _ended(text) + "".join(stanzas)
    return None


def netplan(files: Mapping[str, str], nic: Interface, addresses: list[str]) -> Written:
    """netplan-generate(8): of several files, sequences below the same key are put together. The key is the one below
    which the card's name or MAC address stands."""
    for path, text in files.items():
        if (found := _netplan_key(text, nic)) is not None:
            listed = "".join(f'        - "{address}"\n' for address in addresses)
            told = f"network:\n  version: 2\n  {found[0]}:\n    {found[1]}:\n      addresses:\n{listed}"
            return f"{path.rpartition('/')[0]}/90-service-addresses-{nic.name}.yaml", told
    return None


def _netplan_key(text: str, nic: Interface) -> tuple[str, str] | None:
    """(ethernets or the like, key) of block style, which is what installers and cloud-init write."""
    kind = key = ""
    outer = inner = -1
    for line in text.splitlines():
        indent, words = len(line) - len(line.lstrip(" ")), line.strip()
        if not words or words.startswith("#"):
            continue
        if re.fullmatch(r"(ethernets|bonds|bridges|vlans):", words):
            kind, outer, inner, key = words[:-1], indent, -1, ""
        elif kind and indent <= outer:
            kind = ""
        elif kind and inner in (-1, indent):
            inner, key = indent, words.partition(":")[0].strip("\"'")
            if key == nic.name:
                return kind, key
        elif key and (name := re.fullmatch(r"(?:set-name|name|macaddress): *[\"']?([\w.:*-]+)[\"']?", words)):
            found = fnmatchcase(nic.name, name[1]) or (nic.mac and name[1].lower() == nic.mac)
            if found:
                return kind, key
    return None


def networkd(files: Mapping[str, str], nic: Interface, addresses: list[str]) -> Written:
    """systemd.network(5): the first file that matches counts; [Address] may stand more than once."""
    for path, text in sorted(files.items(), key=lambda item: item[0].rpartition("/")[2]):
        match = re.search(r"^\[Match\]\s*$(.*?)(?=^\[|\Z)", text, re.M | re.S)
        names = re.search(r"^Name=(.*)$", match[1], re.M) if match else None
        macs = re.search(r"^(?:Permanent)?MACAddress=(.*)$", match[1], re.M) if match else None
        by_name = names and any(fnmatchcase(nic.name, name) for name in names[1].split())
        by_mac = macs and nic.mac and nic.mac in macs[1].lower().split()
        if path.endswith(".network") and (by_name or by_mac):
            return path, _ended(text) + "".join(f"\n[Address]\nAddress={address}\n" for address in addresses)
    return None


def ifcfg(files: Mapping[str, str], nic: Interface, addresses: list[str]) -> Written:
    """RHEL 6 to 9: IPADDRn with PREFIXn, sysconfig.txt of initscripts; NetworkManager reads the same."""
    for path, text in files.items():
        if "/ifcfg-" not in path or not _is_ifcfg_of(path, text, nic):
            continue
        if re.search(r"^BOOTPROTO=[\"']?(dhcp|bootp)", text, re.M | re.I):
            return None  # initscripts take no other address beside a lease
        told = _ended(text)
        for address in addresses:
            bare, _, prefix = address.partition("/")
            if not _is_6(address):
                number = _free(told, r"^IPADDR(\d+)=", 1)
                told += f"IPADDR{number}={bare}\nPREFIX{number}={prefix}\n"
            elif found := re.search(r"^IPV6ADDR_SECONDARIES=[\"']?([^\"'\n]*)[\"']?$", told, re.M):
                line = f'IPV6ADDR_SECONDARIES="{found[1]} {address}"'
                told = told[: found.start()] + line + told[found.end() :]
            elif re.search(r"^IPV6ADDR=", told, re.M):
                told += f'IPV6ADDR_SECONDARIES="{address}"\n'
            else:
                told += f"IPV6INIT=yes\nIPV6ADDR={address}\n"
        return path, told
    return None


def wicked(files: Mapping[str, str], nic: Interface, addresses: list[str]) -> Written:
    """ifcfg(5) of wicked: IPADDR with any suffix, in addition to a lease as well."""
    for path, text in files.items():
        if path.endswith(f"/ifcfg-{nic.name}"):
            told = _ended(text)
            for address in addresses:
                number = _free(told, r"^IPADDR_(\d+)=", 1)
                told += f"IPADDR_{number}='{address}'\n"
            return path, told
    return None


def networkmanager(files: Mapping[str, str], nic: Interface, addresses: list[str]) -> Written:
    """nm-settings-keyfile(5): addressN in [ipv4] and [ipv6], beside a lease as well; method disabled takes none."""
    for path, text in files.items():
        name = re.search(r"^interface-name=(.*)$", text, re.M)
        mac = re.search(r"^mac-address=(.*)$", text, re.M)
        if not (name and name[1].strip() == nic.name) and not (mac and nic.mac and mac[1].strip().lower() == nic.mac):
            continue
        told = _ended(text)
        for address in addresses:
            section = "ipv6" if _is_6(address) else "ipv4"
            found = re.search(rf"^\[{section}\]\s*$(.*?)(?=^\[|\Z)", told, re.M | re.S)
            if found is None:
                told += f"\n[{section}]\nmethod=manual\naddress1={address}\n"
                continue
            body = re.sub(r"^method=(?:disabled|ignore|link-local)$", "method=manual", found[1], flags=re.M)
            number = _free(body, r"^address(?:es)?(\d+)=", 1)
            body = f"{body.rstrip()}\naddress{number}={address}\n"
            rest = told[found.end(1) :]
            told = told[: found.start(1)] + body + (f"\n{rest}" if rest else "")
        return path, told
    return None


WRITERS: Final[dict[str, Callable[[Mapping[str, str], Interface, list[str]], Written]]] = {
    "ifupdown": ifupdown,
    "netplan": netplan,
    "networkmanager": networkmanager,
    "ifcfg": ifcfg,
    "networkd": networkd,
    "wicked": wicked,
}


def _is_ifcfg_of(path: str, text: str, nic: Interface) -> bool:
    device = re.search(r"^DEVICE=[\"']?([^\"'\s]+)", text, re.M)
    mac = re.search(r"^HWADDR=[\"']?([0-9A-Fa-f:]+)", text, re.M)
    if device is None and mac is None:
        return path.endswith(f"/ifcfg-{nic.name}")
    return (device is not None and device[1] == nic.name) or (mac is not None and mac[1].lower() == nic.mac)


def _free(text: str, pattern: str, least: int) -> int:
    return max((int(number) + 1 for number in re.findall(pattern, text, re.M)), default=least)


def _is_6(address: str) -> bool:
    return ":" in address


def _ended(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"


def _or(names: Mapping[str, Interface]) -> str:
    return " or ".join(names) or "one that it has"

"""The network: which card of the target takes over from which of the source, and the files that say so."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from livelift.adapt.changes import DeleteFile, WriteFile
from livelift.adapt.linux import service_addresses
from livelift.adapt.linux.case import Case
from livelift.adapt.linux.trees import Tree, encode
from livelift.model.facts import Interface, ServerFacts

FILES = {
    "ifupdown": ("etc/network/interfaces", "etc/network/interfaces.d/*"),
    "netplan": ("etc/netplan/*.yaml",),
    "networkmanager": ("etc/NetworkManager/system-connections/*",),
    "ifcfg": (
        "etc/sysconfig/network-scripts/ifcfg-*",
        "etc/sysconfig/network-scripts/route*-*",
        "etc/sysconfig/network-scripts/rule*-*",
    ),
    "networkd": ("etc/systemd/network/*.network", "etc/systemd/network/*.netdev"),
    "wicked": (
        "etc/sysconfig/network/ifcfg-*",
        "etc/sysconfig/network/ifroute-*",
        "etc/sysconfig/network/routes",
    ),
}
LOOPBACK = re.compile(r"/ifcfg-lo$")
NAMING = (
    "etc/udev/rules.d/*persistent-net.rules",
    "etc/udev/rules.d/*persistent-cd.rules",
    "etc/udev/rules.d/*eno-fix.rules",
    "etc/udev/rules.d/*-net-names.rules",
    "etc/systemd/network/*.link",
)
"""Rules that name cards by their addresses."""


def adapt(case: Case) -> None:
    naming(case)
    if case.policy.network == "take-source":
        take_source(case)
    else:
        keep_target(case)


def naming(case: Case) -> None:
    """By MAC address or slot of the source's cards: the target's rules instead, so that its names stay."""
    theirs = {path for pattern in NAMING for path in case.new.matching(pattern)}
    for path in sorted({path for pattern in NAMING for path in case.old.matching(pattern)} - theirs):
        case.delete("network-names", path, "it names the source's cards")
    for path in sorted(theirs):
        case.copy("network-names", path, "the names of the target's cards")


def config_files(case: Case, new: bool = False) -> list[str]:
    return [path for paths in by_stack(case.new if new else case.old).values() for path in paths]


def by_stack(tree: Tree) -> dict[str, tuple[str, ...]]:
    return {
        stack: tuple(
            path
            for pattern in patterns
            for path in tree.matching(pattern)
            if not LOOPBACK.search(path) and tree.items[path].kind != "dir"
        )
        for stack, patterns in FILES.items()
    }


def keep_target(case: Case) -> None:
    """The target's configuration whole: its addresses stay, and with them the operator's way to it."""
    needed = case.target.network_stacks
    missing = [stack for stack in needed if stack not in case.source.network_stacks]
    if missing and case.source.network_stacks:
        case.draft.warn(
            "network-stack-differs",
            f"the target's network is configured by {', '.join(needed)}, the source's by"
            f" {', '.join(case.source.network_stacks)}: the moved system may not read the target's files",
            "install the same network service on the source, or use take-source",
        )
    theirs = config_files(case, new=True)
    if not theirs:
        case.draft.inhibit(
            "network-files", "no network configuration was found on the target", "use take-source, or configure it"
        )
        return
    served = service_addresses.texts(case, by_stack(case.new))
    for path in config_files(case):
        if path not in (*theirs, *served):
            case.delete("network", path, "the source's addresses are not taken (keep-target)")
    for path in theirs:
        if path not in served:
            case.copy("network", path, "the target keeps its addresses (keep-target)")
    moved = ", ".join(case.policy.addresses)
    for path, text in served.items():
        mode = case.new.items[path].mode if case.new.has(path) else 0o600
        case.draft.edit(
            f"network/{path}",
            f"the target keeps its addresses (keep-target), and beside them {moved} moves to it",
            WriteFile(path, encode(text), mode),
            inputs=(f"target:{path}", "map file: addresses"),
            before=case.new.lines(path),
        )


def take_source(case: Case) -> None:
    """The source's files with the names and addresses of the target's cards in the place of its own."""
    pairs = pair_cards(case)
    names: dict[str, str] = {}
    for old, new in pairs:
        names[old.name] = new.name
        if old.mac and new.mac:
            names[old.mac] = new.mac
    used = [nic for nic in case.source.interfaces if nic.kind == "physical" and (nic.addresses or nic.master)]
    for nic in used:
        if nic.name not in names:
            case.draft.inhibit(
                "network-card",
                f"no card of the target takes over from {nic.name} ({', '.join(nic.addresses)})",
                "name one in the map file under [interfaces], or use keep-target",
            )
    ours = config_files(case)
    for path in config_files(case, new=True):
        if path not in ours and path not in {_renamed(p, names) for p in ours}:
            case.draft.note("network-target-file", f"/{path} of the target is not taken (take-source)")
    for path in ours:
        _rewrite(case, path, names, pairs)


def _rewrite(case: Case, path: str, names: dict[str, str], pairs: list[tuple[Interface, Interface]]) -> None:
    text, place = case.old.text(path), _renamed(path, names)
    if path not in case.old.contents:
        secret = "its content may hold secrets and was not read"
        case.draft.warn(
            "network-by-hand",
            f"/{path} is kept as it is: {secret}",
            f"make sure that it names {', '.join(new.name for _, new in pairs)} (nmcli connection modify)",
        )
        return
    for old, _ in pairs:
        if old.driver and re.search(rf"\b{re.escape(old.driver)}\b", text):
            case.draft.warn("network-driver", f"/{path} matches by the driver {old.driver}", "match by name or address")
    changed = replace_names(text, names)
    shown = " and ".join(f"{old.name} becomes {new.name}" for old, new in pairs) or "no card is paired"
    reason = f"the source's addresses on the target's cards (take-source): {shown}"
    if place != path:
        mode = case.old.items[path].mode
        case.draft.edit(
            f"network/{place}", reason, WriteFile(place, encode(changed), mode), inputs=(f"source:{path}",),
            before=case.old.lines(path),
        )  # fmt: skip
        if path not in {_renamed(p, names) for p in config_files(case)}:
            case.draft.edit(
                f"network/gone/{path}",
                reason,
                DeleteFile(path),
                inputs=(f"source:{path}",),
                before=case.old.lines(path),
            )
    else:
        case.write("network", path, changed, reason, (f"source:{path}", "facts: interfaces"))


def replace_names(text: str, names: dict[str, str]) -> str:
    """All at once, so that two names can change places. Whole words only; ens3.7 and ens3:0 are made from ens3."""
    if not names:
        return text
    choice = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    lower = {name.lower(): value for name, value in names.items()}
    return re.sub(rf"(?<![\w.:-])(?:{choice})(?![\w-])", lambda m: _cased(m[0], lower), text, flags=re.I)


def _cased(found: str, names: dict[str, str]) -> str:
    """MAC addresses in the case that the file has; names of cards are not told from others by case alone."""
    value = names[found.lower()]
    return value.upper() if ":" in found and found.upper() == found else value


def _renamed(path: str, names: dict[str, str]) -> str:
    directory, _, file = path.rpartition("/")
    for old, new in names.items():
        if ":" not in old and (match := re.fullmatch(rf"(.*?[-_.])?{re.escape(old)}((?:[.:]\w+)*)", file)):
            return f"{directory}/{match[1] or ''}{new}{match[2]}"
    return path


def pair_cards(case: Case) -> list[tuple[Interface, Interface]]:
    """First by the operator's word, then cards in one network, then the ones with the default route, then in order."""
    ours = [nic for nic in case.source.interfaces if nic.kind == "physical" and (nic.addresses or nic.master)]
    theirs = [nic for nic in case.target.interfaces if nic.kind == "physical"]
    pairs: list[tuple[Interface, Interface]] = []
    for name, other in case.policy.interfaces.items():
        old = next((nic for nic in case.source.interfaces if nic.name == name), None)
        new = next((nic for nic in theirs if nic.name == other), None)
        if old is None or new is None:
            case.draft.inhibit(
                "network-map", f"the map file pairs {name} with {other}, but there is no such card", "correct it"
            )
        else:
            pairs.append((old, new))
    ways: tuple[Callable[[Interface, Interface], bool], ...] = (
        lambda old, new: bool(networks(old) & networks(new)),
        lambda old, new: _default(case.source, old) and _default(case.target, new),
        lambda old, new: True,
    )
    for fits in ways:
        for old in ours:
            free = [n for n in theirs if n not in [b for _, b in pairs]]
            if old not in [a for a, _ in pairs] and (new := next((n for n in free if fits(old, n)), None)):
                pairs.append((old, new))
    return pairs


def networks(nic: Interface) -> set[str]:
    return {str(ipaddress.ip_interface(address).network) for address in nic.addresses}


def _default(facts: ServerFacts, nic: Interface) -> bool:
    return any(r.destination == "default" and r.interface == nic.name for r in facts.routes)

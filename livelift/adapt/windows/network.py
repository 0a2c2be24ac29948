"""Network: adapters and bindings from the target, addresses from the source, interface by interface."""

from __future__ import annotations

from collections.abc import Iterator

from livelift.adapt.windows.adapters import NET_CLASS, TCPIP, Adapter, adapters, interface, static_addresses
from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.system import System, value_of
from livelift.registry.tree import Key, Value, fold
from livelift.registry.values import text_of

TREES = (
    "Control\\Network",
    "Control\\NetworkSetup2",
    "Control\\Nsi",
    TCPIP,
    "Services\\Tcpip\\Parameters\\Adapters",
    "Services\\Tcpip\\Parameters\\DNSRegisteredAdapters",
    "Services\\Tcpip6\\Parameters\\Interfaces",
    "Services\\NetBT\\Parameters\\Interfaces",
)
SETTINGS = {
    TCPIP + "\\{}": (
        *("EnableDHCP", "IPAddress", "SubnetMask", "DefaultGateway", "DefaultGatewayMetric", "InterfaceMetric"),
        *("NameServer", "Domain", "RegistrationEnabled", "RegisterAdapterName", "MTU", "TcpAckFrequency", "TCPNoDelay"),
    ),
    "Services\\Tcpip6\\Parameters\\Interfaces\\{}": ("EnableDHCP", "NameServer", "Domain", "MTU"),
    "Services\\NetBT\\Parameters\\Interfaces\\Tcpip_{}": ("NameServerList", "NetbiosOptions"),
}
"""What an administrator sets, by the key of an interface. Leases (Dhcp...) belong to the adapter that got them."""
IPV6_ADDRESSES = "Control\\Nsi\\{eb004a01-9b1a-11d4-9123-0050047759bc}\\10"
"""Persistent IPv6 addresses, binary and keyed by the adapter's LUID (general knowledge)."""


def plan(bench: Bench) -> None:
    pairs = mapped(bench)
    reason = "adapters and their bindings are the target's"
    for path in TREES:
        name = path.replace("\\", "/").lower().removeprefix("control/").removeprefix("services/")
        if not bench.graft_control(f"network/{name}", reason, path):
            bench.remove_key(f"network/{name}", f"{reason}; it has none", f"{bench.set}\\{path}")
    _linkage(bench)
    _services(bench)
    for ours, theirs in pairs:
        _addresses(bench, ours, theirs)
        _name(bench, ours, theirs)
    _own_addresses(bench, {theirs.guid for _, theirs in pairs})
    _lost(bench)


def _own_addresses(bench: Bench, taken: set[str]) -> None:
    for adapter in adapters(bench.target):
        addresses = static_addresses(interface(bench.target, adapter.guid))
        if addresses and adapter.guid not in taken:
            bench.draft.warn(
                "nic-keeps-target-address",
                f"{adapter.name} ({adapter.description}) gets no addresses of the source and keeps "
                f"{', '.join(addresses)}",
                "map an adapter of the source to it with --nic, or change it after the first boot",
            )


def mapped(bench: Bench) -> list[tuple[Adapter, Adapter]]:
    """(source, target) as the operator says; one physical adapter on each side needs no saying. Everything else that
    has static addresses is an inhibitor."""
    ours, theirs = list(adapters(bench.source)), list(adapters(bench.target))
    pairs: list[tuple[Adapter, Adapter]] = []
    left = list(ours)
    for name, to in bench.choices.nics.items():
        one = [adapter for adapter in ours if adapter.is_called(name)]
        two = [adapter for adapter in theirs if to is not None and adapter.is_called(to)]
        if len(one) != 1 or (to is not None and len(two) != 1):
            bench.draft.inhibit(
                "nic-unknown",
                f"--nic {name}={to or 'none'}: not exactly one adapter of that name or GUID on each side",
                f"source: {_names(ours)}; target: {_names(theirs)}",
            )
            continue
        left.remove(one[0])
        pairs += [(one[0], two[0])] if two else []
    if not bench.choices.nics:
        physical = [[a for a in side if a.physical] for side in (ours, theirs)]
        if [len(side) for side in physical] == [1, 1]:
            pairs.append((physical[0][0], physical[1][0]))
            left.remove(physical[0][0])
    for adapter in left:
        addresses = static_addresses(interface(bench.source, adapter.guid))
        if addresses:
            bench.draft.inhibit(
                f"nic-unmapped-{adapter.name.lower()}",
                f"{adapter.name} ({adapter.description}) of the source has {', '.join(addresses)}: to which adapter of "
                "the target "
                "they go is not told",
                f"--nic '{adapter.name}=NAME' or =none; the target has {_names([a for a in theirs if a.physical])}",
            )
        elif adapter.physical:
            bench.draft.note(
                "nic-not-mapped", f"{adapter.name} ({adapter.description}) of the source has no static address"
            )
    if len({theirs.guid for _, theirs in pairs}) != len(pairs):
        bench.draft.inhibit("nic-twice", "two adapters of the source go to the same one of the target", "map each once")
    return pairs


def _names(found: list[Adapter]) -> str:
    return ", ".join(f"{adapter.name} {adapter.guid}" for adapter in found) or "none"


def _addresses(bench: Bench, ours: Adapter, theirs: Adapter) -> None:
    for template, names in SETTINGS.items():
        mine = bench.source.control(template.format(ours.guid))
        path = f"{bench.set}\\{template.format(theirs.guid)}"
        here = bench.control(template.format(theirs.guid))
        if mine is None and here is None:
            continue
        service = template.split("\\")[1].lower()
        reason = f"{ours.name} of the source is {theirs.name} ({theirs.description}) of the target"
        for name in names:
            value: Value | None = mine.value(name) if mine is not None else None
            id = f"network/{_label(ours)}/{service}/{name.lower()}"
            if value is not None:
                bench.set_value(id, reason, path, value.name, value.type, value.data)
            else:
                bench.remove_value(id, f"{reason}; the source has no such setting", path, name)


def _label(adapter: Adapter) -> str:
    """Two connections may have lost their names, or have the same one."""
    return f"{adapter.name} {adapter.guid}".strip().lower()


def _name(bench: Bench, ours: Adapter, theirs: Adapter) -> None:
    """Scripts and firewall rules know the connection by its name."""
    if not ours.name or fold(ours.name) == fold(theirs.name):
        return
    if any(fold(other.name) == fold(ours.name) for other in adapters(bench.target)):
        bench.draft.warn(
            "nic-name-taken", f"the target has another connection named {ours.name}: {theirs.name} keeps its name"
        )
        return
    path = f"{bench.set}\\Control\\Network\\{NET_CLASS}\\{theirs.guid}\\Connection"
    bench.set_text(
        f"network/{_label(ours)}/name", "scripts and firewall rules know it by this name", path, "Name", ours.name
    )


def _linkage(bench: Bench) -> None:
    """Bindings of the network services name adapters by GUID."""
    for service in bench.target.control("Services") or ():
        theirs = service.get("Linkage")
        mine = bench.control(f"Services\\{service.name}")
        if theirs is not None and theirs.value("Bind") is not None and mine is not None:
            id = f"network/linkage/{service.name.lower()}"
            bench.graft_control(id, "its bindings name the target's adapters", f"Services\\{service.name}\\Linkage")


def _services(bench: Bench) -> None:
    """A protocol or filter that only the target has stays bound to its adapters, so its service must be there."""
    for component, name in component_services(bench.target):
        theirs = bench.target.control(f"Services\\{name}")
        if theirs is None or bench.control(f"Services\\{name}") is not None:
            continue
        reason = (
            f"the target's network component {component} needs it: a mandatory filter without driver stops the adapter"
        )
        path = f"{bench.control_key('Services').name}\\{name}"
        bench.graft(
            f"network/service/{name.lower()}", reason, f"{bench.set}\\{path}", f"{bench.other}\\Services\\{name}"
        )
        bench.draft.warn(
            "network-component-added",
            f"{component} of the target is bound to its adapters and stays: its service {name} comes along",
            "uninstall it on the target first if it is not wanted",
        )


def component_services(machine: System) -> Iterator[tuple[str, str]]:
    """(ComponentId, service) of the protocols, filters, clients and services that are installed."""
    for group in machine.control("Control\\Network") or ():
        for component in group:
            name = value_of(component.get("Ndi"), "Service")
            if name:
                yield text_of(component.value("ComponentId")) or component.name, name


def _lost(bench: Bench) -> None:
    lost = sorted(_components(bench.source) - _components(bench.target))
    if lost:
        bench.draft.warn(
            "network-components-lost",
            f"protocols, filters and clients that only the source has are not bound: {', '.join(lost)}",
            "install them again on the target (antivirus and backup filters, virtual switches, teams)",
        )
    key = bench.source.control(IPV6_ADDRESSES)
    if key is not None and key.value_count:
        bench.draft.warn(
            "ipv6-static",
            f"the source has {key.value_count} persistent IPv6 addresses; they are bound to its adapters and are not "
            "moved",
            "set them after the first boot: netsh interface ipv6 add address",
        )


def _components(machine: System) -> set[str]:
    """ComponentId of everything but adapters."""
    found = set()
    for group in machine.control("Control\\Network") or Key(""):
        for component in group:
            found.add(text_of(component.value("ComponentId")).lower())
    return found - {""}


RULE = Rule(
    id="network",
    touches=r"CSn\Control\Network, NetworkSetup2, Nsi; Services\Tcpip, Tcpip6, NetBT: Interfaces, Adapters; "
    r"Services\*\Linkage",
    does="The target's trees; the settings of each mapped interface (addresses, gateways, name servers, names, "
    "metrics) from the source, value by value.",
    why="Adapter GUIDs are made at installation: the source's addresses under its GUIDs would be bound to nothing.",
    evidence="GUIDs of two real machines differ (measured); coriolis reads the same keys and applies them at first "
    "boot (read).",
    plan=plan,
)

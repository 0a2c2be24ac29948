"""Network adapters of a machine: GUIDs, connection names, and what addresses each has."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from livelift.adapt.windows.system import System, value_of
from livelift.registry.tree import Key, fold
from livelift.registry.values import list_of, number_of, text_of

NET_CLASS = "{4D36E972-E325-11CE-BFC1-08002BE10318}"
PHYSICAL = 0x4
"""NCF_PHYSICAL of Characteristics (learn.microsoft.com, "DDInstall Section in a Network INF File")."""
TCPIP = "Services\\Tcpip\\Parameters\\Interfaces"


class Adapter(msgspec.Struct, frozen=True):
    """``guid``: NetCfgInstanceId. ``name``: of the connection, as the operator knows it ("Ethernet0")."""

    guid: str
    name: str
    description: str
    physical: bool

    def is_called(self, text: str) -> bool:
        return fold(text) in (fold(self.guid), fold(self.name))


def adapters(machine: System) -> Iterator[Adapter]:
    """Installed adapters that have a connection. Also those whose hardware was taken out without uninstalling it: a
    hive does not tell which devices are present."""
    for instance in machine.control(f"Control\\Class\\{NET_CLASS}") or ():
        guid = text_of(instance.value("NetCfgInstanceId"))
        connection = machine.control(f"Control\\Network\\{NET_CLASS}\\{guid}\\Connection") if guid else None
        if connection is not None:
            physical = bool(max(number_of(instance.value("Characteristics"), 0), 0) & PHYSICAL)
            yield Adapter(guid, value_of(connection, "Name"), text_of(instance.value("DriverDesc")), physical)


def interface(machine: System, guid: str) -> Key | None:
    return machine.control(f"{TCPIP}\\{guid}")


def static_addresses(key: Key | None) -> list[str]:
    """IPv4 addresses that are not from DHCP."""
    if key is None or number_of(key.value("EnableDHCP"), 1) != 0:
        return []
    return [address for address in list_of(key.value("IPAddress")) if address != "0.0.0.0"]

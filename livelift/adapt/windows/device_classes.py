"""What is keyed by device instances and hardware profiles: the target's."""

from __future__ import annotations

from livelift.adapt.windows.bench import Bench, Rule

BY_DEVICE = (
    "Control\\DeviceClasses",
    "Control\\DeviceContainers",
    "Control\\DevicePanels",
    "Control\\DeviceContainerPropertyUpdateEvents",
)
BY_NAME = "Control\\Video"
"""Settings of display adapters, under the GUID that VideoID of a device names."""
BY_MACHINE = ("Control\\PnP", "Control\\IDConfigDB", "Hardware Profiles")


def plan(bench: Bench) -> None:
    reason = "its entries name device instances, and those are the target's"
    for path in BY_DEVICE:
        id = f"device-classes/{path.rpartition(chr(92))[2].lower()}"
        if not bench.graft_control(id, reason, path):
            bench.remove_key(id, f"{reason}; the target has none", f"{bench.set}\\{path}")
    for adapter in bench.target.control(BY_NAME) or ():
        if bench.control(f"{BY_NAME}\\{adapter.name}") is None:
            id = f"device-classes/video/{adapter.name.lower()}"
            bench.graft_control(id, "a display adapter of the target names it", f"{BY_NAME}\\{adapter.name}")
    for path in BY_MACHINE:
        id = f"device-classes/{path.rpartition(chr(92))[2].lower().replace(' ', '-')}"
        if not bench.graft_control(id, "it describes the target's hardware profile", path):
            bench.draft.warn("hardware-profile-missing", f"the target has no {path}: the source's stays")


RULE = Rule(
    id="device-classes",
    touches=r"CSn\Control\DeviceClasses, DeviceContainers, DevicePanels, DeviceContainerPropertyUpdateEvents, PnP, "
    "IDConfigDB; "
    r"CSn\Hardware Profiles",
    does="The target's trees; those of devices are removed where the target has none.",
    why="Interfaces of devices that do not exist make drivers and services wait or fail.",
    evidence="DeviceContainers from 8.1, DevicePanels from 10 1903 (hives, measured); the rule itself is general "
    "knowledge.",
    plan=plan,
)

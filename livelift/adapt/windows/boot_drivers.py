"""Boot drivers and guest agents that only the source has: what belongs to its hardware or hypervisor does not start."""

from __future__ import annotations

from fnmatch import fnmatchcase

from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.devices import SOFTWARE_BUSES, leaves
from livelift.adapt.windows.images import image_path, is_driver
from livelift.adapt.windows.system import System
from livelift.registry.tree import Key, fold
from livelift.registry.values import list_of, number_of, text_of

DISABLED = 4
HARDWARE = (
    "prl_*", "rhelscsi", "xen*", "vmci", "vsock", "pvscsi", "vmxnet*", "vm3dmp*", "vmmouse", "vmusbmouse", "vmhgfs",
    "vmrawdsk", "vboxguest", "vboxsf", "vboxmouse", "vboxvideo", "vboxwddm", "viostor", "vioscsi", "netkvm", "balloon",
    "vioser", "viorng", "viofs", "pvpanic", "qxl*", "ena", "awsnvme", "gvnic*", "gve",
)  # fmt: skip
"""Drivers of a hypervisor's devices: Parallels, Red Hat/Xen, VMware, VirtualBox, KVM/virtio, Amazon, Google."""
AGENTS = (
    "vmtools", "vmware physical disk helper service", "vgauthservice", "vm3dservice", "vmvss", "vmmemctl",
    "vboxservice", "xenservice", "xenagent", "xensvc", "xeniface", "prl_tools*", "coherence*", "qemu-ga",
    "qemu guest agent vss provider", "balloonservice", "rhevagent", "ovirt-guest-agent", "spice-agent", "vdservice",
    "amazonssmagent", "awsliteagent", "gceagent",
)  # fmt: skip
"""User services of guest agents."""


def plan(bench: Bench) -> None:
    hardware = hardware_services(bench.source)
    for service in list(bench.control_key("Services")):
        name = fold(service.name)
        if bench.target.control(f"Services\\{service.name}") is not None:
            continue
        if is_driver(service):
            _driver(bench, service, name in hardware)
        elif not bench.choices.same_hypervisor and any(fnmatchcase(name, fold(pattern)) for pattern in AGENTS):
            _off(
                bench,
                service,
                "the agent of the source's hypervisor: it does not run on the target, its uninstaller still works",
            )


def _driver(bench: Bench, service: Key, hardware: bool) -> None:
    start = number_of(service.value("Start"), DISABLED)
    if start == DISABLED:
        return
    listed = any(fnmatchcase(fold(service.name), fold(pattern)) for pattern in HARDWARE)
    if listed and not bench.choices.same_hypervisor:
        _off(
            bench,
            service,
            "a driver of the source's hypervisor; disabled rather than removed, so that its uninstaller still works",
        )
        return
    if start != 0:
        return
    override = service.get("StartOverride")
    if override is not None and number_of(override.value("0"), 0) >= 3:
        return
    path = image_path(service.name, service)
    if path is not None and bench.source.files.get(path) is None and bench.source.files.knows(path):
        _off(bench, service, f"a boot driver whose file {path} the source does not have either: it would stop the boot")
    elif hardware and _third_party(service):
        _off(bench, service, "a boot driver of a device of the source's hardware, from a vendor's package")
    else:
        bench.draft.warn(
            "source-boot-driver-kept",
            f"{service.name} ({path or 'no known file'}) starts at boot and is not on the target",
            f"if it belongs to the source's hardware, disable it: it is Services\\{service.name}, Start = 4",
        )


def _off(bench: Bench, service: Key, reason: str) -> None:
    path = f"{bench.set}\\{bench.control_key('Services').name}\\{service.name}"
    bench.set_number(f"boot-drivers/{service.name.lower()}", reason, path, "Start", DISABLED)
    bench.disabled.add(fold(service.name))


def hardware_services(machine: System) -> set[str]:
    """Folded names of the services of devices on a hardware bus."""
    found = set()
    for path, device in leaves(machine.control("Enum")):
        if fold(path).partition("\\")[0] not in (*SOFTWARE_BUSES, "STORAGE"):
            found.add(fold(text_of(device.value("Service"))))
            found.update(
                fold(name) for value in ("UpperFilters", "LowerFilters") for name in list_of(device.value(value))
            )
    return found - {""}


def _third_party(service: Key) -> bool:
    """Installed from an oemN.inf (Owners, from Windows 8 on), or from nothing that is known (Windows 7)."""
    owners = [name for name in list_of(service.value("Owners")) if not name.startswith("!")]
    return all(fold(name).startswith("OEM") for name in owners)


RULE = Rule(
    id="boot-drivers",
    touches=r"CSn\Services\<source only>: Start",
    does="Start = 4 for drivers and agents of the source's hypervisor, for boot drivers of its hardware from vendor "
    "packages and for boot "
    "drivers without a file. Other boot drivers that only the source has (antivirus, backup, volume filters) stay and "
    "are told.",
    why="A driver of absent hardware or a boot driver without its file can stop the boot; a filter that is part of the "
    "workload must stay.",
    evidence="virt-v2v sets Start = 4 rather than deleting (source read); one real pair had three such drivers "
    "(measured).",
    plan=plan,
)

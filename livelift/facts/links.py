"""From a device to the root of its bus: which drivers are needed to reach it (sysfs)."""

from __future__ import annotations

from collections.abc import Iterable

from livelift.facts.host import Host
from livelift.model.facts import Link


def links_of(host: Host, path: str) -> tuple[Link, ...]:
    """``path``: a device's directory in /sys. Nearest first; devices without a modalias and a driver are left out."""
    here = host.real(path)
    found = []
    while here.startswith("/sys/devices/"):
        modalias = host.line(f"{here}/modalias")
        driver = host.real(f"{here}/driver")
        module = host.real(f"{here}/driver/module")
        if modalias or driver:
            found.append(Link(modalias=modalias, driver=driver.rpartition("/")[2], module=module.rpartition("/")[2]))
        here = here.rpartition("/")[0]
    return tuple(found)


def disk_links(host: Host, names: Iterable[str]) -> tuple[Link, ...]:
    """Of several block devices by kernel name; each step once. A partition's way leads over its disk."""
    found: dict[Link, None] = {}
    for name in names:
        found.update(dict.fromkeys(links_of(host, f"/sys/class/block/{name}")))
    return tuple(found)


def loaded_modules(text: str) -> tuple[str, ...]:
    """/proc/modules: the first word of each line."""
    return tuple(sorted(line.split()[0] for line in text.splitlines() if line.strip()))

"""Drivers that the stage loads itself: of the disks and file systems that the target's initramfs does not mount, and of
its hardware watchdog. As files, unpacked, in the order in which they have to be loaded."""

from __future__ import annotations

import gzip
import lzma
import os
import re
from collections.abc import Iterable

import zstandard

from livelift.adapt.linux.initramfs import STACK_MODULES, module_names, plain
from livelift.errors import PreflightError
from livelift.facts.host import Host
from livelift.facts.links import disk_links, links_of
from livelift.model.facts import ServerFacts
from livelift.takeover.closure import File
from livelift.takeover.stage_main import HOME

NO_HARDWARE = {"watchdog", "softdog"}
"""In the directory of the drivers: what they share, and one that ends with the kernel that hangs."""


def wanted(host: Host, facts: ServerFacts, mountpoints: Iterable[str]) -> list[str]:
    """Names of modules, of the target as it runs: for the file systems besides the root, without what that needs
    itself."""
    found: dict[str, None] = {}
    root = {device.name for device in facts.root_stack()}
    place = facts.mounted("/")
    there = {plain(link.module) for link in facts.root_links} | ({place.fstype} if place else set())
    for mountpoint in mountpoints:
        system = facts.mounted(mountpoint)
        if system is None or mountpoint == "/":
            continue
        stack = [device for device in facts.stack(system.device) if device.name not in root]
        for link in reversed(disk_links(host, [device.name for device in stack])):
            if link.module:
                found[plain(link.module)] = None
        for device in reversed(stack):
            name = STACK_MODULES.get(device.kind, device.kind if device.kind.startswith("raid") else "")
            if name:
                found[name] = None
        found[system.fstype] = None
    found.update(dict.fromkeys(watchdogs(host, facts.running_kernel)))
    return [name for name in found if name not in there]


def watchdogs(host: Host, version: str) -> list[str]:
    """Modules of the hardware watchdog. Some drivers name no device (i6300esb of Linux 6.1): then all that are loaded,
    the oldest first, so that the same one becomes the first again."""
    if not host.exists("/sys/class/watchdog/watchdog0"):
        return []
    for link in links_of(host, "/sys/class/watchdog/watchdog0/device")[:1]:
        if link.module:
            return [plain(link.module)]
    dep = host.text(f"/lib/modules/{version}/modules.dep")
    drivers = module_names("".join(line for line in dep.splitlines(True) if "/drivers/watchdog/" in line.split(":")[0]))
    loaded = [plain(line.split()[0]) for line in host.text("/proc/modules").splitlines() if line.strip()]
    return [name for name in reversed(loaded) if name in drivers - NO_HARDWARE]


def module_files(host: Host, version: str, names: Iterable[str]) -> list[File]:
    """With everything that they need. PreflightError: modprobe(8) cannot say, or a file is missing."""
    paths: dict[str, None] = {}
    for name in names:
        told = host.try_run("modprobe", "--show-depends", f"--set-version={version}", name)
        if told is None:
            raise PreflightError(
                f"modprobe does not know {name} of the running kernel {version}",
                remedy="are the kernel's modules still there? Boot the newest kernel of the target once",
            )
        paths.update(dict.fromkeys(re.findall(r"^insmod (\S+)", told, re.M)))
    found = []
    for number, path in enumerate(paths):
        name = re.sub(r"\.(gz|xz|zst)$", "", os.path.basename(path))
        found.append(File(f"{HOME}/modules/{number:03}-{name}", _unpacked(host, path)))
    return found


def _unpacked(host: Host, path: str) -> bytes:
    raw = host.bytes(path, 1 << 28)
    if not raw:
        raise PreflightError(f"{path} cannot be read", remedy="reinstall the kernel package of the target")
    if path.endswith(".gz"):
        return gzip.decompress(raw)
    if path.endswith(".xz"):
        return lzma.decompress(raw)
    if path.endswith(".zst"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    return raw

"""All facts of one machine, from its files and as few programs as possible: lsblk, ip, systemctl."""

from __future__ import annotations

import os
import re

import msgspec

from livelift.adapt.linux.tables import fstab_entries
from livelift.facts import blocks, bootloader, links, network, system
from livelift.facts.host import Host
from livelift.model.facts import ServerFacts


def collect(host: Host) -> ServerFacts:
    """Changes nothing on the machine. What could not be read is told in ``unread``, never guessed."""
    devices = blocks.devices(host)
    file_systems = blocks.file_systems(host, devices)
    architecture, glibc = system.libc(host)
    facts = ServerFacts(
        hostname=host.line("/etc/hostname") or (os.uname().nodename if host.live else ""),
        machine_id=host.line("/etc/machine-id"),
        architecture=architecture or (os.uname().machine if host.live else ""),
        glibc=glibc,
        release=system.release(host),
        running_kernel=host.line("/proc/sys/kernel/osrelease"),
        command_line=host.line("/proc/cmdline"),
        kernels=system.kernels(host),
        firmware=system.firmware(host),
        boot_loader=bootloader.boot_loader(host, devices),
        devices=devices,
        file_systems=file_systems,
        fstab=fstab_entries(host.text("/etc/fstab")),
        swaps=blocks.parse_swaps(host.text("/proc/swaps")),
        interfaces=network.interfaces(host),
        routes=network.routes(host),
        network_stacks=network.stacks(host),
        modules=links.loaded_modules(host.text("/proc/modules")),
        security=system.security(host),
        cloud_init=system.cloud_init(host),
        services=system.services(host),
        packages=system.packages(host),
        listening=system.listening(host),
        memory=_memory(host.text("/proc/meminfo")),
        hypervisor=system.hypervisor(host),
        clock=system.clock(host),
    )
    root = facts.mounted("/")
    disks = [device.name for device in facts.root_stack()] or ([root.device] if root else [])  # without lsblk
    return msgspec.structs.replace(
        facts, root_links=links.disk_links(host, disks), unread=tuple(dict.fromkeys(host.unread))
    )


def from_files(facts: ServerFacts, host: Host) -> ServerFacts:
    """The facts of a machine with what the files of its system say by now: ``host`` is a replica of it, which is newer
    than what was collected there."""
    architecture, glibc = system.libc(host)
    return msgspec.structs.replace(
        facts,
        hostname=host.line("/etc/hostname") or facts.hostname,
        machine_id=host.line("/etc/machine-id") or facts.machine_id,
        architecture=architecture or facts.architecture,
        glibc=glibc or facts.glibc,
        release=system.release(host),
        kernels=system.kernels(host),
        fstab=fstab_entries(host.text("/etc/fstab")),
        network_stacks=network.stacks(host),
        packages=system.packages(host),
    )


def _memory(text: str) -> int:
    match = re.search(r"^MemTotal:\s+(\d+) kB", text, re.M)
    return int(match[1]) << 10 if match else 0

"""The machines: hardware and disk layout of each. Nothing that a source has, a target has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True)
class Profile:
    """``layout``: partitions in order, as (role, MiB), 0 = the rest; roles are root, swap, bios (GRUB's partition on
    GPT), esp, var. ``interfaces``: the names that systemd gives them (management, link)."""

    name: str
    machine: str
    cpu: str
    disk: str  # ahci, virtio-blk or nvme
    device: str  # what the guest calls that disk
    nic: str
    interfaces: tuple[str, str]
    mac: str  # of the management; the link's is the next one
    address: str  # on the link
    size: int  # of the disk, MiB
    layout: tuple[tuple[str, int], ...]
    uefi: bool = False
    lvm: bool = False  # the root's partition is a physical volume, the root a logical one
    watchdog: bool = False  # an i6300esb that resets the machine
    serves: bool = False  # PostgreSQL and nginx start with it
    memory: int = 1536  # MiB

    @property
    def role(self) -> str:
        """The host name, and which end of the link it has."""
        return self.name.partition("-")[0]

    @property
    def packages(self) -> tuple[str, ...]:
        """What this one needs beside what all have."""
        return (*(("grub-efi-amd64", "dosfstools") if self.uefi else ("grub-pc",)), *(("lvm2",) if self.lvm else ()))

    @property
    def gpt(self) -> bool:
        return any(role in ("bios", "esp") for role, _ in self.layout)

    def number(self, role: str) -> int | None:
        """Of the partition; None: it has none."""
        roles = [name for name, _ in self.layout]
        return roles.index(role) + 1 if role in roles else None

    def partition(self, role: str) -> str:
        """As the guest calls it, or an empty string."""
        number = self.number(role)
        return "" if number is None else f"{self.device}{'p' if self.device[-1].isdigit() else ''}{number}"


_SOURCE: Final = Profile(
    "source", "pc", "Nehalem", "ahci", "/dev/sda", "e1000", ("ens3", "ens4"), "52:54:00:aa:00:01", "192.168.77.1",
    8192, (("root", 7168), ("swap", 0)), serves=True,
)  # fmt: skip
_TARGET: Final = Profile(
    "target", "q35", "Westmere", "virtio-blk", "/dev/vda", "virtio-net-pci", ("enp0s3", "enp0s4"), "52:54:00:bb:00:01",
    "192.168.77.2", 12288, (("bios", 1), ("swap", 512), ("root", 0)), watchdog=True,
)  # fmt: skip

PROFILES: Final = {
    profile.name: profile
    for profile in (
        _SOURCE,
        replace(_SOURCE, name="source-lvm", lvm=True),
        _TARGET,
        replace(
            _TARGET, name="target-uefi", disk="nvme", device="/dev/nvme0n1", nic="e1000e", mac="52:54:00:cc:00:01",
            layout=(("esp", 256), ("swap", 512), ("root", 0)), uefi=True,
        ),
        replace(_TARGET, name="target-lvm", lvm=True),
        replace(_TARGET, name="target-var", layout=(("bios", 1), ("swap", 512), ("var", 4096), ("root", 0))),
    )
}  # fmt: skip
SUITES: Final = ("bookworm", "trixie")

"""What the rules look at in a system's files: names, sizes, link texts, and the content of configuration. Pure data.

Paths are relative to the root of the system, with their directory's symlinks resolved ("usr/lib/modules" where /lib is
a link). Secrets never get into a plan: host keys and key files are only listed, and configuration that holds a password
is listed without its content (`SECRET`); an edit copies such files whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

import msgspec

CONTENT: Final = (
    "boot/grub/grub.cfg", "boot/grub/custom.cfg", "boot/grub/menu.lst", "boot/grub/grub.conf", "boot/grub/device.map",
    "boot/grub2/grub.cfg", "boot/grub2/custom.cfg", "boot/grub2/grubenv", "boot/grub/grubenv",
    "boot/loader/entries/*.conf", "etc/default/grub", "etc/default/grub.d/*.cfg", "etc/kernel/cmdline",
    "etc/sysconfig/kernel", "etc/fstab", "etc/crypttab", "etc/mdadm/mdadm.conf", "etc/mdadm.conf", "etc/lvm/lvm.conf",
    "etc/lvm/devices/system.devices", "etc/multipath.conf", "etc/multipath/wwids", "etc/multipath/bindings",
    "etc/initramfs-tools/initramfs.conf", "etc/initramfs-tools/modules", "etc/initramfs-tools/conf.d/*",
    "etc/dracut.conf", "etc/dracut.conf.d/*.conf", "etc/adjtime", "etc/hostname", "etc/smartd.conf", "etc/hdparm.conf",
    "etc/sysconfig/rawdevices", "etc/modprobe.conf", "etc/modprobe.d/*.conf", "etc/udev/rules.d/*.rules",
    "etc/network/interfaces", "etc/network/interfaces.d/*", "etc/netplan/*.yaml",
    "etc/sysconfig/network-scripts/ifcfg-*", "etc/sysconfig/network-scripts/route*-*",
    "etc/sysconfig/network-scripts/rule*-*", "etc/sysconfig/network/ifcfg-*", "etc/sysconfig/network/ifroute-*",
    "etc/sysconfig/network/routes", "etc/systemd/network/*",
    "etc/NetworkManager/system-connections/*", "etc/cloud/cloud.cfg.d/*.cfg",
    "lib/modules/*/modules.dep", "lib/modules/*/modules.builtin", "var/cache/debconf/config.dat",
)  # fmt: skip
"""Patterns of files whose content decides something."""

SECRET: Final = re.compile(
    rb"^\s*[\w.-]*(?:psk|password|passwd|passphrase|secret|private-?key|wep-key|password_pbkdf2)[\w.-]*\s*[=: ]\s*\S",
    re.I | re.M,
)
"""A line that sets a password or a key."""

GUARDED: Final = ("boot/", "etc/network/", "etc/netplan/", "etc/NetworkManager/", "etc/sysconfig/", "etc/systemd/")
"""Where such lines are looked for: elsewhere the words mean other things."""

LISTED: Final = (
    "boot/*", "etc/ssh/ssh_host_*", "etc/machine-id", "var/lib/dbus/machine-id", "etc/mtab", "etc/blkid.tab",
    "etc/blkid/blkid.tab", "etc/lvm/cache/.cache", "etc/lvm/cache", "etc/lvm/backup/*", "etc/keys/*",
    "etc/cryptsetup-keys.d/*",
    "var/lib/systemd/random-seed", "var/lib/dhcp/*.leases",
    "var/lib/dhclient/*.leases", "var/lib/NetworkManager/*.lease", "var/lib/cloud/instances/*",
    "var/lib/cloud/instance", "etc/systemd/system/*.service",
    "lib/systemd/system/*.service", "usr/lib/systemd/system/*.service",
    "etc/selinux/*/contexts/files/file_contexts", "sbin/setfiles", "usr/sbin/setfiles", "etc/init.d/*",
)  # fmt: skip
"""Patterns of which only name, size, mode and link text count."""

TREES: Final = ("boot/grub", "boot/grub2", "lib/modules/*", "usr/lib/grub/*")
"""Patterns of directories that are taken as a whole: number of files and bytes."""

DEEP: Final = ("lib/firmware",)
"""Directories of which every entry is listed."""


class Item(NamedTuple):
    """``kind``: file, dir, link, or tree for a directory counted as a whole. ``text``: of a link."""

    kind: str
    size: int = 0
    mode: int = 0o644
    text: str = ""
    files: int = 1


class Tree:
    """One system's files."""

    def __init__(self, items: Mapping[str, Item], contents: Mapping[str, bytes]) -> None:
        self.items = dict(items)
        self.contents = dict(contents)

    @classmethod
    def from_json(cls, raw: bytes) -> Tree:
        """msgspec.DecodeError: it is none."""
        told = msgspec.json.decode(raw, type=Told)
        return cls(told.items, told.contents)

    def to_json(self) -> bytes:
        return msgspec.json.encode(Told(self.items, self.contents))

    def has(self, path: str) -> bool:
        return path in self.items

    def text(self, path: str) -> str:
        """Content as text; bytes that are no UTF-8 survive `encode`. Empty if there is no such file."""
        return self.contents.get(path, b"").decode("utf-8", "surrogateescape")

    def lines(self, path: str) -> tuple[str, ...]:
        """For a diff: readable, so with backslashes for bytes that are no UTF-8."""
        return tuple(self.contents.get(path, b"").decode("utf-8", "backslashreplace").splitlines())

    def matching(self, pattern: str) -> list[str]:
        """Listed paths of this pattern, sorted; ``*`` stays inside of one name."""
        parts = pattern.split("/")
        return [path for path in sorted(self.items) if _matches(path.split("/"), parts)]

    def readable(self, patterns: Iterable[str]) -> list[str]:
        """Files with content that match one of the patterns."""
        return [path for p in patterns for path in self.matching(p) if path in self.contents]

    def below(self, directory: str) -> dict[str, Item]:
        prefix = directory.rstrip("/") + "/"
        return {path: item for path, item in self.items.items() if path.startswith(prefix)}

    @property
    def lib(self) -> str:
        """Where /lib is: "usr/lib" on a merged system."""
        return "lib" if any(path.startswith("lib/") for path in self.items) else "usr/lib"


class Told(msgspec.Struct, frozen=True):
    """A tree as JSON. ``items``: path to (kind, size, mode, text, files); ``contents``: path to bytes."""

    items: dict[str, Item]
    contents: dict[str, bytes]


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _matches(names: list[str], parts: list[str]) -> bool:
    return len(names) == len(parts) and all(map(fnmatchcase, names, parts))

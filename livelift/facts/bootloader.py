"""Which boot loader a machine has, where its menu and its environment block lie, and on which disks it is installed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from livelift.facts.host import Host
from livelift.facts.system import shell_values
from livelift.model.facts import BootLoader, Device

GRUB2_MENUS: Final = ("/boot/grub2/grub.cfg", "/boot/grub/grub.cfg")
LEGACY_MENUS: Final = ("/boot/grub/grub.conf", "/boot/grub/menu.lst")
ESP_PLACES: Final = ("/boot/efi", "/efi", "/boot")
ESP_TYPE: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_CODE: Final = 440
"""Bytes of the first sector that hold code; then comes the disk signature and the partition table."""


def boot_loader(host: Host, devices: Iterable[Device]) -> BootLoader:
    found = list(devices)
    esp = next((place for place in ESP_PLACES if host.is_dir(f"{place}/EFI") or host.is_dir(f"{place}/efi")), "")
    efi = tuple(path for path in host.glob(f"{esp}/EFI/*/*.[eE][fF][iI]")) if esp else ()
    stage1 = tuple(
        device.path for device in found if device.kind == "disk" and b"GRUB" in host.bytes(device.path, _CODE)
    )
    menu = next((path for path in GRUB2_MENUS if host.exists(path)), "")
    settings = shell_values(host.text("/etc/default/grub"))
    if menu:
        environment = f"{menu.rpartition('/')[0]}/grubenv"
        text = host.text(menu)
        return BootLoader(
            kind="grub2",
            bls="blscfg" in text and bool(next(host.glob("/boot/loader/entries/*.conf"), "")),
            config=menu,
            environment=environment if host.exists(environment) else "",
            stage1=stage1,
            efi=efi,
            esp=esp,
            saved_default=settings.get("GRUB_DEFAULT") == "saved" and "saved_entry" in text,
        )
    if esp and next(host.glob(f"{esp}/loader/loader.conf"), ""):
        return BootLoader(kind="systemd-boot", bls=True, config=f"{esp}/loader/loader.conf", efi=efi, esp=esp)
    legacy = next((path for path in LEGACY_MENUS if host.exists(path)), "")
    if legacy:
        return BootLoader(kind="grub-legacy", config=legacy, stage1=stage1, efi=efi, esp=esp)
    return BootLoader(stage1=stage1, efi=efi, esp=esp)

"""Boot loaders of four kinds, by their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from livelift.facts.bootloader import boot_loader
from livelift.facts.host import Host
from livelift.model.facts import BootLoader, Device
from tests.facts.tree import plant

DISK = Device(name="sda", path="/dev/sda", kind="disk")
SAVED = 'set default="${saved_entry}"\n'


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "/boot/grub/grub.cfg": SAVED,
                "/boot/grub/grubenv": "",
                "/etc/default/grub": "GRUB_DEFAULT=saved\n",
                "/dev/sda": b"\xeb\x63\x90" + b"\0" * 200 + b"GRUB \0Geom",
            },
            BootLoader(
                kind="grub2",
                config="/boot/grub/grub.cfg",
                environment="/boot/grub/grubenv",
                stage1=("/dev/sda",),
                saved_default=True,
            ),
        ),
        (
            {
                "/boot/grub2/grub.cfg": f"blscfg\n{SAVED}",
                "/boot/loader/entries/x.conf": "",
                "/boot/efi/EFI/rocky/grubx64.efi": "",
                "/dev/sda": b"\0" * 500 + b"GRUB",
            },
            BootLoader(
                kind="grub2",
                bls=True,
                config="/boot/grub2/grub.cfg",
                efi=("/boot/efi/EFI/rocky/grubx64.efi",),
                esp="/boot/efi",
            ),
        ),
        (
            {"/efi/EFI/systemd/systemd-bootx64.efi": "", "/efi/loader/loader.conf": ""},
            BootLoader(
                kind="systemd-boot",
                bls=True,
                config="/efi/loader/loader.conf",
                efi=("/efi/EFI/systemd/systemd-bootx64.efi",),
                esp="/efi",
            ),
        ),
        ({"/boot/grub/menu.lst": "default 0"}, BootLoader(kind="grub-legacy", config="/boot/grub/menu.lst")),
        ({}, BootLoader()),
    ],
)
def test_kinds(tmp_path: Path, files: dict[str, str | bytes | None], expected: BootLoader) -> None:
    assert boot_loader(Host(str(plant(tmp_path, files))), [DISK]) == expected

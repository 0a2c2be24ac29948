"""Menus as the distributions write them."""

from __future__ import annotations

from livelift.adapt.linux.menus import Entry, render_legacy, render_menu
from livelift.takeover.boot_entries import BootEntry, bls_entry, file_of, grub_entries, legacy_entries

DEBIAN = """
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-aaaa' {
	load_video
	search --no-floppy --fs-uuid --set=root aaaa
	echo	'Loading Linux 6.1.0-50-amd64 ...'
	linux	/boot/vmlinuz-6.1.0-50-amd64 root=UUID=aaaa ro  quiet
	echo	'Loading initial ramdisk ...'
	initrd	/boot/initrd.img-6.1.0-50-amd64
}
submenu 'Advanced options' $menuentry_id_option 'x' {
	menuentry "Recovery" --class debian {
		linux	/boot/vmlinuz-6.1.0-50-amd64 root=UUID=aaaa ro single
		initrd	/boot/early.cpio /boot/initrd.img-6.1.0-50-amd64
	}
}
menuentry 'UEFI Firmware Settings' { fwsetup }
"""


def test_grub() -> None:
    image = "/boot/vmlinuz-6.1.0-50-amd64"
    assert grub_entries(DEBIAN) == [
        BootEntry("Debian GNU/Linux", image, "/boot/initrd.img-6.1.0-50-amd64", "root=UUID=aaaa ro  quiet"),
        BootEntry("Recovery", image, "/boot/early.cpio /boot/initrd.img-6.1.0-50-amd64", "root=UUID=aaaa ro single"),
    ]


def test_what_livelift_writes_is_read_back() -> None:
    entry = Entry("Debian's 12, 6.1", "6.1", "/@/boot/vmlinuz-6.1", "/@/boot/initrd.img-6.1")
    (found,) = grub_entries(render_menu([entry], "root=UUID=1 ro", "1", ["btrfs"], []))
    assert found == BootEntry("Debians 12, 6.1", entry.image, entry.initrd, "root=UUID=1 ro")
    (old,) = legacy_entries(render_legacy([entry], "root=UUID=1 ro", "(hd0,0)", ["timeout=5"]))
    assert old == BootEntry("Debian's 12, 6.1", entry.image, entry.initrd, "root=UUID=1 ro")


def test_bls() -> None:
    text = "# c\ntitle Rocky\nlinux /vmlinuz-5\ninitrd /a.img\ninitrd /b.img\noptions root=x\noptions ro\n"
    assert bls_entry(text) == BootEntry("Rocky", "/vmlinuz-5", "/a.img /b.img", "root=x ro")
    assert bls_entry("") == BootEntry("", "", "", "")


def test_files() -> None:
    assert file_of("/boot/vmlinuz", "/boot") == "boot/vmlinuz"
    assert file_of("/vmlinuz", "") == "boot/vmlinuz"
    assert file_of("(hd0,gpt2)/vmlinuz", "") == "boot/vmlinuz"
    assert file_of("/@/boot/vmlinuz", "/@/boot") == "boot/vmlinuz"

"""Which word of the command line comes from which machine."""

from __future__ import annotations

import pytest

from livelift.adapt.linux import cmdline

SOURCE = "BOOT_IMAGE=/boot/vmlinuz root=UUID=old ro quiet resume=UUID=olds console=tty0 crashkernel=256M hugepages=8"
TARGET = "BOOT_IMAGE=(hd0,gpt2)/vmlinuz root=/dev/mapper/vg-root ro rd.lvm.lv=vg/root console=ttyS0,115200 quiet splash"


def test_merge() -> None:
    assert cmdline.merge(SOURCE, TARGET) == (
        "root=/dev/mapper/vg-root ro rd.lvm.lv=vg/root console=ttyS0,115200 quiet crashkernel=256M hugepages=8"
    )


def test_variables_of_grub_leave_out_what_its_scripts_add() -> None:
    assert cmdline.merge_variable("quiet resume=UUID=olds selinux=1", TARGET) == (
        "quiet selinux=1 rd.lvm.lv=vg/root console=ttyS0,115200"
    )
    assert cmdline.without_hardware("quiet console=tty1 nomodeset mitigations=off") == "quiet mitigations=off"


@pytest.mark.parametrize(
    ("word", "hardware"),
    [
        ("root=UUID=1", True), ("rd.luks.uuid=x", True), ("net.ifnames=0", True), ("console=tty0", True),
        ("intel_iommu=on", True), ("selinux=0", False), ("crashkernel=auto", False), ("systemd.unit=x", False),
        ("rootless", False), ("mitigations=off", False), ("ipv6.disable=1", False),
        ("transparent_hugepage=never", False),
    ],
)  # fmt: skip
def test_kinds(word: str, hardware: bool) -> None:
    assert cmdline.is_hardware(word) is hardware


def test_quotes_hold_words_together() -> None:
    assert cmdline.words('a="x y"  b\t"c d=e f"') == ['a="x y"', "b", '"c d=e f"']
    assert cmdline.merge('dyndbg="file a +p" init=/bin/sh', "root=x") == 'root=x dyndbg="file a +p"'
    assert cmdline.value("a=1 a=2 b", "a") == "2" and cmdline.value("a", "b") == ""

"""Facts of made-up servers that tests start from: AHCI and e1000 by BIOS; virtio; the same with UEFI, LVM, dracut."""

from __future__ import annotations

from typing import Any

import msgspec

from livelift.model.facts import (
    BootLoader,
    Clock,
    Device,
    FileSystem,
    Firmware,
    FstabEntry,
    Interface,
    Kernel,
    Link,
    Release,
    ServerFacts,
    SwapSpace,
)

GIB = 1 << 30
EXT4 = ("64bit", "extents", "has_journal", "metadata_csum")
DEBIAN = Release(id="debian", version="12", name="Debian GNU/Linux 12 (bookworm)", codename="bookworm")
ROCKY = Release(id="rocky", like=("rhel", "centos", "fedora"), version="9.3", name="Rocky Linux 9.3")
LEAP = Release(id="opensuse-leap", like=("suse", "opensuse"), version="15.5", name="openSUSE Leap 15.5")


def change(facts: Any, **fields: Any) -> Any:
    """A copy with other fields."""
    return msgspec.structs.replace(facts, **fields)


def kernel(version: str, redhat: bool = False) -> Kernel:
    initrd = f"/boot/initramfs-{version}.img" if redhat else f"/boot/initrd.img-{version}"
    return Kernel(version=version, image=f"/boot/vmlinuz-{version}", initrd=initrd, modules=True)


def debian_source() -> ServerFacts:
    return ServerFacts(
        hostname="source",
        machine_id="5" * 32,
        architecture="x86_64",
        glibc="2.36",
        release=DEBIAN,
        running_kernel="6.1.0-49-amd64",
        command_line="BOOT_IMAGE=/boot/vmlinuz-6.1.0-49-amd64 root=UUID=aaaa-root ro quiet resume=UUID=aaaa-swap",
        kernels=(kernel("6.1.0-49-amd64"),),
        boot_loader=BootLoader(
            kind="grub2", config="/boot/grub/grub.cfg", environment="/boot/grub/grubenv", stage1=("/dev/sda",)
        ),
        devices=(
            Device(name="sda", path="/dev/sda", kind="disk", size=20 * GIB, table="dos", transport="sata"),
            Device(name="sda1", path="/dev/sda1", kind="part", parents=("sda",), fstype="ext4", uuid="aaaa-root"),
            Device(name="sda5", path="/dev/sda5", kind="part", parents=("sda",), fstype="swap", uuid="aaaa-swap"),
        ),
        file_systems=(
            FileSystem(
                mountpoint="/", fstype="ext4", source="/dev/sda1", device="sda1", size=19 * GIB, used=2 * GIB,
                free=16 * GIB, used_inodes=60_000, free_inodes=900_000, features=EXT4,
            ),
        ),
        fstab=(
            FstabEntry(spec="UUID=aaaa-root", file="/", vfstype="ext4", options=("errors=remount-ro",), passno=1),
            FstabEntry(spec="UUID=aaaa-swap", file="none", vfstype="swap", options=("sw",)),
        ),
        swaps=(SwapSpace(path="/dev/sda5", kind="partition", size=GIB),),
        interfaces=(
            Interface(name="lo", kind="loopback"),
            Interface(
                name="ens3", mac="52:54:00:00:00:01", driver="e1000", up=True, addresses=("192.0.2.10/24",),
                links=(Link(modalias="pci:v00008086d0000100E", driver="e1000", module="e1000"),),
            ),
        ),
        network_stacks=("ifupdown",),
        modules=("ahci", "e1000", "ext4"),
        root_links=(Link(modalias="pci:v00008086d00002922", driver="ahci", module="ahci"),),
        packages=("grub-pc", "initramfs-tools"),
        listening=(22, 80, 5432),
        memory=2 * GIB,
        hypervisor="vmware",
        clock=Clock(now=1_700_000_000 * 10**9, zone="Etc/UTC"),
    )  # fmt: skip


def debian_target() -> ServerFacts:
    return ServerFacts(
        hostname="target",
        machine_id="7" * 32,
        architecture="x86_64",
        glibc="2.36",
        release=DEBIAN,
        running_kernel="6.1.0-50-amd64",
        command_line="BOOT_IMAGE=/boot/vmlinuz-6.1.0-50-amd64 root=UUID=bbbb-root ro console=ttyS0",
        kernels=(kernel("6.1.0-50-amd64"),),
        boot_loader=BootLoader(
            kind="grub2", config="/boot/grub/grub.cfg", environment="/boot/grub/grubenv", stage1=("/dev/vda",),
            saved_default=True,
        ),
        devices=(
            Device(name="vda", path="/dev/vda", kind="disk", size=40 * GIB, table="gpt", transport="virtio"),
            Device(name="vda2", path="/dev/vda2", kind="part", parents=("vda",), fstype="swap", uuid="bbbb-swap"),
            Device(name="vda3", path="/dev/vda3", kind="part", parents=("vda",), fstype="ext4", uuid="bbbb-root"),
        ),
        file_systems=(
            FileSystem(
                mountpoint="/", fstype="ext4", source="/dev/vda3", device="vda3", size=38 * GIB, used=2 * GIB,
                free=34 * GIB, used_inodes=50_000, free_inodes=2_000_000, features=EXT4,
            ),
        ),
        fstab=(
            FstabEntry(spec="UUID=bbbb-root", file="/", vfstype="ext4", options=("errors=remount-ro",), passno=1),
            FstabEntry(spec="UUID=bbbb-swap", file="none", vfstype="swap", options=("sw",)),
        ),
        swaps=(SwapSpace(path="/dev/vda2", kind="partition", size=GIB),),
        interfaces=(
            Interface(name="lo", kind="loopback"),
            Interface(
                name="enp0s3", mac="52:54:00:00:00:02", driver="virtio_net", up=True, addresses=("192.0.2.20/24",),
                links=(
                    Link(modalias="virtio:d00000001v00001AF4", driver="virtio_net", module="virtio_net"),
                    Link(modalias="pci:v00001AF4d00001000", driver="virtio-pci", module="virtio_pci"),
                ),
            ),
        ),
        network_stacks=("ifupdown",),
        modules=("virtio_blk", "virtio_net", "virtio_pci", "ext4"),
        root_links=(
            Link(modalias="virtio:d00000002v00001AF4", driver="virtio_blk", module="virtio_blk"),
            Link(modalias="pci:v00001AF4d00001001", driver="virtio-pci", module="virtio_pci"),
        ),
        packages=("grub-pc", "initramfs-tools", "qemu-guest-agent"),
        listening=(22,),
        memory=2 * GIB,
        hypervisor="kvm",
        clock=Clock(now=1_700_000_100 * 10**9, zone="Etc/UTC"),
    )  # fmt: skip


def with_uefi(target: ServerFacts) -> ServerFacts:
    """The same machine started by UEFI, with an ESP."""
    esp = Device(name="vda1", path="/dev/vda1", kind="part", parents=("vda",), fstype="vfat", uuid="ABCD-1234")
    place = FileSystem(mountpoint="/boot/efi", fstype="vfat", source="/dev/vda1", device="vda1", size=GIB, free=GIB)
    entry = FstabEntry(spec="UUID=ABCD-1234", file="/boot/efi", vfstype="vfat", options=("umask=0077",), passno=1)
    loader = change(target.boot_loader, stage1=(), efi=("/boot/efi/EFI/debian/grubx64.efi",), esp="/boot/efi")
    return change(  # type: ignore[no-any-return]
        target,
        firmware=Firmware(kind="uefi", secure_boot=False),
        boot_loader=loader,
        devices=(*target.devices, esp),
        file_systems=(*target.file_systems, place),
        fstab=(*target.fstab, entry),
        packages=("grub-efi-amd64", "initramfs-tools"),
    )


def with_lvm(facts: ServerFacts) -> ServerFacts:
    """The root on a logical volume."""
    root = facts.mounted("/")
    assert root is not None
    under = root.device
    volume = Device(
        name="dm-0", path="/dev/mapper/vg-root", kind="lvm", parents=(under,), fstype=root.fstype, uuid="lvm-root"
    )
    others = tuple(change(d, fstype="LVM2_member", uuid="pv") if d.name == under else d for d in facts.devices)
    here = change(root, source="/dev/mapper/vg-root", device="dm-0")
    rest = tuple(f for f in facts.file_systems if f.mountpoint != "/")
    lines = tuple(change(e, spec="/dev/mapper/vg-root") if e.file == "/" else e for e in facts.fstab)
    line = facts.command_line.replace("root=UUID=bbbb-root", "root=/dev/mapper/vg-root rd.lvm.lv=vg/root")
    return change(  # type: ignore[no-any-return]
        facts, devices=(*others, volume), file_systems=(here, *rest), fstab=lines, command_line=line
    )


def rocky(facts: ServerFacts) -> ServerFacts:
    """The same machine with the other family's system: dracut, BLS, NetworkManager, SELinux."""
    version = "5.14.0-362.el9.x86_64" if facts.hostname == "source" else "5.14.0-427.el9.x86_64"
    loader = change(facts.boot_loader, bls=True, config="/boot/grub2/grub.cfg", environment="/boot/grub2/grubenv")
    return change(  # type: ignore[no-any-return]
        facts,
        release=ROCKY,
        running_kernel=version,
        kernels=(kernel(version, redhat=True),),
        glibc="2.34",
        boot_loader=loader,
        network_stacks=("networkmanager",),
        packages=tuple(sorted({*(set(facts.packages) - {"initramfs-tools"}), "dracut", "grubby"})),
    )

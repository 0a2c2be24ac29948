"""Files of made-up servers, as the collector would have read them."""

from __future__ import annotations

from typing import Any

from livelift.adapt.changes import (
    Change,
    CopyFile,
    CopyTree,
    DeleteFile,
    MakeLink,
    RenameFile,
    RunCommand,
    WriteFile,
)
from livelift.adapt.linux.case import Policy
from livelift.adapt.linux.plan import make_plan
from livelift.adapt.linux.trees import Item, Tree
from livelift.adapt.plan import Plan
from livelift.model.facts import ServerFacts

DEP = "kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko\nkernel/drivers/net/virtio_net.ko.xz:\n"
BUILTIN = "kernel/drivers/virtio/virtio_pci.ko\nkernel/fs/ext4/ext4.ko\n"


def tree(files: dict[str, str | Item]) -> Tree:
    """Text is content of a file; an `Item` is only listed."""
    items = {p: Item("file", len(c)) if isinstance(c, str) else c for p, c in files.items()}
    return Tree(items, {p: c.encode() for p, c in files.items() if isinstance(c, str)})


def debian_old(**more: str | Item) -> dict[str, str | Item]:
    return {
        "etc/fstab": "# my disks\nUUID=aaaa-root / ext4 errors=remount-ro 0 1\nUUID=aaaa-swap none swap sw 0 0\n",
        "etc/default/grub": 'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX="elevator=noop"\n',
        "etc/initramfs-tools/initramfs.conf": "MODULES=dep\n",
        "etc/initramfs-tools/modules": "# none\n",
        "etc/initramfs-tools/conf.d/resume": "RESUME=UUID=aaaa-swap\n",
        "etc/network/interfaces": "auto lo ens3\niface lo inet loopback\n"
        "iface ens3 inet static\n address 192.0.2.10/24\n",
        "boot/vmlinuz-6.1.0-49-amd64": Item("file", 8),
        "boot/grub": Item("tree", 9, files=3),
        "boot/grub/grub.cfg": "set root=aaaa\n",
        "usr/lib/modules/6.1.0-49-amd64": Item("tree", 9, files=3),
        "usr/lib/modules/6.1.0-49-amd64/modules.dep": DEP,
        "usr/lib/modules/6.1.0-49-amd64/modules.builtin": BUILTIN,
        "var/cache/debconf/config.dat": "Name: grub-pc/install_devices\nTemplate: grub-pc/install_devices\n"
        "Value: /dev/sda\nOwners: grub-pc\nFlags: seen\n\nName: x/y\nTemplate: x/y\nOwners: x\n\n",
        **more,
    }


def debian_new(**more: str | Item) -> dict[str, str | Item]:
    return {
        "etc/fstab": "UUID=bbbb-root / ext4 errors=remount-ro 0 1\nUUID=bbbb-swap none swap sw 0 0\n",
        "etc/default/grub": 'GRUB_TERMINAL="serial console"\nGRUB_SERIAL_COMMAND="serial --speed=115200"\n',
        "etc/initramfs-tools/conf.d/resume": "RESUME=UUID=bbbb-swap\n",
        "etc/network/interfaces": "iface lo inet loopback\niface enp0s3 inet static\n address 192.0.2.20/24\n",
        "boot/vmlinuz-6.1.0-50-amd64": Item("file", 8),
        "boot/initrd.img-6.1.0-50-amd64": Item("file", 20),
        "boot/config-6.1.0-50-amd64": Item("file", 2),
        "boot/grub": Item("tree", 90, files=30),
        "boot/grub/grub.cfg": "serial --speed=115200\nterminal_input serial\nset root=bbbb\n",
        "usr/lib/modules/6.1.0-50-amd64": Item("tree", 900, files=300),
        **more,
    }


def plan_of(
    source: ServerFacts,
    target: ServerFacts,
    old: dict[str, str | Item],
    new: dict[str, str | Item],
    **policy: Any,
) -> Plan:
    return make_plan(source, target, tree(old), tree(new), Policy(**policy))


def changes(plan: Plan, rule: str = "") -> dict[str, Change]:
    """By the place that they are about; only of the rules whose ids begin so."""
    return {edit.touches: edit.change for edit in plan.edits if edit.id.startswith(rule)}


def written(plan: Plan, path: str) -> str:
    (change,) = (e.change for e in plan.edits if e.touches == path and isinstance(e.change, WriteFile))
    return change.data.decode()


def findings(plan: Plan) -> set[str]:
    return {finding.id for finding in plan.findings}


def applied(files: dict[str, str | Item], new: dict[str, str | Item], plan: Plan) -> dict[str, str | Item]:
    """The source's files after the plan, as far as data tells: the content of copies, not of commands."""
    found = dict(files)
    for edit in plan.edits:
        match edit.change:
            case WriteFile(path, data):
                found[path] = data.decode()
            case CopyFile(path, origin) | CopyTree(path, origin):
                found[path] = new[origin]
            case DeleteFile(path):
                found.pop(path, None)
            case MakeLink(path, text):
                found[path] = Item("link", text=text)
            case RenameFile(path, to):
                for name in [n for n in found if n == path or n.startswith(f"{path}/")]:
                    found[to + name[len(path) :]] = found.pop(name)
            case RunCommand():
                pass
    return found

"""Whole plans for each family: what is decided for a machine of AHCI and e1000 that moves to one of virtio."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from livelift.adapt.changes import CopyFile, CopyTree, DeleteFile, MakeLink, RenameFile, RunCommand, WriteFile
from livelift.adapt.linux.case import parse_policy
from livelift.adapt.linux.plan import inputs_of
from livelift.adapt.linux.trees import Item
from livelift.adapt.render import to_text
from livelift.checks.findings import Level
from livelift.cli.main import main
from livelift.errors import UsageError
from livelift.model.facts import Release, Security
from tests.adapt.linux.trees import BUILTIN, DEP, applied, changes, debian_new, debian_old, findings, plan_of, written
from tests.facts.tree import plant
from tests.machines import LEAP, change, debian_source, debian_target, kernel, rocky, with_lvm, with_uefi

SOURCE, TARGET = debian_source(), debian_target()


def test_debian_onto_virtio() -> None:
    plan = plan_of(SOURCE, TARGET, debian_old(), debian_new())
    assert not [f for f in plan.findings if f.level is Level.INHIBITOR]
    assert all(edit.reason and edit.inputs for edit in plan.edits)
    found = changes(plan)
    assert found["boot/vmlinuz-6.1.0-50-amd64"] == CopyFile(
        "boot/vmlinuz-6.1.0-50-amd64", "boot/vmlinuz-6.1.0-50-amd64", 8
    )
    assert isinstance(found["boot/initrd.img-6.1.0-50-amd64"], CopyFile)
    assert found["usr/lib/modules/6.1.0-50-amd64"] == CopyTree(
        "usr/lib/modules/6.1.0-50-amd64", "usr/lib/modules/6.1.0-50-amd64", 300, 900
    )
    assert written(plan, "etc/fstab") == (
        "# my disks\nUUID=bbbb-root / ext4 errors=remount-ro 0 1\nUUID=bbbb-swap none swap sw 0 0\n"
    )
    assert written(plan, "etc/initramfs-tools/conf.d/resume") == "RESUME=UUID=bbbb-swap\n"
    assert written(plan, "etc/initramfs-tools/modules") == "# none\nvirtio_blk\nvirtio_net\n", "the others are built in"
    assert written(plan, "etc/initramfs-tools/conf.d/zz-livelift") == "MODULES=most\n"
    assert found["update-initramfs"] == RunCommand(
        ("update-initramfs", "-u", "-k", "6.1.0-49-amd64"),
        ("boot/initrd.img-6.1.0-49-amd64", "var/lib/initramfs-tools/6.1.0-49-amd64"),
    )
    assert "Value: /dev/vda\n" in written(plan, "var/cache/debconf/config.dat")
    assert "Name: x/y\n" in written(plan, "var/cache/debconf/config.dat")
    defaults = written(plan, "etc/default/grub")
    assert 'GRUB_CMDLINE_LINUX="elevator=noop console=ttyS0"\n' in defaults
    assert 'GRUB_TERMINAL="serial console"\n' in defaults
    assert isinstance(found["etc/network/interfaces"], CopyFile)


def test_the_order_of_the_edits() -> None:
    """Configuration before the tools that read it; the source's GRUB directory aside before the target's comes."""
    plan = plan_of(SOURCE, TARGET, debian_old(), debian_new())
    order = [edit.id for edit in plan.edits]
    assert order[-1] == "initramfs/build/6.1.0-49-amd64"
    assert order.index("boot-loader/aside/boot/grub") < order.index("boot-loader/boot/grub")
    assert order.index("boot-loader/boot/grub") < order.index("boot-loader/boot/grub/grub.cfg")


def test_the_menu() -> None:
    plan = plan_of(SOURCE, TARGET, debian_old(), debian_new())
    assert changes(plan)["boot/grub"] == CopyTree("boot/grub", "boot/grub", 30, 90)
    menu = written(plan, "boot/grub/grub.cfg")
    assert "terminal_input serial" in menu, "the target's console"
    images = [line.split()[1] for line in menu.splitlines() if line.startswith("  linux ")]
    assert images == ["/boot/vmlinuz-6.1.0-50-amd64", "/boot/vmlinuz-6.1.0-49-amd64"], "the target's kernel first"
    assert "search --no-floppy --fs-uuid --set=root bbbb-root" in menu
    assert "root=UUID=bbbb-root ro console=ttyS0 quiet\n" in menu
    assert "aaaa" not in menu
    assert "insmod part_gpt\n  insmod ext2\n" in menu
    assert "next_entry" in menu


def test_nothing_of_the_source_hardware_is_left_in_what_boots() -> None:
    old, new = debian_old(), debian_new()
    after = applied(old, new, plan_of(SOURCE, TARGET, old, new))
    for path, content in after.items():
        if isinstance(content, str) and not path.startswith("boot/grub.source"):
            assert "aaaa" not in content and "ens3" not in content and "/dev/sda" not in content, path


def test_a_second_plan_on_the_result_changes_no_configuration() -> None:
    old, new = debian_old(), debian_new()
    after = applied(old, new, plan_of(SOURCE, TARGET, old, new))
    again = plan_of(SOURCE, TARGET, {p: c for p, c in after.items() if "grub.source" not in p}, new)
    texts = [e.touches for e in again.edits if isinstance(e.change, WriteFile)]
    assert texts == ["boot/grub/grub.cfg"], "written again because the directory is copied again"


def test_a_separate_boot_and_btrfs_are_named_as_grub_sees_them() -> None:
    for image, prefix in (("/vmlinuz-x", ""), ("(hd0,gpt2)/vmlinuz-x", ""), ("/@/boot/vmlinuz-x", "/@/boot")):
        target = change(TARGET, command_line=f"BOOT_IMAGE={image} root=UUID=bbbb-root ro rootflags=subvol=@")
        menu = written(plan_of(SOURCE, target, debian_old(), debian_new()), "boot/grub/grub.cfg")
        assert f"linux {prefix}/vmlinuz-6.1.0-50-amd64 root=UUID=bbbb-root ro rootflags=subvol=@ quiet" in menu
        assert f"initrd {prefix}/initrd.img-6.1.0-50-amd64" in menu


def test_lvm_target() -> None:
    plan = plan_of(SOURCE, with_lvm(TARGET), debian_old(), debian_new())
    assert written(plan, "etc/fstab").splitlines()[1] == "/dev/mapper/vg-root / ext4 errors=remount-ro 0 1"
    menu = written(plan, "boot/grub/grub.cfg")
    assert "insmod lvm" in menu and "root=/dev/mapper/vg-root rd.lvm.lv=vg/root" in menu
    assert "--set=root lvm-root" in menu
    modules = {**debian_old()}
    modules["usr/lib/modules/6.1.0-49-amd64/modules.dep"] = DEP + "kernel/drivers/md/dm-mod.ko:\n"
    assert "dm_mod" in written(plan_of(SOURCE, with_lvm(TARGET), modules, debian_new()), "etc/initramfs-tools/modules")


def test_uefi_target_from_a_bios_source() -> None:
    new = debian_new(**{"usr/lib/grub/x86_64-efi": Item("tree", 5, files=2)})
    plan = plan_of(SOURCE, with_uefi(TARGET), debian_old(), new)
    assert "UUID=ABCD-1234 /boot/efi vfat umask=0077 0 1" in written(plan, "etc/fstab")
    assert isinstance(changes(plan)["usr/lib/grub/x86_64-efi"], CopyTree)
    assert "grub-package" in findings(plan)
    assert "var/cache/debconf/config.dat" not in changes(plan), "no first sector is written under UEFI"


def test_a_driver_that_the_source_kernel_lacks() -> None:
    old = {**debian_old(), "usr/lib/modules/6.1.0-49-amd64/modules.dep": ""}
    plan = plan_of(SOURCE, TARGET, old, debian_new())
    (finding,) = (f for f in plan.findings if f.id == "driver-missing")
    assert "virtio_blk, virtio_net" in finding.diagnosis and "virtio_pci" not in finding.diagnosis


def test_a_target_without_modules_is_an_inhibitor() -> None:
    new = debian_new()
    del new["usr/lib/modules/6.1.0-50-amd64"]
    assert "target-modules" in findings(plan_of(SOURCE, TARGET, debian_old(), new))


def test_firmware_is_united() -> None:
    old = debian_old(**{"usr/lib/firmware/a.bin": Item("file", 1), "usr/lib/firmware/both": Item("dir")})
    new = debian_new(
        **{
            "usr/lib/firmware/a.bin": Item("file", 2),
            "usr/lib/firmware/b.bin": Item("file", 3),
            "usr/lib/firmware/both": Item("dir"),
            "usr/lib/firmware/both/x": Item("file", 4),
            "usr/lib/firmware/dir": Item("dir"),
            "usr/lib/firmware/dir/y": Item("file", 5),
            "usr/lib/firmware/dir/sub": Item("dir"),
            "usr/lib/firmware/dir/sub/z": Item("file", 6),
            "usr/lib/firmware/link": Item("link", text="b.bin"),
        }
    )
    found = changes(plan_of(SOURCE, TARGET, old, new), "firmware")
    assert found == {
        "usr/lib/firmware/b.bin": CopyFile("usr/lib/firmware/b.bin", "usr/lib/firmware/b.bin", 3),
        "usr/lib/firmware/both/x": CopyFile("usr/lib/firmware/both/x", "usr/lib/firmware/both/x", 4),
        "usr/lib/firmware/dir": CopyTree("usr/lib/firmware/dir", "usr/lib/firmware/dir", 2, 11),
        "usr/lib/firmware/link": MakeLink("usr/lib/firmware/link", "b.bin"),
    }


def test_snippets_of_cloud_images() -> None:
    """The next update-grub would name the partition of the source's root."""
    force, cloud = "etc/default/grub.d/40-force-partuuid.cfg", "etc/default/grub.d/50-cloudimg-settings.cfg"
    old = debian_old(
        **{force: "GRUB_FORCE_PARTUUID=aaaa\n", cloud: 'GRUB_CMDLINE_LINUX_DEFAULT="console=tty1 quiet"\n'}
    )
    plan = plan_of(SOURCE, TARGET, old, debian_new())
    assert written(plan, force) == "" and written(plan, cloud) == 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'
    plan = plan_of(SOURCE, TARGET, old, debian_new(**{force: "GRUB_FORCE_PARTUUID=bbbb\n"}))
    assert isinstance(changes(plan)[force], CopyFile)


def test_drivers_by_a_policy_of_the_installer() -> None:
    old = debian_old(**{"etc/initramfs-tools/initramfs.conf": "MODULES=most\n"})
    assert "etc/initramfs-tools/conf.d/zz-livelift" not in changes(plan_of(SOURCE, TARGET, old, debian_new()))
    old["etc/initramfs-tools/conf.d/driver-policy"] = "MODULES=dep\n"
    assert "etc/initramfs-tools/conf.d/zz-livelift" in changes(plan_of(SOURCE, TARGET, old, debian_new()))


def test_a_forbidden_driver() -> None:
    old = debian_old(**{"etc/modprobe.d/no.conf": "blacklist virtio-net\nblacklist pcspkr\n"})
    text = written(plan_of(SOURCE, TARGET, old, debian_new()), "etc/modprobe.d/no.conf")
    assert text == "# livelift: the hardware needs it: blacklist virtio-net\nblacklist pcspkr\n"


def rocky_files(source: bool) -> dict[str, str | Item]:
    version, letter = ("362", "a") if source else ("427", "b")
    name = f"5.14.0-{version}.el9.x86_64"
    machine = "5" * 32 if source else "7" * 32
    return {
        "etc/fstab": f"UUID={letter * 4}-root / ext4 defaults 0 0\n",
        "etc/default/grub": 'GRUB_CMDLINE_LINUX="crashkernel=1G resume=UUID=aaaa-swap"\n',
        "etc/kernel/cmdline": f"root=UUID={letter * 4}-root ro\n",
        "etc/NetworkManager/system-connections/x.nmconnection": f"[connection]\nid={letter}\ninterface-name=ens3\n",
        f"boot/vmlinuz-{name}": Item("file", 8),
        f"boot/initramfs-{name}.img": Item("file", 8),
        "boot/grub2": Item("tree", 3, files=3),
        "boot/grub2/grub.cfg": "blscfg\n",
        "boot/grub2/grubenv": f"# GRUB Environment Block\nsaved_entry={machine}-{name}\nboot_success=1\n###",
        f"boot/loader/entries/{machine}-{name}.conf": f"options root=UUID={letter * 4}-root\n",
        f"boot/loader/entries/{machine}-0-rescue.conf": "options root=x\n",
        f"usr/lib/modules/{name}": Item("tree", 3, files=3),
        f"usr/lib/modules/{name}/modules.dep": DEP,
        f"usr/lib/modules/{name}/modules.builtin": BUILTIN,
        "usr/sbin/setfiles": Item("file", 1),
        "etc/selinux/targeted/contexts/files/file_contexts": Item("file", 1),
    }


def test_rocky() -> None:
    source = change(rocky(SOURCE), security=Security(selinux="enforcing", policy="targeted"))
    plan = plan_of(source, rocky(TARGET), rocky_files(True), rocky_files(False))
    found = changes(plan)
    entry = written(plan, f"boot/loader/entries/{'5' * 32}-5.14.0-427.el9.x86_64.conf")
    assert "linux /boot/vmlinuz-5.14.0-427.el9.x86_64\n" in entry and "options root=UUID=bbbb-root ro" in entry
    assert "root=UUID=bbbb-root" in written(plan, f"boot/loader/entries/{'5' * 32}-5.14.0-362.el9.x86_64.conf")
    assert isinstance(found[f"boot/loader/entries/{'5' * 32}-0-rescue.conf"], DeleteFile)
    block = written(plan, "boot/grub2/grubenv")
    assert len(block) == 1024 and f"saved_entry={'5' * 32}-5.14.0-427.el9.x86_64\nboot" not in block
    assert f"saved_entry={'5' * 32}-5.14.0-427.el9.x86_64\n" in block and "boot_success=1\n" in block
    assert written(plan, "etc/dracut.conf.d/50-livelift.conf") == 'add_drivers+=" virtio_blk virtio_net "\n'
    version = "5.14.0-362.el9.x86_64"
    assert found["dracut"] == RunCommand(
        ("dracut", "--force", "--no-hostonly", f"/boot/initramfs-{version}.img", version),
        (f"boot/initramfs-{version}.img",),
    )
    assert 'GRUB_CMDLINE_LINUX="crashkernel=1G console=ttyS0"' in written(plan, "etc/default/grub")
    assert "grub.cfg" not in " ".join(e.id for e in plan.edits), "generic with BLS: it comes with the directory"
    relabel = found["/usr/sbin/setfiles"]
    assert isinstance(relabel, RunCommand) and relabel.arguments[:2] == ("/usr/sbin/setfiles", "-F")
    assert "/etc/fstab" in relabel.arguments and f"/boot/initramfs-{version}.img" in relabel.arguments
    assert plan.edits[-1].id == "selinux/relabel"


def test_rocky_with_the_target_identity_renames_its_entries() -> None:
    new = rocky_files(False) | {"etc/machine-id": Item("file", 33), "etc/hostname": "target\n"}
    old = rocky_files(True) | {"etc/machine-id": Item("file", 33), "etc/hostname": "source\n"}
    plan = plan_of(rocky(SOURCE), rocky(TARGET), old, new, machine_id="target", hostname="target")
    found = changes(plan)
    assert {p for p in found if p.startswith("boot/loader") and isinstance(found[p], WriteFile)} == {
        f"boot/loader/entries/{'7' * 32}-5.14.0-{v}.el9.x86_64.conf" for v in (362, 427)
    }
    assert isinstance(found["etc/machine-id"], CopyFile) and isinstance(found["etc/hostname"], CopyFile)


def test_selinux_without_setfiles() -> None:
    source = change(rocky(SOURCE), security=Security(selinux="permissive", policy="targeted"))
    old = rocky_files(True)
    del old["usr/sbin/setfiles"]
    plan = plan_of(source, rocky(TARGET), old, rocky_files(False))
    assert written(plan, ".autorelabel") == "-F\n" and "selinux-autorelabel" in findings(plan)


def test_legacy_grub_and_dracut_of_release_6() -> None:
    six = Release(id="centos", like=("rhel",), version="6.10", name="CentOS 6")
    source, target = (change(rocky(m), release=six) for m in (SOURCE, TARGET))
    target = change(
        target,
        boot_loader=change(target.boot_loader, kind="grub-legacy", bls=False, config="/boot/grub/grub.conf"),
        command_line="ro root=UUID=bbbb-root console=ttyS0",
    )
    menu = "default=0\ntimeout=5\ntitle CentOS\n\troot (hd0,1)\n\tkernel /vmlinuz-x ro\n"
    new = rocky_files(False) | {"boot/grub/grub.conf": menu, "boot/grub": Item("tree", 1)}
    plan = plan_of(source, target, rocky_files(True), new)
    text = written(plan, "boot/grub/grub.conf")
    assert text.startswith("timeout=5\ndefault=0\ntitle CentOS 6, 5.14.0-427.el9.x86_64\n\troot (hd0,1)\n")
    assert "kernel /boot/vmlinuz-5.14.0-427.el9.x86_64 ro root=UUID=bbbb-root console=ttyS0" in text


@pytest.mark.parametrize(("tool", "program"), [("dracut", "dracut"), ("mkinitrd", "mkinitrd")])
def test_suse(tool: str, program: str) -> None:
    versions = ("5.14.21-1-default", "5.14.21-2-default")
    machines = [
        change(
            m, release=LEAP, packages=(tool,), running_kernel=v, network_stacks=("wicked",),
            kernels=(change(kernel(v), initrd=f"/boot/initrd-{v}"),),
        )
        for m, v in zip((SOURCE, TARGET), versions, strict=True)
    ]  # fmt: skip
    old = {
        **debian_old(),
        f"usr/lib/modules/{versions[0]}/modules.dep": DEP,
        "etc/sysconfig/kernel": 'INITRD_MODULES="ahci"\n',
    }
    new = debian_new(**{"etc/sysconfig/network/ifcfg-eth0": "BOOTPROTO=dhcp\n"})
    plan = plan_of(*machines, old, new)
    command = changes(plan)[program]
    assert isinstance(command, RunCommand) and command.writes == ("boot/initrd-5.14.21-1-default",)
    if tool == "mkinitrd":
        assert written(plan, "etc/sysconfig/kernel") == 'INITRD_MODULES="ahci virtio_blk virtio_net"\n'


def test_another_distribution_is_an_inhibitor_and_nothing_is_planned() -> None:
    plan = plan_of(SOURCE, rocky(TARGET), debian_old(), rocky_files(False))
    assert findings(plan) == {"distribution-differs"} and plan.edits == ()


def test_the_plan_is_readable_and_names_what_it_depends_on() -> None:
    plan = plan_of(SOURCE, TARGET, debian_old(), debian_new())
    text = to_text(plan)
    assert "source (Debian GNU/Linux 12 (bookworm)) onto target" in text
    assert "-  UUID=aaaa-swap none swap sw 0 0\n+  UUID=bbbb-root / ext4 errors=remount-ro 0 1" in text
    assert {"etc/fstab", "etc/default/grub", "boot/vmlinuz-6.1.0-49-amd64"} <= inputs_of(plan)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    words = ["plan"]
    for side, facts, files in (("source", SOURCE, debian_old()), ("target", TARGET, debian_new())):
        (tmp_path / f"{side}.json").write_bytes(msgspec.json.encode(facts))
        texts = {p: c if isinstance(c, str) else "x" * c.size for p, c in files.items() if not _is_tree(c)}
        plant(
            tmp_path / side,
            {**texts, "/lib": "-> usr/lib", **{f"{p}/.": None for p, c in files.items() if _is_tree(c)}},
        )
        words += [f"--{side}-facts", str(tmp_path / f"{side}.json"), f"--{side}-root", str(tmp_path / side)]
    return words


def _is_tree(content: str | Item) -> bool:
    return isinstance(content, Item) and content.kind == "tree"


def test_the_verb(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    assert "+  UUID=bbbb-swap none swap sw 0 0" in capsys.readouterr().out
    rules = tmp_path / "rules"
    rules.write_text('skip = ["kernel/*"]\n[[replace]]\nid = "storage/etc/fstab"\nvalue = "mine\\n"\n')
    assert main([*command, "--rules", str(rules), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (edit,) = (e for e in answer["edits"] if e["id"] == "storage/etc/fstab")
    assert edit["after"] == ["mine"]
    assert "kernel/boot/vmlinuz-6.1.0-50-amd64" in [s["id"] for s in answer["skipped"]]


def test_the_verb_refuses(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "policy"
    policy.write_text('network = "both"\n')
    assert main([*command, "--policy", str(policy)]) == 2
    assert main([*command[:-1], str(tmp_path / "none")]) == 2
    (tmp_path / "target/etc/network/interfaces").unlink()
    assert main(command) == 3
    assert "network-files" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["network = 3", "nonsense = 1", "interfaces = 1", "= 1", 'hostname = "other"'])
def test_policies_that_are_wrong(text: str) -> None:
    with pytest.raises(UsageError):
        parse_policy(text)


def test_the_source_s_grub_directory_is_set_aside() -> None:
    plan = plan_of(SOURCE, TARGET, debian_old(), debian_new())
    (rename,) = plan.changes(RenameFile)
    assert (rename.path, rename.to) == ("boot/grub", "boot/grub.source")

"""A staged system that is whole passes; each thing that stopped a real one is found before the swap."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from livelift.checks.findings import Level
from livelift.cli.main import main
from livelift.errors import CommandError
from livelift.facts.host import Host
from livelift.model.facts import ServerFacts
from livelift.takeover.probe import check_loader, interpreter, known_names, probe
from tests.facts.tree import plant
from tests.machines import change, debian_target, with_lvm
from tests.takeover.images import cpio

VERSION = "6.1.0-50-amd64"
MODULES = [f"usr/lib/modules/{VERSION}/kernel/{name}" for name in ("virtio_blk.ko", "virtio_pci.ko.xz", "ext4.ko")]
MENU = f"""menuentry 'new' {{
  linux /boot/vmlinuz-{VERSION} root=UUID=bbbb-root ro
  initrd /boot/initrd.img-{VERSION}
}}
menuentry 'old' {{
  linux /boot/vmlinuz-6.1.0-49-amd64 root=UUID=bbbb-root ro
  initrd /boot/initrd.img-6.1.0-49-amd64
}}
"""
TARGET = debian_target()


def image(modules: list[str], init: bool = True) -> bytes:
    names = [*(["init"] if init else []), *modules]
    return cpio({"kernel/x86/microcode/AuthenticAMD.bin": b"1"}) + gzip.compress(cpio({n: b"x" for n in names}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With this machine's /bin/true and its loader; that it runs is another test's matter."""
    place = plant(
        tmp_path / "staged",
        {
            "/usr/lib/systemd/systemd": b"\x7fELF",
            "/sbin/init": "-> ../usr/lib/systemd/systemd",
            "/bin/true": Path("/bin/true").read_bytes(),
            interpreter(Path("/bin/true").read_bytes()): b"loader",
            "/etc/fstab": "UUID=bbbb-root / ext4 defaults 0 1\nUUID=bbbb-swap none swap sw 0 0\n"
            "UUID=gone /usb vfat nofail 0 0\nnas:/x /nfs nfs4 _netdev 0 0\n",
            "/boot/grub/grub.cfg": MENU,
            f"/boot/vmlinuz-{VERSION}": "kernel",
            f"/boot/initrd.img-{VERSION}": image(MODULES),
            "/boot/vmlinuz-6.1.0-49-amd64": "kernel",
            "/boot/initrd.img-6.1.0-49-amd64": image(MODULES),
        },
    )
    (place / "usr/lib/systemd/systemd").chmod(0o755)
    return place


def found(root: Path, target: ServerFacts = TARGET, run: Callable[..., str] = lambda *_: "") -> dict[str, Level]:
    findings = probe(str(root), target, run)
    assert all(f.diagnosis and f.remedy for f in findings)
    return {f.id: f.level for f in sorted(findings, key=lambda f: f.level)}  # the worst of each id


def test_a_whole_system(root: Path) -> None:
    assert found(root) == {}


def damage(root: Path, path: str, content: bytes | str | None) -> None:
    place = root / path
    mode = place.stat().st_mode & 0o777 if place.exists() else 0o644
    place.unlink()
    if content is not None:
        plant(root, {path: content})
        if not place.is_symlink():
            place.chmod(mode)


FSTAB = "UUID=bbbb-root / ext4 defaults 0 1\n"


@pytest.mark.parametrize(
    ("path", "content", "id"),
    [
        ("sbin/init", None, "probe-init"),
        ("sbin/init", "-> /rsyncd-munged/usr/lib/systemd/systemd", "probe-init"),
        ("bin/true", None, "probe-true"),
        ("bin/true", "#!/bin/sh\n", "probe-true"),
        ("etc/fstab", FSTAB + "UUID=aaaa-swap none swap sw 0 0\n", "probe-fstab"),
        ("etc/fstab", FSTAB + "/dev/sda3 /srv ext4 defaults 0 2\n", "probe-fstab"),
        ("etc/fstab", "tmpfs /tmp tmpfs defaults 0 0\n", "probe-fstab-root"),
        ("boot/grub/grub.cfg", "", "probe-no-entry"),
        ("boot/grub/grub.cfg", MENU.replace("bbbb-root", "aaaa-root"), "probe-root"),
        ("boot/grub/grub.cfg", MENU.replace("root=UUID=bbbb-root ", ""), "probe-root"),
        (f"boot/vmlinuz-{VERSION}", None, "probe-boot-file"),
        (f"boot/initrd.img-{VERSION}", None, "probe-boot-file"),
        (f"boot/initrd.img-{VERSION}", image(MODULES[1:]), "probe-modules"),
        (f"boot/initrd.img-{VERSION}", image(MODULES[:1] + MODULES[2:]), "probe-modules"),
        (f"boot/initrd.img-{VERSION}", image(MODULES, init=False), "probe-initramfs"),
        (f"boot/initrd.img-{VERSION}", image(MODULES)[:-30], "probe-initramfs"),
        (f"boot/initrd.img-{VERSION}", image(["squashfs-root.img"]), "probe-squashed"),
    ],
)
def test_each_fault(root: Path, path: str, content: bytes | str | None, id: str) -> None:
    damage(root, path, content)
    assert found(root).get(id) == Level.INHIBITOR


def test_faults_of_another_entry_are_warnings(root: Path) -> None:
    damage(root, "boot/initrd.img-6.1.0-49-amd64", image([]))
    assert found(root) == {"probe-modules": Level.WARNING}


def test_a_driver_that_is_built_into_the_kernel(root: Path) -> None:
    damage(root, f"boot/initrd.img-{VERSION}", image(MODULES[1:]))
    plant(root, {"/lib": "-> usr/lib", f"/usr/lib/modules/{VERSION}/modules.builtin": "kernel/virtio_blk.ko\n"})
    assert found(root) == {}


def test_the_missing_thing_is_the_loader(root: Path) -> None:
    """What looks like a missing program is a missing ELF interpreter."""
    damage(root, interpreter(Path("/bin/true").read_bytes()).lstrip("/"), None)
    assert found(root) == {"probe-loader": Level.INHIBITOR}


def test_a_program_that_fails(root: Path) -> None:
    def run(*_: object) -> str:
        raise CommandError("/bin/true ended with 127: libc.so.6: cannot open shared object file")

    assert found(root, run=run) == {"probe-true": Level.INHIBITOR}


@pytest.mark.root
def test_true_really_runs_in_the_staged_root(root: Path) -> None:
    for name in ("proc", "sys", "dev", "run", "tmp"):
        (root / name).mkdir()
    host = Host(str(root))
    from livelift.platform.linux.inside import run_inside

    (finding,) = check_loader(host, str(root), run_inside)
    assert finding.id == "probe-true", "the planted loader is none"
    told = subprocess.run(["ldd", "/bin/true"], capture_output=True, text=True, check=True).stdout
    for word in told.split():
        if word.startswith("/"):
            (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(word, root / word[1:])
    os.chmod(root / "bin/true", 0o755)
    assert list(check_loader(host, str(root), run_inside)) == []
    host.close()


def test_static_programs_and_noise() -> None:
    assert interpreter(b"\x7fELF\x02\x01" + bytes(100)) == ""
    with pytest.raises(ValueError):
        interpreter(b"#!/bin/sh\n" * 20)


def test_lvm_names_and_modules(root: Path) -> None:
    target = with_lvm(TARGET)
    assert {"/dev/mapper/vg-root", "/dev/vg/root", "UUID=lvm-root"} <= known_names(target)
    damage(root, "etc/fstab", "/dev/vg/root / ext4 defaults 0 1\n")
    damage(root, "boot/grub/grub.cfg", MENU.replace("UUID=bbbb-root", "/dev/mapper/vg-root"))
    assert found(root, target) == {"probe-modules": Level.INHIBITOR}, "dm_mod is missing"
    for version in (VERSION, "6.1.0-49-amd64"):
        damage(root, f"boot/initrd.img-{version}", image([*MODULES, f"lib/modules/{VERSION}/kernel/dm-mod.ko.zst"]))
    assert found(root, target) == {}


def test_bls_entries_by_their_default(root: Path) -> None:
    loader = change(TARGET.boot_loader, bls=True, config="/boot/grub2/grub.cfg", environment="/boot/grub2/grubenv")
    target = change(TARGET, boot_loader=loader)
    good = f"linux /boot/vmlinuz-{VERSION}\ninitrd /boot/initrd.img-{VERSION}\noptions root=UUID=bbbb-root\n"
    plant(
        root,
        {
            "/boot/loader/entries/a.conf": good,
            "/boot/loader/entries/b.conf": good.replace("bbbb", "aaaa"),
            "/boot/grub2/grubenv": "saved_entry=a\n###",
        },
    )
    assert found(root, target) == {"probe-root": Level.WARNING}
    (root / "boot/grub2/grubenv").write_text("saved_entry=b\n###")
    assert found(root, target) == {"probe-root": Level.INHIBITOR}


def test_the_verb(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "facts"
    facts.write_bytes(msgspec.json.encode(TARGET))
    damage(root, "sbin/init", None)
    damage(root, "bin/true", None)
    words = ["probe", "--root", str(root), "--target-facts", str(facts), "--json"]
    assert main(words) == 3
    answer = json.loads(capsys.readouterr().out)
    assert sorted(f["id"] for f in answer["findings"]) == ["probe-init", "probe-true"]
    assert main([*words, "--ignore", "probe-init", "--ignore", "probe-true"]) == 0
    assert main(["probe", "--root", str(tmp_path / "none")]) == 2

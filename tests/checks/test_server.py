"""Every rule for whole servers both ways: a good pair has no inhibitor, and each fault is found by its id."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from livelift.checks.findings import Level
from livelift.checks.server import check_servers
from livelift.cli.main import main
from livelift.model.facts import FileSystem, Firmware, FstabEntry, Interface, Link, Release, Security, ServerFacts
from tests.machines import EXT4, GIB, change, debian_source, debian_target, kernel, rocky, with_lvm, with_uefi

SOURCE, TARGET = debian_source(), debian_target()
Change = Callable[[ServerFacts], ServerFacts]


def ids(source: ServerFacts = SOURCE, target: ServerFacts = TARGET) -> dict[str, Level]:
    found = check_servers(source, target).findings
    assert all(f.diagnosis for f in found)
    assert all(f.remedy for f in found if f.level > Level.NOTE), "what to do next"
    return {f.id: f.level for f in found}


def root(facts: ServerFacts, **fields: object) -> ServerFacts:
    changed = tuple(change(f, **fields) if f.mountpoint == "/" else f for f in facts.file_systems)
    return change(facts, file_systems=changed)  # type: ignore[no-any-return]


def test_a_good_pair_of_each_kind() -> None:
    assert ids() == {}
    assert ids(target=with_uefi(TARGET)) == {"firmware-differs": Level.NOTE}
    assert ids(rocky(SOURCE), rocky(TARGET)) == {}


@pytest.mark.parametrize(
    ("id", "level", "source", "target"),
    [
        ("distribution-unknown", 101, {"release": Release(id="arch")}, {}),
        ("distribution-differs", 101, {"release": Release(id="debian", version="11")}, {}),
        ("release-differs", 25, {"release": Release(id="debian", version="12.1")}, {}),
        ("architecture", 101, {}, {"architecture": "aarch64"}),
        ("glibc-differs", 51, {"glibc": "2.35"}, {}),
        ("target-kernel", 101, {}, {"kernels": (change(kernel("6.1.0-50-amd64"), initrd=""),)}),
        ("target-kernel-pending", 51, {}, {"running_kernel": "6.1.0-40-amd64"}),
        ("kernel-older", 51, {"running_kernel": "6.12.3-amd64"}, {}),
        ("dkms", 51, {"packages": ("dkms",)}, {}),
        ("facts-incomplete", 51, {"unread": ("lsblk: missing",)}, {}),
        ("same-machine-id", 51, {}, {"machine_id": SOURCE.machine_id}),
        ("clock-far", 51, {}, {"clock": change(TARGET.clock, now=1_800_000_000 * 10**9)}),
        ("clock-rtc", 25, {"clock": change(SOURCE.clock, rtc_local=True)}, {}),
        ("memory", 51, {}, {"memory": GIB // 2}),
        ("port-taken", 51, {}, {"listening": (22, 4777)}),
        ("no-sshd", 51, {"listening": (2222,)}, {}),
        ("selinux-off", 25, {"security": Security(selinux="enforcing")}, {"command_line": "ro selinux=0"}),
        ("no-swap", 51, {}, {"swaps": ()}),
        ("network-mount", 25, {"fstab": (FstabEntry(spec="nas:/x", file="/x", vfstype="nfs4"),)}, {}),
        ("boot-loader-unknown", 101, {}, {"boot_loader": change(TARGET.boot_loader, kind="")}),
        ("one-shot", 51, {}, {"boot_loader": change(TARGET.boot_loader, environment="")}),
        ("one-shot", 51, {}, {"boot_loader": change(TARGET.boot_loader, kind="grub-legacy")}),
        ("grub-default-saved", 25, {}, {"boot_loader": change(TARGET.boot_loader, saved_default=False)}),
        ("grub-not-in-mbr", 51, {}, {"boot_loader": change(TARGET.boot_loader, stage1=())}),
        ("firmware-differs", 25, {}, {"firmware": Firmware(kind="uefi")}),
        ("secure-boot", 51, {}, {"firmware": Firmware(kind="uefi", secure_boot=True)}),
        ("secure-boot", 25, {"packages": ("shim",)}, {"firmware": Firmware(kind="uefi", secure_boot=True)}),
        ("root-chain-unknown", 51, {}, {"root_links": (Link(modalias="pci:x"),)}),
        ("network-unknown", 51, {"network_stacks": ()}, {}),
        ("fewer-nics", 51, {}, {"interfaces": ()}),
        ("dynamic-address", 25, {"interfaces": (change(SOURCE.interfaces[1], dynamic=True),)}, {}),
        ("layered-network", 51, {"interfaces": (Interface(name="br0", kind="bridge"),)}, {}),
        ("target-root-unknown", 101, {}, {"file_systems": ()}),
    ],
)
def test_each_fault(id: str, level: int, source: dict[str, object], target: dict[str, object]) -> None:
    found = ids(change(SOURCE, **source), change(TARGET, **target))
    assert found.get(id) == level, found


@pytest.mark.parametrize(
    ("id", "level", "source", "target"),
    [
        ("target-too-small", 101, {"used": 40 * GIB}, {}),
        ("target-inodes", 101, {"used_inodes": 3_000_000}, {}),
        ("fs-type-differs", 25, {"fstype": "xfs"}, {}),
        ("target-fs", 101, {}, {"fstype": "vfat"}),
        ("fs-feature", 51, {"features": (*EXT4, "casefold")}, {}),
        ("fs-times", 51, {}, {"features": (*EXT4, "small_inodes")}),
    ],
)
def test_each_fault_of_the_root(id: str, level: int, source: dict[str, object], target: dict[str, object]) -> None:
    assert ids(root(SOURCE, **source), root(TARGET, **target)) == {id: level}


def test_room_is_counted_per_file_system_of_the_target() -> None:
    """Two source file systems go to the target's root; each alone would fit."""
    data = FileSystem(mountpoint="/srv", fstype="ext4", source="/dev/sdb", used=20 * GIB, features=EXT4)
    two = root(change(SOURCE, file_systems=(*SOURCE.file_systems, data)), used=20 * GIB)
    assert "target-too-small" in ids(two)
    place = change(data, free=30 * GIB, free_inodes=-1)
    assert ids(two, change(TARGET, file_systems=(*TARGET.file_systems, place))) == {}


def test_room_that_is_split_on_the_target() -> None:
    var = FileSystem(mountpoint="/var", fstype="ext4", source="/dev/vdb", free=30 * GIB, features=EXT4)
    split = change(root(TARGET, free=10 * GIB), file_systems=(*root(TARGET, free=10 * GIB).file_systems, var))
    assert ids(root(SOURCE, used=35 * GIB), split) == {"room-split": Level.WARNING}
    assert ids(root(SOURCE, used=45 * GIB), split) == {"target-too-small": Level.INHIBITOR}


def test_subvolumes_share_their_space() -> None:
    """Counted once on either side; what goes to two places of the target may be less than all of it."""
    both = change(
        SOURCE, file_systems=tuple(change(SOURCE.file_systems[0], mountpoint=m, used=20 * GIB) for m in ("/", "/home"))
    )
    assert ids(both) == {}, "20 GiB, not 40, go to a file system with 34 free"
    room = tuple(change(TARGET.file_systems[0], mountpoint=m, free=15 * GIB) for m in ("/", "/home"))
    assert ids(both, change(TARGET, file_systems=room)) == {"room-split": Level.WARNING}
    one = change(TARGET, file_systems=(room[0], change(room[1], mountpoint="/var")))
    assert ids(root(SOURCE, used=20 * GIB), one) == {"target-too-small": Level.INHIBITOR}, "15 GiB, not 30"


def test_a_small_boot() -> None:
    boot = FileSystem(mountpoint="/boot", fstype="ext4", source="/dev/vdb", free=50 << 20, features=EXT4)
    assert ids(target=change(TARGET, file_systems=(*TARGET.file_systems, boot))) == {"boot-room": Level.WARNING}


def test_one_shot_on_lvm_needs_the_firmware() -> None:
    assert ids(target=with_lvm(TARGET)) == {"one-shot": Level.WARNING}
    assert "one-shot" not in ids(target=with_lvm(with_uefi(TARGET)))
    assert ids(root(SOURCE, fstype="btrfs"), root(TARGET, fstype="btrfs")) == {"one-shot": Level.WARNING}


def crypt(facts: ServerFacts) -> ServerFacts:
    lvm = with_lvm(facts)
    return change(lvm, devices=tuple(change(d, kind="crypt") if d.name == "dm-0" else d for d in lvm.devices))  # type: ignore[no-any-return]


def test_encryption() -> None:
    assert "encryption-lost" in ids(crypt(SOURCE))
    assert "target-encrypted" in ids(crypt(SOURCE), crypt(TARGET))
    assert "encryption-lost" not in ids(crypt(SOURCE), crypt(TARGET))


def test_unusual_and_network_storage() -> None:
    odd = tuple(change(d, kind="bcache") if d.name == "vda3" else d for d in TARGET.devices)
    assert ids(target=change(TARGET, devices=odd)) == {"unusual-storage": Level.WARNING}
    far = tuple(change(d, transport="iscsi") if d.name == "vda" else d for d in TARGET.devices)
    assert ids(target=change(TARGET, devices=far)) == {"network-root": Level.WARNING}


def test_encrypted_data_beside_the_root() -> None:
    lvm = crypt(SOURCE)
    data = FileSystem(mountpoint="/srv", fstype="ext4", source="/dev/mapper/vg-root", device="dm-0", features=EXT4)
    plain = tuple(change(f, device="sda1") for f in lvm.file_systems)
    assert ids(change(lvm, file_systems=(*plain, data))) == {"source-encrypted-data": Level.NOTE}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, facts in (("s", change(SOURCE, architecture="aarch64")), ("t", TARGET)):
        (tmp_path / name).write_bytes(msgspec.json.encode(facts))
    return ["--source-facts", str(tmp_path / "s"), "--target-facts", str(tmp_path / "t")]


def test_the_verb(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *files]) == 3
    assert "inhibitor architecture: the source is aarch64" in capsys.readouterr().out
    assert main(["check", *files, "--ignore", "architecture", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ignored"] == ["architecture"] and answer["findings"][0]["level"] == "warning"


@pytest.mark.parametrize("text", ["", "[]", '{"format": 99}', '{"format": "x"}'])
def test_no_facts(files: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[1]).write_text(text)
    assert main(["check", *files]) == 2
    assert files[1] in capsys.readouterr().err
    Path(files[1]).unlink()
    assert main(["check", *files]) == 2

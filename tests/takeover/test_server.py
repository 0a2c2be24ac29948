"""The verbs on made-up machines: what install puts where, what it refuses, and that uninstall leaves nothing."""

from __future__ import annotations

import errno
import gzip
import io
import json
import operator
import re
from pathlib import Path
from typing import Any

import pytest

from livelift.adapt.linux.grubenv import environment, environment_block
from livelift.checks.findings import Level
from livelift.errors import PreflightError, StateError
from livelift.model.facts import Device, FileSystem, ServerFacts
from livelift.takeover import cpio, installing, switch
from livelift.takeover.hooks import ORDER
from livelift.takeover.server import Options, TakeOver
from tests.edits.killer import run_until
from tests.edits.snapshot import snapshot
from tests.facts.tree import plant
from tests.machines import GIB, change, debian_target, rocky, with_lvm, with_uefi
from tests.takeover import grub
from tests.takeover.images import cpio as archive

pytestmark = pytest.mark.root

UDEV = '/scripts/init-bottom/udev "$@"\n'
DEBIAN_IMAGE = gzip.compress(archive({"init": b"", "scripts/functions": b"", ORDER: UDEV.encode()}))
DRACUT_IMAGE = gzip.compress(archive({"init": b"", "usr/lib/dracut/hooks": b"", "usr/lib/dracut/hooks/pre-pivot": b""}))


def machine(place: Path, facts: ServerFacts, image: bytes = DEBIAN_IMAGE) -> Path:
    """The target's root with what the take-over looks at, and a staged system in it."""
    loader, kernel = facts.boot_loader, facts.kernels[0]
    directory = loader.config.rpartition("/")[0]
    root = plant(
        place,
        {
            loader.config: grub.STOCK,
            loader.environment: environment_block({"kept": "1"}),
            f"{directory}/i386-pc/normal.mod": "the target's",
            f"{directory}/i386-pc/linux.mod": "the target's",
            kernel.image: b"kernel",
            kernel.initrd: image,
            "/.livelift/livelift-agent": "#!/bin/sh\n",
        },
    )
    boot = facts.mounted("/boot")
    staged = root / ".livelift/new"
    files: dict[str, str | bytes | None] = {
        "/usr/lib/systemd/systemd": b"\x7fELF", "/etc/systemd/system": None, "/etc/hostname": "moved\n",
    }  # fmt: skip
    theirs = {
        loader.config: "menuentry 'adapted' {\n  linux /boot/vmlinuz-1\n  initrd /boot/initrd-1\n}\n",
        loader.environment: environment_block({"next_entry": "0", "saved_entry": "x"}),
        f"{directory}/i386-pc/normal.mod": "the source's",
        f"{directory}/i386-pc/old.mod": "the source's",
    }
    if boot:
        plant(root / "boot/.livelift/new", {path.removeprefix("/boot"): text for path, text in theirs.items()})
    else:
        files.update(theirs)
    plant(staged, files)
    return root


def separate_boot(facts: ServerFacts) -> ServerFacts:
    device = Device(name="vda4", path="/dev/vda4", kind="part", parents=("vda",), fstype="ext4", uuid="bbbb-boot")
    place = FileSystem(mountpoint="/boot", fstype="ext4", source="/dev/vda4", device="vda4", size=GIB, free=GIB)
    return change(  # type: ignore[no-any-return]
        facts,
        devices=(*facts.devices, device),
        file_systems=(*facts.file_systems, place),
        command_line=facts.command_line.replace("BOOT_IMAGE=/boot/", "BOOT_IMAGE=/"),
    )


def ids(findings: list[Any], level: Level | None = None) -> set[str]:
    return {finding.id for finding in findings if level is None or finding.level is level}


def shown(root: Path) -> dict[str, Any]:
    """Without times, which a directory gets when something was in it for a while."""
    return {path: (v[:4], v[5:]) if isinstance(v, tuple) else v for path, v in snapshot(root).items()}


@pytest.mark.parametrize("apart", [False, True], ids=["one", "boot apart"])
@pytest.mark.parametrize("family", ["debian", "rocky"])
def test_install_arm_disarm_uninstall(tmp_path: Path, family: str, apart: bool) -> None:
    facts = debian_target() if family == "debian" else rocky(debian_target())
    facts = separate_boot(facts) if apart else facts
    root = machine(tmp_path / "root", facts, DEBIAN_IMAGE if family == "debian" else DRACUT_IMAGE)
    before = shown(root)
    mounts = ["/", "/boot"] if apart else ["/"]
    takeover = TakeOver(str(root))
    assert ids(takeover.install(facts, mounts, dry_run=True), Level.INHIBITOR) == set()
    assert shown(root) == before, "a dry run changes nothing"
    assert ids(takeover.install(facts, mounts)) == {"takeover-watchdog"}

    boot = root / "boot"
    staged = root / ("boot/.livelift/new" if apart else ".livelift/new/boot")
    name = "grub" if family == "debian" else "grub2"
    for place in (boot, staged):
        assert (place / "livelift-takeover.kernel").read_bytes() == b"kernel"
        names = {e.name for e in cpio.entries(io.BytesIO((place / "livelift-takeover.img").read_bytes()))}
        assert b"livelift/hook" in names
    live_menu, staged_menu = grub.Menu(boot / name), grub.Menu(staged / name)
    assert live_menu.wish() == "own" and staged_menu.wish() == ""
    prefix = "" if apart else "/boot"
    assert f"linux {prefix}/livelift-takeover.kernel root=UUID=bbbb-root ro" in "\n".join(staged_menu.chosen().lines)
    uuid = "bbbb-boot" if apart else "bbbb-root"
    assert f"search --no-floppy --fs-uuid --set=root {uuid}" in staged_menu.chosen().lines
    assert (staged / name / "i386-pc/normal.mod").read_text() == "the target's"
    assert (staged / name / "i386-pc/linux.mod").read_text() == "the target's"
    assert "adapted" in (staged / name / "livelift-adapted.cfg").read_text()
    assert environment((staged / name / "grubenv").read_text()) == {"saved_entry": "x"}
    unit = root / ".livelift/new/etc/systemd/system/livelift-confirm.service"
    assert "takeover confirm" in unit.read_text() and unit.stat().st_mode & 0o777 == 0o644
    link = unit.parent / "multi-user.target.wants/livelift-confirm.service"
    assert link.is_symlink() and link.resolve() == unit.resolve()

    installed = shown(root)
    takeover.install(facts, mounts)
    assert {k: v for k, v in shown(root).items() if "state.json" not in k} == {
        k: v for k, v in installed.items() if "state.json" not in k
    }, "once more changes nothing"
    assert takeover.standing().phase == "installed"

    takeover.arm()
    assert takeover.standing().phase == "armed" and grub.Menu(boot / name).wish() == ""
    with pytest.raises(StateError, match="armed"):
        takeover.uninstall()
    takeover.arm()
    takeover.disarm()
    takeover.disarm()
    assert takeover.standing().phase == "installed" and grub.Menu(boot / name).wish() == "own"
    takeover.uninstall()
    takeover.uninstall()
    after = shown(root)
    changed = {"grubenv", "normal.mod", "linux.mod"}
    assert {k: v for k, v in after.items() if k.rpartition("/")[2] not in changed and "wants" not in k} == {
        k: v for k, v in before.items() if k.rpartition("/")[2] not in changed
    }
    assert takeover.standing().phase == ""


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    facts = debian_target()
    root = machine(tmp_path / "root", facts)
    takeover = TakeOver(str(root))
    before = shown(root)

    def inhibitors(facts: ServerFacts, mounts: tuple[str, ...] = ("/",), options: Options | None = None) -> set[str]:
        found = takeover.install(facts, mounts, options)
        assert all(f.diagnosis and f.remedy for f in found if f.level is Level.INHIBITOR)
        return ids(found, Level.INHIBITOR)

    loader = facts.boot_loader
    assert inhibitors(change(facts, boot_loader=change(loader, kind="systemd-boot"))) == {"takeover-boot-loader"}
    assert inhibitors(change(facts, running_kernel="5.0")) == {"takeover-kernel"}
    assert inhibitors(facts, ("/home",)) >= {"takeover-root", "takeover-staged", "takeover-volume"}
    assert "takeover-boot-left-out" in inhibitors(separate_boot(facts))
    root_fs = facts.file_systems[0]
    assert inhibitors(change(facts, file_systems=(change(root_fs, fstype="zfs"),))) == {"takeover-file-system"}
    assert inhibitors(facts, options=Options(agent="/elsewhere/agent")) == {"takeover-agent"}
    crypt = Device(name="dm-1", path="/dev/mapper/c", kind="crypt", parents=("vda",), fstype="ext4", uuid="c")
    home = FileSystem(mountpoint="/home", fstype="ext4", source="/dev/mapper/c", device="dm-1")
    (root / "home/.livelift/new").mkdir(parents=True)
    with_crypt = change(facts, devices=(*facts.devices, crypt), file_systems=(*facts.file_systems, home))
    assert inhibitors(with_crypt, ("/", "/home")) == {"takeover-crypt"}
    (root / "home/.livelift/new").rmdir()
    (root / "home/.livelift").rmdir()
    (root / "home").rmdir()
    (root / "boot/grub/grub.cfg").write_text(grub.STOCK.replace("custom.cfg", "other.cfg"))
    assert inhibitors(facts) == {"takeover-menu"}
    (root / "boot/grub/grub.cfg").write_text(grub.STOCK)
    (root / ".livelift/new/usr/lib/systemd/systemd").rename(root / "aside")
    assert inhibitors(facts) == {"takeover-init"}
    (root / "aside").rename(root / ".livelift/new/usr/lib/systemd/systemd")
    assert shown(root) == before, "nothing was changed"


def test_a_target_whose_grub_cannot_write(tmp_path: Path) -> None:
    facts = with_lvm(debian_target())
    root = machine(tmp_path / "root", facts)
    takeover = TakeOver(str(root))
    findings = takeover.install(facts, ["/"])
    assert ids(findings, Level.WARNING) == {"takeover-one-shot", "takeover-counting"}
    config = json.loads((root / ".livelift/takeover/config.json").read_text())
    assert config["counting"] == "stage" and config["volumes"][0]["spec"] == "/dev/mapper/vg-root"
    assert "lvm" in config["menu"]["modules"]
    takeover.arm()
    assert takeover.standing().shot == "switch"
    assert grub.Menu(root / "boot/grub", writable=False).wish() == ""
    assert environment((root / "boot/grub/grubenv").read_text()) == {"kept": "1"}, "next_entry would stay for ever"
    takeover.disarm()
    assert grub.Menu(root / "boot/grub", writable=False).wish() == "own"


def test_a_menu_that_does_not_clear_next_entry(tmp_path: Path) -> None:
    facts = debian_target()
    root = machine(tmp_path / "root", facts)
    (root / "boot/grub/grub.cfg").write_text(grub.STOCK.replace("save_env next_entry", "true"))
    findings = TakeOver(str(root)).install(facts, ["/"])
    assert ids(findings, Level.WARNING) == {"takeover-one-shot"}


class Firmware:
    """efibootmgr(8), as far as we use it."""

    def __init__(self) -> None:
        self.entries = {"0000": "debian", "0003": "UEFI Shell"}
        self.next = ""
        self.loaders: dict[str, str] = {}

    def __call__(self, words: tuple[str, ...]) -> str:
        assert words[0] == "efibootmgr"
        options = dict(zip(words[1:], [*words[2:], ""], strict=False))
        if "--create-only" in options:
            number = next(f"{n:04X}" for n in range(1, 99) if f"{n:04X}" not in self.entries)
            self.entries[number] = options["--label"]
            self.loaders[number] = " ".join(options[name] for name in ("--disk", "--part", "--loader", "--unicode"))
        if "--bootnext" in options:
            self.next = options["--bootnext"]
        if "--delete-bootnext" in options:
            self.next = ""
        if "--delete-bootnum" in options:
            del self.entries[options["--bootnum"]]
        head = [f"BootNext: {self.next}"] if self.next else []
        lines = [f"Boot{n}* {label}\tHD(1,GPT,x)/File(y)" for n, label in sorted(self.entries.items())]
        return "\n".join([*head, "BootCurrent: 0000", "Timeout: 1 seconds", "BootOrder: 0000,0003", *lines]) + "\n"


def test_the_firmware_boots_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = with_lvm(with_uefi(debian_target()))
    root = machine(tmp_path / "root", facts)
    plant(root, {"/sys/class/block/vda1/partition": "1\n", "/boot/efi/EFI": None})
    firmware = Firmware()
    monkeypatch.setattr("livelift.facts.host.Host.try_run", lambda self, *words: firmware(words))
    takeover = TakeOver(str(root), firmware)
    assert ids(takeover.install(facts, ["/"])) == {"takeover-one-shot", "takeover-counting", "takeover-watchdog"}
    assert (root / "boot/efi/EFI/livelift/kernel.efi").read_bytes() == b"kernel"
    for _ in range(2):
        takeover.arm()
        assert firmware.entries[firmware.next] == "Livelift take-over"
        told = firmware.loaders[firmware.next]
        assert told.startswith(r"/dev/vda 1 \EFI\livelift\kernel.efi initrd=\EFI\livelift\image.img root=/dev/mapper")
        assert list(firmware.entries.values()).count("Livelift take-over") == 1
    assert grub.Menu(root / "boot/grub", writable=False).wish() == "own"
    takeover.disarm()
    assert firmware.next == "" and firmware.entries == {"0000": "debian", "0003": "UEFI Shell"}
    takeover.uninstall()
    assert not (root / "boot/efi/EFI/livelift").exists()

    full = change(facts, file_systems=tuple(change(f, free=1 << 20) for f in facts.file_systems))
    found = {f.id: f.diagnosis for f in takeover.install(full, ["/"])}
    assert "the ESP has 1 MiB free" in found["takeover-one-shot"]
    for config in ("", "CONFIG_EFI_STUB=y\n# CONFIG_EFI_GENERIC_STUB_INITRD_CMDLINE_LOADER is not set\n"):
        (root / f"boot/config-{facts.running_kernel}").write_text(config or "CONFIG_X=y\n")
        found = {f.id: f.diagnosis for f in takeover.install(facts, ["/"])}
        assert "not built to be started by the firmware" in found["takeover-one-shot"]

    secure = change(facts, firmware=change(facts.firmware, secure_boot=True))
    found = {f.id: f.diagnosis for f in takeover.install(secure, ["/"])}
    assert "Secure Boot" in found["takeover-one-shot"] and takeover.standing().shot == "switch"


LEFT = ("grubenv", "normal.mod", "linux.mod")
"""What is the target's own in the staged boot directory stays, as do directories that were made."""


def told_apart(root: Path) -> dict[str, Any]:
    return {
        path: value
        for path, value in shown(root).items()
        if path.rpartition("/")[2] not in LEFT and "wants" not in path and path != "hard links"
    }


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image without Python: it takes seconds to make."""
    monkeypatch.setattr(installing.closure, "python_files", list)
    monkeypatch.setattr(installing.image, "build", lambda initrd, files: initrd)
    monkeypatch.setattr(installing.image, "check", lambda files, work: None)


STEPS = (
    "fit.put_images", "fit.fit_staged", "fit.put_unit", "fit.fit_live", "reserve.hold", "image.check", "_write_config",
    "_write_state", "Site.sync",
)  # fmt: skip


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("view", [False, True], ids=["staged", "seen elsewhere"])
@pytest.mark.parametrize("step", STEPS)
def test_a_first_install_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, view: bool
) -> None:
    """Each step is done, and then its disk is full."""
    facts = debian_target() if view else separate_boot(debian_target())
    mounts, options = (["/"], Options(staged=str(tmp_path / "root/view"))) if view else (["/", "/boot"], Options())
    root = machine(tmp_path / "root", facts)
    if view:
        (root / ".livelift/new").rename(root / "view")
        (root / ".livelift/new").mkdir()
    before, takeover = told_apart(root), TakeOver(str(root))
    done = operator.attrgetter(step)(installing)

    def fail() -> None:
        with monkeypatch.context() as patch:

            def full(*words: Any) -> None:
                done(*words)
                patch.undo()
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(f"livelift.takeover.installing.{step}", full)
            with pytest.raises(OSError, match="No space left"):
                takeover.install(facts, mounts, options)

    fail()
    assert told_apart(root) == before and takeover.standing().phase == ""

    takeover.install(facts, mounts, options)
    installed = set(told_apart(root))
    fail()
    assert set(told_apart(root)) == installed and takeover.standing().phase == "installed", "what stood before does"


@pytest.mark.usefixtures("light")
def test_an_install_that_died_can_be_taken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any call; it is not armed before it has been finished, either."""
    facts = separate_boot(debian_target())
    at, finished = 0, False
    while not finished:
        root = machine(tmp_path / str(at), facts)
        before, takeover = told_apart(root), TakeOver(str(root))
        finished = run_until(monkeypatch, at, lambda takeover=takeover: takeover.install(facts, ["/", "/boot"]))
        if takeover.standing().phase == "":
            with pytest.raises(StateError, match=r"no take-over is installed|in part|staged boot|image"):
                takeover.arm()
        takeover.uninstall()
        left = {path: value for path, value in told_apart(root).items() if not path.endswith(".new")}
        assert left == before, at
        at += 7
    assert at > 100


@pytest.mark.usefixtures("light")
def test_a_file_system_that_takes_part_no_more(tmp_path: Path) -> None:
    facts = debian_target()
    home = FileSystem(mountpoint="/home", fstype="ext4", source="/dev/vda2", device="vda2", size=GIB, free=GIB)
    root, apart = machine(tmp_path / "root", facts), change(facts, file_systems=(*facts.file_systems, home))
    (root / "home/.livelift/new").mkdir(parents=True)
    takeover = TakeOver(str(root))
    takeover.install(apart, ["/", "/home"])
    kept = root / "home/.livelift/swap/reserve"
    assert kept.stat().st_size == 1 << 20
    takeover.install(facts, ["/"])
    assert not kept.parent.exists() and (root / ".livelift/swap/reserve").exists()
    (root / ".livelift/takeover/config.json").write_text("damaged")
    takeover.install(facts, ["/"])
    takeover.uninstall()


def test_no_room_for_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = debian_target()
    root = machine(tmp_path / "root", facts)
    monkeypatch.setattr("livelift.takeover.installing.HEADROOM", 1 << 60)
    with pytest.raises(PreflightError, match="MiB free"):
        TakeOver(str(root)).install(facts, ["/"])
    assert not (root / "boot/livelift-takeover.img").exists()


def test_nothing_is_installed(tmp_path: Path) -> None:
    root = machine(tmp_path / "root", debian_target())
    takeover = TakeOver(str(root))
    for act in (takeover.arm, takeover.disarm):
        with pytest.raises(StateError, match="no take-over is installed"):
            act()
    with pytest.raises(StateError, match="no take-over is installed"):
        takeover.commit()
    for act in (takeover.back, takeover.confirm):
        with pytest.raises(StateError, match="the old system stands"):
            act()
    takeover.uninstall()
    assert takeover.standing()._asdict() | {"system": "old", "phase": ""} == takeover.standing()._asdict()


def test_arm_refuses_what_would_not_lead_back(tmp_path: Path) -> None:
    facts = debian_target()
    root = machine(tmp_path / "root", facts)
    takeover = TakeOver(str(root))
    takeover.install(facts, ["/"])
    for path in ("boot/grub/grub.cfg", "boot/grub/livelift.cfg", "boot/livelift-takeover.img"):
        file = root / ".livelift/new" / path
        kept = file.read_bytes()
        file.write_bytes(b"menuentry 'the source again' {\n}\n")
        if path.endswith(".img"):
            file.unlink()
        with pytest.raises(StateError, match="would not lead back"):
            takeover.arm()
        assert grub.Menu(root / "boot/grub").wish() == "own"
        file.write_bytes(kept)
    (root / "boot/livelift-takeover.kernel").unlink()
    with pytest.raises(StateError, match="image of the take-over is missing"):
        takeover.arm()
    takeover.install(facts, ["/"])
    takeover.arm()


def test_the_staged_system_seen_elsewhere(tmp_path: Path) -> None:
    """As the layers of the adaptation show it."""
    facts = debian_target()
    root = machine(tmp_path / "root", facts)
    (root / ".livelift/new").rename(tmp_path / "view")
    (root / ".livelift/new").mkdir()
    TakeOver(str(root)).install(facts, ["/"], Options(staged=str(tmp_path / "view")))
    assert switch.is_own_menu((tmp_path / "view/boot/grub/grub.cfg").read_text())
    assert list((root / ".livelift/new").iterdir()) == []


def test_a_staged_system_cannot_lead_us_out_of_it(tmp_path: Path) -> None:
    facts = debian_target()
    root = machine(tmp_path / "root", facts)
    staged = root / ".livelift/new"
    (tmp_path / "outside").mkdir()
    for path in ("boot", "etc/systemd"):
        (staged / path).rename(staged / f"{path}-moved")
        (staged / path).symlink_to(tmp_path / "outside")
    with pytest.raises(OSError):
        TakeOver(str(root)).install(facts, ["/"])
    assert list((tmp_path / "outside").iterdir()) == []


def test_two_starts_where_labels_are_written_first(tmp_path: Path) -> None:
    facts = debian_target()
    root = machine(tmp_path / "root", facts)
    (root / ".livelift/new/.autorelabel").touch()
    TakeOver(str(root)).install(facts, ["/"], Options(seconds=77, services=("a.service",), command_line="root=X quiet"))
    config = json.loads((root / ".livelift/takeover/config.json").read_text())
    assert config["starts"] == 2 and config["seconds"] == 77 and config["confirm"]["services"] == ["a.service"]
    assert re.fullmatch(r"root=X quiet panic=30 .*", config["menu"]["command_line"])

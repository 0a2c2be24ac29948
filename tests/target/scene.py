"""A replica of a made-up Debian on real file systems, a made-up target beside it, and a take-over that only tells."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from livelift.checks.findings import Finding, Level
from livelift.errors import StateError
from livelift.model.facts import Device, FileSystem, FstabEntry, ServerFacts
from livelift.model.job import Map
from livelift.takeover.plan_config import Options
from livelift.takeover.probe import interpreter
from livelift.takeover.server import Standing
from livelift.target.adapting import Adapting
from livelift.target.server import ServerTarget, parts
from tests.adapt.linux.trees import debian_new, debian_old
from tests.edits.snapshot import snapshot
from tests.facts.tree import plant
from tests.machines import GIB, change, debian_target
from tests.takeover.images import cpio

OLD, NEW = "6.1.0-49-amd64", "6.1.0-50-amd64"
UNIT = "[Service]\nExecStart=/bin/sh /.livelift/livelift-agent target\n"


def image(version: str) -> bytes:
    names = ["init"] + [f"usr/lib/modules/{version}/kernel/{m}.ko" for m in ("virtio_blk", "virtio_pci", "ext4")]
    return gzip.compress(cpio({name: b"x" for name in names}), mtime=0)


def target_facts() -> ServerFacts:
    """With a /boot of its own."""
    target = debian_target()
    boot = FileSystem(mountpoint="/boot", fstype="ext4", source="/dev/vda4", device="vda4", free=GIB, free_inodes=9000)
    device = Device(name="vda4", path="/dev/vda4", kind="part", parents=("vda",), fstype="ext4", uuid="bbbb-boot")
    entry = FstabEntry(spec="UUID=bbbb-boot", file="/boot", vfstype="ext4", passno=2)
    return change(  # type: ignore[no-any-return]
        target,
        file_systems=(*target.file_systems, boot),
        devices=(*target.devices, device),
        fstab=(*target.fstab, entry),
        command_line=target.command_line.replace("/boot/vmlinuz", "/vmlinuz"),
    )


class TakeOverDouble:
    """Stands where the take-over stands; ``found`` is what it says of itself."""

    def __init__(self, calls: list[str], live: Path) -> None:
        self.calls = calls
        self.live = live
        self.found = Standing("old")
        self.options = Options()
        self.wrong: list[Finding] = []
        self.refuses = False

    def standing(self) -> Standing:
        return self.found

    def install(self, facts: object, mounts: list[str], options: Options, dry_run: bool) -> list[Finding]:
        self.calls.append(f"install {' '.join(mounts)}{' dry' if dry_run else ''}")
        self.options = options
        if not dry_run and not self.wrong:
            for boot in (Path(options.staged, "boot"), self.live / "boot"):  # both systems get the switch
                (boot / "livelift-takeover.img").write_text("image")
                (boot / "grub/livelift.cfg").write_text("switch")
            self.found = Standing("old", "installed")
        return self.wrong

    def check(self) -> None:
        self.calls.append("check")
        if self.refuses:
            raise StateError("it would not lead back")

    def arm(self) -> None:
        self.calls.append("arm")
        if self.refuses:
            raise OSError(30, "Read-only file system")
        self.found = self.found._replace(phase="armed")

    def disarm(self) -> None:
        self.calls.append("disarm")
        self.found = self.found._replace(phase="returned" if self.found.phase == "returned" else "installed")

    def uninstall(self) -> None:
        self.calls.append("uninstall")

    def back(self) -> None:
        self.calls.append("back")
        self.found = self.found._replace(phase="back")

    def commit(self, free: bool, ignored: Collection[str], begins: Callable[[], None]) -> list[Finding]:
        wrong = [Finding("probe-modules", Level.INHIBITOR, "its initramfs would not start it")] if self.refuses else []
        if wrong and "probe-modules" not in ignored:
            raise StateError("its initramfs would not start it")
        begins()
        self.calls.append(f"commit {free}")
        self.found = Standing("old")  # what it was known by is gone
        return wrong


class Scene:
    """``replica``: of the root; ``boot``: of /boot, on a disk of its own."""

    def __init__(self, disks: list[Path], tmp_path: Path) -> None:
        self.replica, self.boot = (disk / ".livelift/new" for disk in disks)
        self.target = tmp_path / "target"
        self.state = tmp_path / "state"
        self.state.mkdir()
        self.cut = False
        self.built: list[tuple[str, ...]] = []
        self.calls: list[str] = []
        self.takeover = TakeOverDouble(self.calls, self.target)
        files = {path: c if isinstance(c, str) else "x" * 8 for path, c in debian_old().items() if path[-1] != "/"}
        texts = {
            "/usr/lib/systemd/systemd": b"\x7fELF",
            "/sbin/init": "-> ../usr/lib/systemd/systemd",
            "/bin/true": Path("/bin/true").read_bytes(),
            interpreter(Path("/bin/true").read_bytes()): b"loader",
            "/lib/modules": "-> ../usr/lib/modules",
            f"/boot/initrd.img-{OLD}": b"the source's own",
            "/usr/lib/os-release": "ID=debian\nVERSION_ID=12\nPRETTY_NAME=Debian\n",
            "/etc/os-release": "-> ../usr/lib/os-release",
            "/etc/hostname": "source\n",
            "/usr/sbin/update-initramfs": "#!/bin/sh\n",
            "/usr/lib/grub/i386-pc/modinfo.sh": "",
            **{f"/{path}": text for path, text in files.items() if path not in TREES},
        }
        plant(self.replica, {p: c for p, c in texts.items() if not p.startswith("/boot/")} | {"/boot": None})
        plant(self.boot, {p.removeprefix("/boot"): c for p, c in texts.items() if p.startswith("/boot/")})
        (self.replica / "usr/lib/systemd/systemd").chmod(0o755)
        new = {path: c if isinstance(c, str) else "x" * c.size for path, c in debian_new().items() if path not in TREES}
        plant(
            self.target,
            {
                **{f"/{path}": text for path, text in new.items()},
                f"/boot/initrd.img-{NEW}": image(NEW),
                f"/usr/lib/modules/{NEW}/modules.dep": "x",
                "/boot/grub/core.img": "target's",
                "/boot/grub/grub.cfg": "set root=bbbb\nsource $prefix/custom.cfg\n",
                "/etc/systemd/system/livelift-target.service": UNIT,
                "/lib": "-> usr/lib",
            },
        )
        lines = (Map(b"/", os.fsencode(self.replica)), Map(b"/boot", os.fsencode(self.boot)))
        self.maps = lines
        self.parts = parts(lines)

    def run(self, root_fd: int, arguments: tuple[str, ...], seconds: float, inherited: tuple[int, ...]) -> str:
        if arguments[0] == "update-initramfs":
            self.built.append(arguments)
            path = Path(os.readlink(f"/proc/self/fd/{root_fd}"), f"boot/initrd.img-{OLD}")
            path.write_bytes(image(OLD))
        return ""

    def server(self) -> ServerTarget:
        base = str(self.replica.parent)
        return ServerTarget(
            str(self.state),
            self.maps,
            lambda: self.cut,
            str(self.target),
            target_facts,
            Adapting(self.parts, base, str(self.target), self.run),
            self.takeover,  # type: ignore[arg-type]
            lambda: self.calls.append("reboot"),
        )

    def snapshots(self) -> list[dict[str, Any]]:
        return [snapshot(self.replica), snapshot(self.boot)]


TREES = ("boot/grub", f"usr/lib/modules/{OLD}", f"usr/lib/modules/{NEW}")

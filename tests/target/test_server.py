"""The target's steps of a server job, on real file systems: a replica of a made-up Debian, a made-up target."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from livelift.edits import overlay
from livelift.errors import PreflightError, StateError, UsageError
from livelift.model.job import Map
from livelift.platform.linux import namespaces
from livelift.takeover.probe import interpreter
from livelift.target import server as server_module
from livelift.target.adapting import Adapting
from livelift.target.server import ServerTarget, parts
from tests.adapt.linux.trees import debian_new, debian_old
from tests.edits.snapshot import snapshot
from tests.facts.tree import plant
from tests.loopfs import loop_filesystem
from tests.machines import debian_source, debian_target
from tests.takeover.images import cpio

pytestmark = pytest.mark.root
OLD, NEW = "6.1.0-49-amd64", "6.1.0-50-amd64"
UNIT = "[Service]\nExecStart=/bin/sh /.livelift/livelift-agent target\n"


def image(version: str) -> bytes:
    names = ["init"] + [f"usr/lib/modules/{version}/kernel/{m}.ko" for m in ("virtio_blk", "virtio_pci", "ext4")]
    return gzip.compress(cpio({name: b"x" for name in names}), mtime=0)


class Scene:
    """``replica``: of the root; ``boot``: of /boot, on a disk of its own."""

    def __init__(self, disks: list[Path], tmp_path: Path) -> None:
        self.replica, self.boot = (disk / ".livelift/new" for disk in disks)
        self.target = tmp_path / "target"
        self.state = tmp_path / "state"
        self.state.mkdir()
        self.cut = False
        self.built: list[tuple[str, ...]] = []
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
                "/etc/systemd/system/livelift-target.service": UNIT,
                "/lib": "-> usr/lib",
            },
        )
        lines = (Map(b"/", os.fsencode(self.replica)), Map(b"/boot", os.fsencode(self.boot)))
        self.maps = lines
        self.parts = parts(lines)

    def run(self, root_fd: int, arguments: tuple[str, ...], seconds: float = 0) -> str:
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
            debian_target,
            Adapting(self.parts, base, str(self.target), self.run),
        )

    def snapshots(self) -> list[dict[str, Any]]:
        return [snapshot(self.replica), snapshot(self.boot)]


TREES = ("boot/grub", f"usr/lib/modules/{OLD}", f"usr/lib/modules/{NEW}")


@pytest.fixture(scope="module")
def disks() -> Iterator[list[Path]]:
    with ExitStack() as undo:
        yield [undo.enter_context(loop_filesystem("ext4", 120)) for _ in range(2)]


@pytest.fixture
def scene(disks: list[Path], tmp_path: Path) -> Iterator[Scene]:
    yield Scene(disks, tmp_path)
    for disk in disks:
        subprocess.run(["rm", "-rf", str(disk / ".livelift")], check=True)


SOURCE = {"facts": msgspec.to_builtins(debian_source())}


def test_from_facts_to_a_settled_system_and_back(scene: Scene) -> None:
    server = scene.server()
    with pytest.raises(StateError, match="has not sent its facts"):
        server.adapt({})
    assert server.facts(SOURCE)["facts"]["hostname"] == "target"
    assert server.check({})["inhibitors"] == 0
    before = scene.snapshots()
    shown = server.plan({})
    assert "UUID=bbbb-root" in shown["text"] and any(e["id"] == "agent/unit" for e in shown["plan"]["edits"])
    assert server.stale({}) == {"stale": True, "why": ["there is no adaptation"]}

    made = server.adapt({})
    assert made["mode"] == "layers" and made["edits"] > 15 and not made["already"]
    assert scene.built == [("update-initramfs", "-u", "-k", OLD)]
    assert scene.snapshots() == before, "the replica stays pure"
    assert server.stale({}) == {"stale": False, "why": []}
    assert server.adapt({})["already"] and len(scene.built) == 1
    with pytest.raises(StateError, match="before the cut"):
        server.settle({})

    scene.cut = True
    server = scene.server()  # another process: all that it knows is on disk
    assert server.settle({})["entries"] > 10
    assert (scene.replica / "etc/fstab").read_text().startswith("# my disks\nUUID=bbbb-root")
    assert (scene.boot / "grub/core.img").read_text() == "target's"
    assert (scene.boot / f"initrd.img-{OLD}").read_bytes() == image(OLD)
    assert (scene.boot / f"vmlinuz-{NEW}").exists() and (scene.replica / f"usr/lib/modules/{NEW}/modules.dep").exists()
    assert (scene.replica / "etc/systemd/system/livelift-target.service").read_text() == UNIT
    assert os.readlink(scene.replica / "etc/systemd/system/multi-user.target.wants/livelift-target.service")
    assert server.settle({})["already"] and server.probe({})["inhibitors"] == 0
    for verb in (server.adapt, server.plan):
        with pytest.raises(StateError, match="is settled"):
            verb({})
    assert server.unsettle({})["entries"] > 10
    assert scene.snapshots() == before
    assert server.unsettle({}) == {"entries": 0}
    assert server.drop({}) == {"dropped": True}
    assert not (scene.replica.parent / "overlay").exists()
    assert scene.snapshots() == before


def test_what_the_source_changes_makes_it_stale(scene: Scene) -> None:
    server = scene.server()
    server.facts(SOURCE)
    server.adapt({})
    same = (scene.boot / f"initrd.img-{OLD}").read_bytes()
    (scene.boot / f"initrd.img-{OLD}").write_bytes(same)  # replay may write the same once more
    (scene.replica / "srv").mkdir()
    (scene.replica / "srv/data").write_text("what a service writes")
    assert not server.stale({})["stale"]
    with (scene.replica / "etc/fstab").open("a") as file:
        file.write("tmpfs /scratch tmpfs defaults 0 0\n")
    assert server.stale({}) == {"stale": True, "why": ["edit storage/etc/fstab"]}
    scene.cut = True
    with pytest.raises(StateError, match="edit storage/etc/fstab"):
        server.settle({})
    scene.cut = False
    assert not server.adapt({})["already"]
    assert not server.stale({})["stale"]
    (scene.boot / f"initrd.img-{OLD}").write_bytes(b"built again by an upgrade")
    assert server.stale({})["why"] == [f"/boot/initrd.img-{OLD}"]
    plant(scene.boot, {"/vmlinuz-6.1.0-51-amd64": "kernel"})
    plant(scene.replica, {"/usr/lib/modules/6.1.0-51-amd64/modules.dep": "", "/etc/netplan/x.yaml": "network: {}\n"})
    why = server.stale({})["why"]
    assert "edit initramfs/build/6.1.0-51-amd64" in why and "edit network/etc/netplan/x.yaml" in why


def test_policy_and_rules_are_kept(scene: Scene) -> None:
    server = scene.server()
    server.facts(SOURCE)
    assert server.adapt({}) and server.addresses({}) == {"moves": []}
    with pytest.raises(UsageError, match="map file"):
        server.plan({"policy": "network = 'nonsense'"})
    shown = server.plan({"policy": 'network = "take-source"', "rules": 'skip = ["agent/*"]'})
    assert "ens3 becomes enp0s3" in shown["text"] and shown["plan"]["skipped"]
    assert server.stale({})["stale"], "the plan is another one now"
    scene.server().adapt({})
    assert scene.server().addresses({}) == {"moves": [{"address": "192.0.2.10/24", "interface": "ens3"}]}
    scene.cut = True
    server = scene.server()
    server.settle({})
    assert "iface enp0s3 inet static\n address 192.0.2.10/24" in (scene.replica / "etc/network/interfaces").read_text()


def test_an_inhibitor_of_the_probe_is_told_before_and_can_be_ignored(scene: Scene) -> None:
    server = scene.server()
    server.facts(SOURCE)
    (scene.replica / "sbin/init").unlink()
    with pytest.raises(PreflightError, match="probe-init"):
        server.adapt({})
    assert server.stale({})["why"] == ["there is no adaptation"]
    made = server.adapt({"ignore": ["probe-init"]})
    assert [f["level"] for f in made["findings"] if f["id"] == "probe-init"] == ["warning"]


def test_what_fails_behind_the_fence_is_taken_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    server = scene.server()
    server.facts(SOURCE)
    server.adapt({})
    before = scene.snapshots()
    scene.cut = True
    (scene.replica / "sbin/init").unlink()  # nothing that the plan looks at
    gone = scene.snapshots()
    with pytest.raises(PreflightError, match="probe-init"):
        server.settle({})
    assert scene.snapshots() == gone and not server.status()["settled"]
    (scene.replica / "sbin/init").symlink_to("../usr/lib/systemd/systemd")
    assert server.settle({})["entries"]
    server.unsettle({})
    for snap in (before, scene.snapshots()):
        snap[0].pop("sbin")  # its time
    assert scene.snapshots()[1] == before[1]


def test_without_overlayfs_it_is_made_behind_the_fence(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: bytes, target: bytes, fstype: bytes = b"", flags: int = 0, data: bytes = b"") -> None:
        if fstype == b"overlay":
            raise OSError(19, "No such device")
        real(source, target, fstype, flags, data)

    real = namespaces.mount
    monkeypatch.setattr(namespaces, "mount", refuse)
    server = scene.server()
    server.facts(SOURCE)
    assert "adapt-in-place" in [f["id"] for f in server.check({})["findings"]]
    before = scene.snapshots()
    made = server.adapt({})
    assert made["mode"] == "in-place" and not scene.built and server.status()["mode"] == "in-place"
    assert "adapt-in-place" in [f["id"] for f in made["findings"]]
    assert not server.stale({})["stale"] and scene.snapshots() == before
    scene.cut = True
    assert server.settle({})["entries"] > 15 and scene.built
    assert (scene.replica / "etc/fstab").read_text().startswith("# my disks\nUUID=bbbb-root")
    server.unsettle({})
    assert scene.snapshots() == before


def test_no_room_for_the_adaptation(scene: Scene) -> None:
    server = scene.server()
    server.facts(SOURCE)
    filler = scene.boot.parent / "filler"
    try:
        with pytest.raises(PreflightError, match="adapt-room"):
            st = os.statvfs(scene.boot)
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, st.f_bavail * st.f_frsize - 4096)
            server.adapt({})
    finally:
        filler.unlink()


def test_a_damaged_memory_is_told(scene: Scene) -> None:
    (scene.state / "stage.json").write_text("{")
    with pytest.raises(Exception, match="delete it"):
        scene.server()


def test_the_parts_are_mounted_outer_first() -> None:
    lines = [Map(path, path.rstrip(b"/") + b"/.livelift/new") for path in (b"/var/lib", b"/", b"/var")]
    assert [part.mountpoint for part in parts(lines)] == ["/", "/var", "/var/lib"]
    assert parts(lines)[0] == overlay.Part("/", "/.livelift")
    with pytest.raises(UsageError, match="without a line for /"):
        ServerTarget("/nowhere", lines[:1], lambda: False)
    assert server_module.facts_of().running_kernel == os.uname().release

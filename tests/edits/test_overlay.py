"""The adaptation is made in layers over real file systems, put into the replica, and taken out again exactly."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from livelift.adapt.changes import CopyFile, CopyTree, DeleteFile, MakeLink, RenameFile, RunCommand, WriteFile
from livelift.adapt.plan import Edit, Plan
from livelift.edits import overlay, settle_journal
from livelift.edits.layer import LayerEditor
from livelift.edits.overlay import Part
from livelift.edits.settle import Settler
from livelift.errors import CorruptError, StateError
from livelift.platform.linux import files, inode_flags, namespaces
from tests.edits.killer import run_until
from tests.edits.snapshot import snapshot
from tests.facts.tree import plant
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root

CHANGES = [
    CopyFile("boot/vmlinuz-new", "boot/vmlinuz-new", 6),
    CopyTree("lib/modules/new", "lib/modules/new", 3, 7),
    WriteFile("etc/fstab", b"new table\n"),
    WriteFile("etc/deep/er/file", b"in new directories\n", 0o600),
    WriteFile("etc/linked", b"no longer linked\n"),
    WriteFile("etc/guarded", b"changed all the same\n"),
    DeleteFile("etc/gone"),
    DeleteFile("etc/never-there"),
    RenameFile("boot/grub", "boot/grub.source"),
    CopyTree("boot/grub", "boot/grub", 1, 4),
    WriteFile("boot/grub/grub.cfg", b"menu\n"),
    MakeLink("etc/unit", "/dev/null"),
    MakeLink("etc/link", "new-text"),
    RunCommand(("build",), ("boot/initrd", "etc/made")),
    WriteFile("etc/fstab", b"newer table\n"),
]
PLAN = Plan("test", tuple(Edit(f"edit/{n}", "because", change) for n, change in enumerate(CHANGES)))
WHEN = 1_600_000_000 * 10**9


def build(root_fd: int, arguments: tuple[str, ...]) -> str:
    """A program that writes one file in place and makes one. Its view is the thread's that the editor runs in."""
    root = os.readlink(f"/proc/self/fd/{root_fd}")
    with open(f"{root}/boot/initrd", "r+b") as file:
        file.write(b"NEW")
    Path(f"{root}/etc/made").write_bytes(b"made")
    return ""


def flags(path: Path, value: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        inode_flags.set_flags(fd, inode_flags.get_flags(fd) & ~inode_flags.BARRIERS | value)
    finally:
        os.close(fd)


def barriers(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return inode_flags.get_flags(fd) & inode_flags.BARRIERS
    finally:
        os.close(fd)


@pytest.fixture(scope="module", params=["ext4", "xfs", "btrfs"])
def disks(request: pytest.FixtureRequest) -> Iterator[tuple[Path, Path]]:
    with ExitStack() as undo:
        yield (
            undo.enter_context(loop_filesystem(request.param, 16)),
            undo.enter_context(loop_filesystem(request.param, 16)),
        )


class Scene:
    """The replica of a root and of a /boot, each on its own disk, and the target's tree."""

    def __init__(self, disks: tuple[Path, Path], tmp_path: Path) -> None:
        self.parts = [Part("/", str(disks[0] / ".livelift")), Part("/boot", str(disks[1] / ".livelift"))]
        self.replicas = [Path(part.place) / "new" for part in self.parts]
        self.view = str(tmp_path / "view")
        self.target = str(tmp_path / "target")
        self.plant(tmp_path)

    def plant(self, tmp_path: Path) -> None:
        root, boot = self.replicas
        plant(
            root,
            {
                "/etc/fstab": "old table\n", "/etc/gone": "gone\n", "/etc/linked": "shared\n", "/etc/unit": "[Unit]\n",
                "/etc/guarded": "keep off\n", "/etc/link": "-> old-text", "/usr/lib/modules": None,
                "/lib": "-> usr/lib", "/boot": None, "/untouched": "as it is\n",
            },
        )  # fmt: skip
        plant(boot, {"/grub/grub.cfg": "old menu\n", "/grub/fonts/one": "font\n", "/initrd": "initrd"})
        os.link(root / "etc/linked", root / "etc/other-name")
        os.chmod(root / "etc/fstab", 0o640)
        os.setxattr(root / "etc/fstab", "user.mark", b"1")
        plant(
            tmp_path / "target",
            {
                "/boot/vmlinuz-new": "kernel", "/lib/modules/new/a.ko": "abc", "/lib/modules/new/sub/b.ko": "defg",
                "/lib/modules/new/link": "-> a.ko", "/boot/grub/core.img": "core",
            },
        )  # fmt: skip
        for top in (*self.replicas, tmp_path / "target"):
            for path in [*top.rglob("*"), top]:
                os.utime(path, ns=(WHEN, WHEN), follow_symlinks=False)
        flags(root / "etc/guarded", inode_flags.IMMUTABLE)

    def adapt(self, plan: Plan = PLAN) -> dict[str, Any]:
        """What the view shows when the plan has been carried out in it."""

        def work() -> dict[str, Any]:
            for part in self.parts:
                overlay.prepare(part)
            with overlay.view(self.parts, self.view, True) as root:
                editor = LayerEditor(root, self.target, build)
                try:
                    assert editor.apply(plan) == len(plan.edits)
                    return contents(Path(root))
                finally:
                    editor.close()

        shown = namespaces.apart(work)
        for part in self.parts:
            overlay.seal(part)
        return shown

    def settlers(self) -> list[Settler]:
        return [Settler(part) for part in self.parts]

    def settle(self) -> None:
        for settler in self.settlers():
            settler.settle()
            settler.close()

    def unsettle(self) -> None:
        for settler in self.settlers():
            settler.unsettle()
            settler.close()

    def snapshots(self) -> list[dict[str, Any]]:
        """With the inode number of every object, and the barriers of every file and directory."""
        found = []
        for top in self.replicas:
            shown = snapshot(top)
            for path in [top, *top.rglob("*")]:
                plain = path.is_symlink() or not (path.is_file() or path.is_dir())
                shown[f"inode {path}"] = (os.lstat(path).st_ino, 0 if plain else barriers(path))
            found.append(shown)
        return found

    def merged(self) -> dict[str, Any]:
        """Both replicas, as they will be mounted, without layers."""

        def work() -> dict[str, Any]:
            with overlay.view(self.parts, self.view, False) as root:
                return contents(Path(root))

        return namespaces.apart(work)


def contents(root: Path) -> dict[str, Any]:
    """Everything but times of directories and inode numbers, which two file systems may have in common."""
    shown = snapshot(root)
    del shown["hard links"]
    return {p: v if not stat.S_ISDIR(v[0]) else (v[0], *v[1:3], v[5]) for p, v in shown.items()}


@pytest.fixture
def scene(disks: tuple[Path, Path], tmp_path: Path) -> Iterator[Scene]:
    yield Scene(disks, tmp_path)
    for disk in disks:
        for path in disk.rglob("*"):
            ours = path.name == "guarded" or path.parent.name == "kept"
            if ours and not path.is_symlink() and (path.is_file() or path.is_dir()):
                flags(path, 0)
        subprocess.run(["rm", "-rf", str(disk / ".livelift")], check=True)


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)
    monkeypatch.setattr(files, "syncfs", lambda fd: None)


def test_the_view_is_what_the_replica_becomes_and_was(scene: Scene) -> None:
    before = scene.snapshots()
    shown = scene.adapt()
    assert scene.snapshots() == before, "the replica is not touched"
    root, boot = scene.replicas
    for _ in range(2):
        scene.settle()
        assert scene.merged() == shown
        assert (root / "etc/fstab").read_text() == "newer table\n"
        assert os.stat(root / "etc/fstab").st_mode & 0o777 == 0o640
        assert os.getxattr(root / "etc/fstab", "user.mark") == b"1"
        assert (boot / "grub/grub.cfg").read_text() == "menu\n" and (boot / "grub.source/fonts/one").exists()
        assert not (boot / "grub/fonts").exists(), "the target's directory as a whole"
        assert (boot / "initrd").read_bytes() == b"NEWtrd"
        assert not (root / "etc/gone").exists()
        assert os.stat(root / "etc").st_mtime_ns == WHEN == os.stat(boot).st_mtime_ns
        for settler in scene.settlers():
            assert settler.state() == "in"
            settler.settle()  # again is nothing
            settler.close()
        assert scene.merged() == shown
        scene.unsettle()
        scene.unsettle()
        assert scene.snapshots() == before


def test_the_upper_layer_is_plain(scene: Scene) -> None:
    scene.adapt()
    for part in scene.parts:
        for path in Path(part.place, "overlay/upper").rglob("*"):
            assert not [n for n in os.listxattr(path, follow_symlinks=False) if "overlay" in n], path
        assert not os.path.exists(f"{part.place}/overlay/work")
    scene.settle()
    for top in scene.replicas:
        for path in top.rglob("*"):
            assert not [n for n in os.listxattr(path, follow_symlinks=False) if "overlay" in n], path
            assert not stat.S_ISCHR(os.lstat(path).st_mode), path


def test_the_replica_may_change_meanwhile(scene: Scene) -> None:
    """What the source removes or makes between the adaptation and the cut."""
    scene.adapt()
    root = scene.replicas[0]
    (root / "etc/other").write_text("new on the source\n")
    subprocess.run(["rm", "-rf", str(root / "usr/lib/modules"), str(root / "etc/link")], check=True)
    (root / "etc/deep").mkdir()
    (root / "etc/deep/own").write_text("kept")
    before = scene.snapshots()
    scene.settle()
    assert (root / "usr/lib/modules/new/sub/b.ko").read_text() == "defg"
    assert (root / "etc/other").exists() and os.readlink(root / "etc/link") == "new-text"
    scene.unsettle()
    assert scene.snapshots() == before


def test_what_is_not_adapted_is_not_settled(scene: Scene) -> None:
    with pytest.raises(FileNotFoundError):
        Settler(scene.parts[0])
    overlay.prepare(scene.parts[0])
    settler = Settler(scene.parts[0])
    with pytest.raises(StateError, match="no adaptation"):
        settler.settle()
    settler.close()
    assert not overlay.is_sealed(scene.parts[0])


def test_a_settled_adaptation_is_not_dropped(scene: Scene) -> None:
    scene.adapt()
    scene.settle()
    with pytest.raises(StateError, match="unsettle it first"):
        overlay.drop(scene.parts[0])
    scene.unsettle()
    for part in scene.parts:
        overlay.drop(part)
        overlay.drop(part)
        assert not os.path.exists(f"{part.place}/overlay")


def test_a_foreign_object_is_told_and_left(scene: Scene) -> None:
    scene.adapt()
    scene.settle()
    path = scene.replicas[0] / "etc/fstab"
    path.rename(path.with_name("fstab.away"))
    path.write_text("somebody's")
    settler = Settler(scene.parts[0])
    with pytest.raises(CorruptError, match="etc/fstab is not what the journal knows"):
        settler.unsettle()
    assert path.read_text() == "somebody's"
    path.unlink()
    path.with_name("fstab.away").rename(path)
    settler.unsettle()
    assert path.read_text() == "old table\n"
    settler.close()
    scene.unsettle()


def test_a_damaged_journal_is_told(scene: Scene) -> None:
    scene.adapt()
    scene.settle()
    journal = Path(scene.parts[0].place) / "overlay" / settle_journal.NAME
    whole = journal.read_bytes()
    journal.write_bytes(whole.replace(b"fstab", b"fstub") if b"fstab" in whole else whole[:-9] + b"12345678\n")
    settler = Settler(scene.parts[0])
    with pytest.raises(CorruptError):
        settler.unsettle()
    settler.close()
    journal.write_bytes(whole)
    scene.unsettle()


@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize("step", ["settle", "unsettle"])
@pytest.mark.timeout(300)
def test_death_at_every_call(scene: Scene, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Then both ways lead exactly there, by another process that knows nothing but the disk."""
    shown = scene.adapt()
    before = scene.snapshots()
    at, finished, between = 0, False, 0
    while not finished:
        if step == "unsettle":
            scene.settle()
        finished = run_until(monkeypatch, at, scene.settle if step == "settle" else scene.unsettle)
        states = []
        for settler in scene.settlers():
            states.append(settler.state())
            settler.close()
        between += "between" in states
        if at % 2:
            scene.unsettle()
            assert scene.snapshots() == before, f"after call {at}"
        else:
            scene.settle()
            assert scene.merged() == shown, f"after call {at}"
            scene.unsettle()
        at += 1
    assert at > 30 and between > 10
    assert scene.snapshots() == before


def test_layers_can_be_made_here(scene: Scene) -> None:
    assert overlay.why_not(scene.parts, scene.view) == ""
    assert not os.path.exists(f"{scene.parts[0].place}/trial") and not os.path.exists(scene.view)


def test_a_kernel_without_overlayfs_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: bytes, target: bytes, fstype: bytes = b"", flags: int = 0, data: bytes = b"") -> None:
        if fstype == b"overlay":
            raise OSError(19, "No such device")
        real(source, target, fstype, flags, data)

    real = namespaces.mount
    monkeypatch.setattr(namespaces, "mount", refuse)
    assert "No such device" in overlay.why_not(scene.parts, scene.view)
    assert not os.path.exists(f"{scene.parts[0].place}/trial")


def test_a_tree_that_was_a_running_system_is_taken_back_as_far_as_it_goes(scene: Scene) -> None:
    """After a rollback: what is not as it was is compared with the source anyway, but nothing may be in the way."""
    scene.adapt()
    scene.settle()
    root, boot = scene.replicas
    (root / "etc/gone").write_text("made by the new system")  # a random seed, say
    (root / "etc/fstab").unlink()
    (root / "etc/fstab").write_text("edited there")
    (root / "etc/link").unlink()
    subprocess.run(["rm", "-rf", str(boot / "grub"), str(root / "etc/deep")], check=True)
    flags(root / "etc/gone", inode_flags.IMMUTABLE)
    part = scene.parts[0]
    settler = Settler(part)
    with pytest.raises(CorruptError):
        settler.unsettle()
    settler.close()
    for one in scene.parts:
        settler = Settler(one)
        assert settler.unsettle(used=True) > 3
        assert settler.unsettle(used=True) == 0
        settler.close()
        overlay.drop(one)
    assert (root / "etc/gone").read_text() == "gone\n" and (root / "etc/fstab").read_text() == "old table\n"
    assert os.readlink(root / "etc/link") == "old-text" and barriers(root / "etc/guarded") == inode_flags.IMMUTABLE
    assert (boot / "grub/grub.cfg").read_text() == "old menu\n"

    scene.adapt()
    scene.settle()
    subprocess.run(["chattr", "-i", str(root / "etc/guarded")], check=True)
    subprocess.run(["rm", "-rf", str(root / "etc")], check=True)
    for one in scene.parts:
        settler = Settler(one)
        settler.unsettle(used=True)
        settler.close()
        overlay.drop(one)
    assert not (root / "etc").exists()

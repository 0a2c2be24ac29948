"""The staged system takes the live place and gives it back: exactly, and after death at every system call."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from livelift.errors import CorruptError, StateError
from livelift.platform.linux import files, inode_flags
from livelift.takeover.swap import Swap, place_for
from livelift.takeover.top_directory import look
from tests.edits.killer import run_until
from tests.edits.snapshot import snapshot
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root
FILESYSTEMS = ["ext4", "xfs", "btrfs"]


@pytest.fixture(scope="module", params=FILESYSTEMS)
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    with loop_filesystem(request.param, 16) as mountpoint:
        yield mountpoint


@pytest.fixture
def root(disk: Path) -> Iterator[Path]:
    """A live and a staged tree on a real disk: all combinations of type and presence, odd names, barrier flags."""
    place = disk / "system"
    staged = Path(place_for(str(place)))
    staged.mkdir(parents=True)
    for side, tree in (("old", place), ("new", staged)):
        (tree / "etc").mkdir()
        (tree / "etc/name").write_text(side)
        os.setxattr(tree / "etc/name", "user.side", side.encode())
        (tree / "vmlinuz").symlink_to(f"boot/vmlinuz-{side}")
        (tree / "file").write_text(f"{side} file")
        (tree / f"only-{side}").mkdir()
        (tree / f"only-{side}/x").write_text(side)
        (tree / f"link-only-{side}").symlink_to("x")
        for name in ("proc", "lost+found"):
            (tree / name).mkdir(exist_ok=True)
            (tree / name / side).write_text("stays")
        (tree / b"odd\n\xff name".decode("utf-8", "surrogateescape")).write_text(side)
        (tree / "guarded").mkdir()
        (tree / "guarded/x").write_text(side)
    os.chown(staged, 26, 26)
    staged.chmod(0o1750)
    os.setxattr(staged, "user.top", b"new")
    os.setxattr(place, "user.top", b"old")
    subprocess.run(["setfacl", "-m", "u:7:rwx,d:u:7:r", str(place)], check=True)
    (place / "lib").mkdir()
    (place / "lib/a").write_text("a")
    (staged / "lib").symlink_to("usr/lib")
    os.mkfifo(staged / "pipe")
    flags(place / "guarded", inode_flags.IMMUTABLE)
    flags(staged / "guarded", inode_flags.APPEND)
    flags(place / "only-old", inode_flags.IMMUTABLE)
    yield place
    for path in [*place.iterdir(), *staged.iterdir(), *(place / ".livelift/swap/middle").glob("*")]:
        if path.is_dir() and not path.is_symlink():
            flags(path, 0)
    subprocess.run(["rm", "-rf", str(place)], check=True)


def flags(path: Path, value: int) -> None:
    fd = os.open(path, os.O_RDONLY)
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


def sides(place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(live tree, staged tree), without what stays; the top directories are compared but for their atimes."""
    found = []
    for tree in (place, Path(place_for(str(place)))):
        top = [p for p in tree.iterdir() if p.name not in (".livelift", "proc", "lost+found")]
        names = {p.name for p in top}
        shown = {p: v for p, v in snapshot(tree).items() if p.split("/")[0] in names}
        shown.update({f"flags {p.name}": barriers(p) for p in top if p.is_dir() and not p.is_symlink()})
        top_fd = os.open(tree, os.O_RDONLY)
        found.append(shown | {"": look(top_fd)._replace(times=(0, tree.stat().st_mtime_ns))})
        os.close(top_fd)
    return found[0], found[1]


def swap(place: Path, exchange: bool = True) -> Swap:
    return Swap({"/": str(place)}, exchange)


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)
    monkeypatch.setattr(files, "syncfs", lambda fd: None)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "without"])
def test_there_and_back_again(root: Path, exchange: bool) -> None:
    old, new = sides(root)
    it = swap(root, exchange)
    assert it.standing() == "old" and it.recover() == "old"
    for _ in range(2):
        it.forward()
        assert it.standing() == "new" and sides(root) == (new, old)
        it.forward()
        assert sides(root) == (new, old)
        it.back()
        assert it.standing() == "old" and sides(root) == (old, new)
        it.back()
        assert sides(root) == (old, new)
    it.close()
    assert barriers(root / "guarded") == inode_flags.IMMUTABLE
    assert (root / "proc/old").exists() and not (root / "proc/new").exists()


@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "without"])
@pytest.mark.parametrize("step", ["forward", "back"])
def test_death_at_every_call(root: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool, step: str) -> None:
    """Of the swap, or of its rollback. Then: recover brings it to one side; from there both ways lead exactly there."""
    old, new = sides(root)
    at, finished = 0, False
    mixed = 0
    while not finished:
        first = swap(root, exchange)
        if step == "back":
            first.forward()
        finished = run_until(monkeypatch, at, first.forward if step == "forward" else first.back)
        first.close()

        second = swap(root, exchange)
        if second.standing() == "mixed":
            mixed += 1
        if at % 3 == 0:  # the recovery dies too
            run_until(monkeypatch, at % 7, second.recover)
            second.close()
            second = swap(root, exchange)
        if at % 2:
            side = second.recover()
            assert sides(root) == ((old, new) if side == "old" else (new, old)), at
            second.forward()
            assert sides(root) == (new, old), at
        second.back()
        assert second.standing() == "old" and sides(root) == (old, new), at
        second.close()
        at += 1
    assert at > 30 and mixed > 15, "the calls were counted, and most left something to recover"


@pytest.mark.usefixtures("no_sync")
def test_the_direction_may_change_at_every_call(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Died on the way forward, dies again on the way back, at every pair of a sample; the way without exchange."""
    old, new = sides(root)
    for at in range(12, 60, 5):
        for again in range(1, 30, 4):
            for place, action in ((at, "forward"), (again, "back")):
                it = swap(root, False)
                run_until(monkeypatch, place, getattr(it, action))
                it.close()
            it = swap(root, False)
            it.back()
            assert sides(root) == (old, new), (at, again)
            it.close()


def test_what_the_new_system_made_goes_with_it(root: Path) -> None:
    old, _ = sides(root)
    it = swap(root)
    it.forward()
    (root / "made-later").mkdir()
    (root / "file").unlink()
    (root / "file").write_text("replaced by the new system")
    (root / "vmlinuz").unlink()
    it.back()
    it.close()
    assert sides(root)[0] == old
    staged = Path(place_for(str(root)))
    assert (staged / "made-later").is_dir() and (staged / "file").read_text() == "replaced by the new system"


@pytest.mark.usefixtures("no_sync")
def test_a_foreign_object_is_told_and_the_rest_is_settled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, _ = sides(root)
    it = swap(root)
    at = 10
    while not run_until(monkeypatch, at, it.forward) and (root / "file").read_text() == "old file":
        it.back()
        at += 1
    assert it.standing() == "mixed", "in the middle, with this file exchanged"
    staged = Path(place_for(str(root)))
    (staged / "file").rename(root.parent / "aside")
    (staged / "file").write_text("foreign")
    with pytest.raises(CorruptError, match="file is not what the journal knows"):
        it.back()
    assert it.standing() == "mixed"
    assert {p: v for p, v in sides(root)[0].items() if p != "file"} == {p: v for p, v in old.items() if p != "file"}
    (staged / "file").unlink()
    (root.parent / "aside").rename(staged / "file")
    it.back()
    assert sides(root)[0] == old
    it.close()


def test_files_that_are_damaged(root: Path) -> None:
    it = swap(root)
    it.forward()
    own = root / ".livelift/swap"
    state, journal = (own / "state").read_bytes(), (own / "journal").read_bytes()
    for name, raw in (("state", state), ("journal", journal)):
        for bad in (b"", raw[:-5], raw.replace(b"1", b"2", 1), raw[:40] + b"x" + raw[41:]):
            (own / name).write_bytes(bad)
            if name == "journal":
                (own / "state").write_bytes(_moving(state))
            with pytest.raises(CorruptError):
                it.recover()
        (own / name).write_bytes(raw)
        (own / "state").write_bytes(state)
    it.close()


def _moving(raw: bytes) -> bytes:
    from livelift.takeover.swap_journal import parse_state, render_state

    return render_state(parse_state(raw)._replace(settled=False))


def test_a_subvolume_is_refused(root: Path) -> None:
    if files.statfs(os.open(root, os.O_RDONLY)).type != files.BTRFS_MAGIC:
        pytest.skip("only btrfs has subvolumes")
    subprocess.run(["btrfs", "-q", "subvolume", "create", str(root / "sub")], check=True)
    it = swap(root)
    with pytest.raises(StateError, match="sub is a btrfs subvolume"):
        it.forward()
    assert it.standing() == "old"
    it.close()
    subprocess.run(["btrfs", "-q", "subvolume", "delete", str(root / "sub")], check=True)


def test_a_mount_point_stays(root: Path) -> None:
    (root / "boot").mkdir()
    (root / ".livelift/new/boot").mkdir()
    (root / ".livelift/new/boot/staged").write_text("")
    subprocess.run(["mount", "-t", "tmpfs", "none", str(root / "boot")], check=True)
    try:
        it = swap(root)
        it.forward()
        assert (root / ".livelift/new/boot/staged").exists() and it.standing() == "new"
        it.back()
        it.close()
    finally:
        subprocess.run(["umount", str(root / "boot")], check=True)


@pytest.mark.usefixtures("no_sync")
def test_two_file_systems_swap_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        disks = [stack.enter_context(loop_filesystem("ext4", 8)) for _ in range(2)]
        for disk in disks:
            for side, tree in (("old", disk), ("new", Path(place_for(str(disk))))):
                tree.mkdir(parents=True, exist_ok=True)
                (tree / "a").write_text(side)
                (tree / "b").mkdir()
                (tree / "b" / side).write_text("")
        places = {"/": str(disks[0]), "/boot": str(disks[1])}
        before = [sides(disk) for disk in disks]
        at, finished = 0, False
        while not finished:
            first = Swap(places)
            finished = run_until(monkeypatch, at, first.forward)
            first.close()
            again = Swap(places)
            side = again.recover()
            for disk, (old, new) in zip(disks, before, strict=True):
                assert sides(disk) == ((old, new) if side == "old" else (new, old)), at
            again.back()
            for disk, both in zip(disks, before, strict=True):
                assert sides(disk) == both, at
            again.close()
            at += 1
        assert at > 20
        whole = Swap(places)
        whole.forward()
        whole.close()
        (disks[0] / ".livelift/swap/state").write_bytes(_moving((disks[0] / ".livelift/swap/state").read_bytes()))
        half = Swap({"/": places["/"]})
        with pytest.raises(StateError, match="/boot"):
            half.recover()
        half.close()


def test_places_that_cannot_be_swapped(tmp_path: Path) -> None:
    with pytest.raises(StateError):
        Swap({"/home": str(tmp_path)})
    with pytest.raises(FileNotFoundError):
        Swap({"/": str(tmp_path)})

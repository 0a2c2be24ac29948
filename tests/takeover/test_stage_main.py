"""The stage's program on real mounts: a root that is read-only, another file system that nobody has mounted."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.facts.mountinfo import Mount, parse_mountinfo
from livelift.takeover import arming, stage_main, watchdog
from livelift.takeover.records import BACK, RETURNED, Records
from livelift.takeover.stage_main import Machine, device_of, run, wish_of
from tests.loopfs import loop_filesystem
from tests.takeover.world import World

pytestmark = pytest.mark.root


def mount_at(path: Path) -> Mount | None:
    found = [m for m in parse_mountinfo(Path("/proc/self/mountinfo").read_bytes()) if m.mountpoint == os.fsencode(path)]
    return found[-1] if found else None


@pytest.fixture(params=["ext4", "xfs", "btrfs"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Armed; then everything is as an initramfs leaves it: /boot not mounted, the root read-only."""
    monkeypatch.setattr(stage_main, "HOME", str(tmp_path / "livelift"))
    monkeypatch.setattr(stage_main, "say", lambda text, urgent=False: print(text))
    monkeypatch.setattr(Machine, "guard", lambda self, seconds, hardware: None)
    monkeypatch.setattr(watchdog, "ask", lambda word: "")
    with loop_filesystem(request.param, 16) as root, loop_filesystem(request.param, 16) as boot:
        world = World(root, boot, tmp_path)
        arming.arm(world.site())
        found = mount_at(boot)
        assert found is not None
        device = os.fsdecode(found.source)
        volumes = tuple(
            v._replace(spec=device, fstype=request.param) if v.mountpoint == "/boot" else v
            for v in world.config.volumes
        )
        records = Records(str(root))
        world.config = world.config._replace(volumes=volumes)
        records.write_config(world.config)
        records.close()
        subprocess.run(["umount", boot], check=True)
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        yield world
        if mount_at(boot) is None:
            subprocess.run(["mount", "-t", request.param, device, boot], check=True)


def check(world: World, system: str) -> None:
    """As the initramfs expects it, and this system stands."""
    root, boot = Path(world.places["/"]), Path(world.places["/boot"])
    found = mount_at(root)
    assert found is not None and found.read_only
    assert not [
        m for m in parse_mountinfo(Path("/proc/self/mountinfo").read_bytes()) if b"/livelift/fs/" in m.mountpoint
    ]
    volume = next(v for v in world.config.volumes if v.mountpoint == "/boot")
    subprocess.run(["mount", "-t", volume.fstype, volume.spec, boot], check=True)
    try:
        world.check(system)
    finally:
        subprocess.run(["umount", boot], check=True)


def test_over_and_back(world: World) -> None:
    root = world.places["/"]
    assert run(root, "root=UUID=1 ro quiet") == 0
    check(world, "new")
    assert run(root + "/", "root=UUID=1 ro livelift=back") == 0
    check(world, "old")
    assert world.state().phase == RETURNED
    assert run(root, "livelift=back") == 0, "there is nothing to go back from"
    check(world, "old")


def test_a_disk_that_is_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old system is started all the same, and tells why."""
    monkeypatch.setattr(stage_main, "DEVICE_SECONDS", 0.3)
    root = world.places["/"]
    subprocess.run(["mount", "-o", "remount,rw", root], check=True)
    records = Records(root)
    volumes = tuple(v._replace(spec="UUID=gone") if v.mountpoint == "/boot" else v for v in world.config.volumes)
    records.write_config(world.config._replace(volumes=volumes))
    records.close()
    subprocess.run(["mount", "-o", "remount,ro", root], check=True)
    assert run(root, "") == 0
    check(world, "old")
    assert world.state().phase == RETURNED and "UUID=gone for /boot is not here" in world.state().reason

    # on the way back it is needed
    subprocess.run(["mount", "-o", "remount,rw", root], check=True)
    records = Records(root)
    records.write_config(world.config)
    state = records.state()
    assert state is not None
    records.write_state(state._replace(phase="armed", attempts=0))
    assert run(root, "") == 0
    check_state = records.state()
    assert check_state is not None and check_state.entered
    records.write_config(world.config._replace(volumes=volumes))
    records.close()
    with pytest.raises(Exception, match="UUID=gone"):
        run(root, "")
    assert world.system() == "new" and world.state().phase == BACK
    subprocess.run(["mount", "-o", "remount,ro", root], check=True)


def test_the_hardware_is_taken_once_its_driver_is_loaded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a watchdog that does not answer is no reason to go back."""
    done: list[str] = []

    def ask(word: str) -> str:
        done.append(word)
        raise OSError(errno.ETIMEDOUT, "timed out")

    monkeypatch.setattr(Machine, "guard", lambda self, seconds, hardware: setattr(self, "_guarded", True))
    monkeypatch.setattr(stage_main, "load_modules", lambda: done.append("drivers"))
    monkeypatch.setattr(watchdog, "ask", ask)
    assert run(world.places["/"], "") == 0
    assert done == ["drivers", "status"] and world.system() == "new"


def test_a_root_without_a_take_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_main, "say", lambda text, urgent=False: print(text))
    assert run(str(tmp_path), "") == 0


def test_words() -> None:
    assert wish_of("root=1 livelift=back quiet livelift=unacknowledged\n") == "unacknowledged"
    assert wish_of("root=1 livelift.x=1 xlivelift=2") == ""
    assert (
        device_of("UUID=1-2") == "/dev/disk/by-uuid/1-2" and device_of("PARTLABEL=a=b") == "/dev/disk/by-partlabel/a=b"
    )
    assert device_of("/dev/mapper/vg-a=b") == "/dev/mapper/vg-a=b"

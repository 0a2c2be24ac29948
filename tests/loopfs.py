"""A real file system on a loop device, for tests that must see what a real disk does. Needs root.

    with loop_filesystem("ext4", 64) as mountpoint: ...

The image lives in a temporary directory and everything is undone on the way out, in reverse order, even when the test
failed: unmount (lazily if something still holds it), detach exactly this loop device, remove the image.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

MINIMUM_MIB = {"ext4": 8, "ext3": 8, "ext2": 8, "xfs": 300, "btrfs": 128}
"""Below this the mkfs tool of that file system refuses."""

MKFS_FORCE = {
    "ext4": ["-q", "-F", "-b", "4096"],
    "ext3": ["-q", "-F", "-b", "4096"],
    "ext2": ["-q", "-F", "-b", "4096"],
    "xfs": ["-q", "-f"],
    "btrfs": ["-q", "-f"],
}


def why_not(fstype: str) -> str:
    """The reason why a loop file system of this type cannot be made here, or an empty string."""
    if os.geteuid() != 0:
        return "needs root (mount, losetup)"
    for tool in ("losetup", "mount", "umount", f"mkfs.{fstype}"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if not os.path.exists("/dev/loop-control"):
        return "no loop devices here"
    return ""


def run(*command: str) -> str:
    """Run a command; its output, or an AssertionError that shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}"
    return done.stdout


@contextmanager
def loop_filesystem(
    fstype: str, size_mib: int = 64, mkfs_args: Sequence[str] = (), mount_options: str = ""
) -> Iterator[Path]:
    """Make, mount and yield a file system of ``size_mib`` MiB; skips the test, with a reason, where it cannot."""
    if reason := why_not(fstype):
        pytest.skip(f"loop {fstype}: {reason}")
    size_mib = max(size_mib, MINIMUM_MIB.get(fstype, 1))
    with ExitStack() as undo:
        work = Path(tempfile.mkdtemp(prefix="livelift-loop-"))
        undo.callback(shutil.rmtree, work)
        image, mountpoint = work / "image", work / "mnt"
        mountpoint.mkdir()
        with image.open("wb") as file:
            file.truncate(size_mib << 20)
        run(f"mkfs.{fstype}", *MKFS_FORCE.get(fstype, []), *mkfs_args, str(image))
        device = run("losetup", "--find", "--show", str(image)).strip()
        undo.callback(run, "losetup", "--detach", device)
        options = ["-o", mount_options] if mount_options else []
        run("mount", "-t", fstype, *options, device, str(mountpoint))
        undo.callback(unmount, mountpoint)
        yield mountpoint


def unmount(mountpoint: Path) -> None:
    """Unmount; a file that is just being closed elsewhere gets a second, then the mount is detached lazily."""
    for _ in range(5):
        if subprocess.run(["umount", str(mountpoint)], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.2)
    run("umount", "--lazy", str(mountpoint))

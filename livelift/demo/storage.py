"""Disks of the demo: an ext4 file system in a loop device where root allows it, a plain directory elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from livelift.demo.process import find_tool, run
from livelift.errors import LiveliftError, PreflightError

MIB = 1 << 20


def free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def make_disk(undo: contextlib.ExitStack, image: Path, mountpoint: Path, size: int) -> None:
    """Make an ext4 file system of ``size`` bytes in the sparse file ``image`` and mount it; ``undo`` removes both."""
    mkfs = find_tool("mkfs.ext4", "e2fsprogs")
    with open(image, "wb") as file:
        file.truncate(size)
    undo.callback(image.unlink, missing_ok=True)
    # lazy: the kernel would otherwise zero inode tables in the background while the demo measures.
    run([mkfs, "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image])
    mountpoint.mkdir()
    run(["mount", "-t", "ext4", "-o", "loop", image, mountpoint])
    undo.callback(unmount, mountpoint)
    (mountpoint / "lost+found").rmdir()


def make_directory(undo: contextlib.ExitStack, path: Path) -> None:
    """A plain directory instead of a disk, for a user who is not root."""
    path.mkdir()
    undo.callback(remove_tree, path)


def unmount(mountpoint: Path, patience: float = 10) -> None:
    """Unmount, waiting for processes that are just going away; the loop device detaches itself (autoclear)."""
    deadline = time.monotonic() + patience
    while True:
        done = run(["umount", mountpoint], check=False)
        if done.returncode == 0 or not os.path.ismount(mountpoint):
            break
        if time.monotonic() > deadline:
            raise LiveliftError(f"cannot unmount {mountpoint}: {done.stderr.strip()}")
        time.sleep(0.1)
    mountpoint.rmdir()


def remove_tree(path: Path) -> None:
    """Remove a tree whose directories may be write-protected by mode."""

    def unlock(function: object, name: str, error: object) -> None:
        parent = os.path.dirname(name)
        os.chmod(parent, 0o700)
        if os.path.isdir(name) and not os.path.islink(name):
            os.chmod(name, 0o700)
            shutil.rmtree(name, onerror=unlock)
        else:
            os.unlink(name)

    shutil.rmtree(path, onerror=unlock)


def require_space(directory: Path, needed: int) -> None:
    free = free_bytes(directory)
    if free < needed:
        raise PreflightError(
            f"{directory} has {free // MIB} MiB free, the demo needs {needed // MIB} MiB",
            remedy="free some space, or name another directory: livelift demo --dir DIRECTORY",
        )

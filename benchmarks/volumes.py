"""Fresh ext4 file systems on loop devices with direct I/O, so that every run starts from the same state.

Two traps decide how it is done. Deleting and creating again on one ext4 runs into the inode reuse guard
(`recently_deleted`, fs/ext4/ialloc.c), which burned a third of all CPU: so each run gets a new mkfs. And the lazy
initialisation of inode tables would go on behind the measurement: so it is switched off (``noinit_itable``, ext4(5)).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(*command: str | Path, timeout: float = 900) -> str:
    """A command that must work; its output. RuntimeError shows what it said otherwise."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


class Volume:
    """One image, its loop device and its mount. ``path``: where it is mounted. Use as a context manager."""

    def __init__(self, work: Path, name: str, size: int, inodes: int) -> None:
        self.image = work / f"{name}.img"
        self.path = work / name
        self._size = size
        self._inodes = inodes
        self._device = ""
        self._mounted = False

    def __enter__(self) -> Volume:
        self.path.mkdir(exist_ok=True)
        try:
            self.renew()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def renew(self) -> None:
        """An empty file system: new image, new mkfs, mounted."""
        self._release()
        self.image.unlink(missing_ok=True)
        with self.image.open("wb") as file:
            file.truncate(self._size)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", "-N", str(self._inodes), self.image)
        try:
            self._device = run("losetup", "--find", "--show", "--direct-io=on", self.image).strip()
        except RuntimeError as error:  # below it is a file system in memory
            print(f"{self.image}: {error}; without direct I/O", file=sys.stderr)
            self._device = run("losetup", "--find", "--show", self.image).strip()
        self._mount()

    def cool(self) -> None:
        """Nothing of it in the page cache or the dentry cache any more: written out, unmounted, mounted again."""
        self._unmount()
        self._mount()

    def close(self) -> None:
        self._release()
        self.image.unlink(missing_ok=True)
        if self.path.is_dir():
            self.path.rmdir()

    def _mount(self) -> None:
        run("mount", "-t", "ext4", "-o", "noinit_itable", self._device, self.path)
        self._mounted = True

    def _unmount(self) -> None:
        if self._mounted:
            run("umount", self.path)
            self._mounted = False

    def _release(self) -> None:
        self._unmount()
        if self._device:
            run("losetup", "--detach", self._device)
            self._device = ""

"""NTFS volumes in an image file, made by mkntfs and written by ntfs-3g (FUSE). Needs root, /dev/fuse and the package.

with ntfs_volume(64) as volume: volume.path / "file" ...; volume.image is complete after the block
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.loopfs import unmount

COMPRESSED = 0x800


def why_not() -> str:
    """The reason why no NTFS volume can be made here, or an empty string."""
    if os.geteuid() != 0:
        return "needs root (mount)"
    for tool in ("mkntfs", "ntfs-3g"):
        if shutil.which(tool) is None and not os.path.exists(f"/usr/sbin/{tool}"):
            return f"{tool} is not installed (package ntfs-3g)"
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse here"
    return ""


def run(*command: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}"


class NtfsImage:
    """``image``: the file; `mounted` writes to it."""

    def __init__(self, image: Path) -> None:
        self.image = image

    @contextmanager
    def mounted(self, options: str = "compression,streams_interface=windows") -> Iterator[Path]:
        mountpoint = Path(tempfile.mkdtemp(prefix="livelift-ntfs-"))
        run("ntfs-3g", str(self.image), str(mountpoint), "-o", options)
        try:
            yield mountpoint
        finally:
            unmount(mountpoint)
            mountpoint.rmdir()


def make_ntfs(directory: Path, mib: int = 64, *arguments: str) -> NtfsImage:
    """A fresh volume; skips the test, with a reason, where it cannot be made."""
    if reason := why_not():
        pytest.skip(f"ntfs: {reason}")
    image = directory / "ntfs.image"
    with image.open("wb") as file:
        file.truncate(mib << 20)
    run("mkntfs", "-F", "-q", "-Q", *arguments, str(image))
    return NtfsImage(image)


def set_attributes(path: Path, bits: int) -> None:
    """FILE_ATTRIBUTE_* through ntfs-3g."""
    os.setxattr(path, "system.ntfs_attrib_be", struct.pack(">I", bits))

"""Every kind of nasty object is really there; a fixture without them would prove nothing."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from livelift.demo import nasties
from tests.loopfs import loop_filesystem


def test_a_user_gets_what_a_user_may_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    count = nasties.plant(tmp_path)
    base = tmp_path / "srv/nasties"
    assert count > 60
    names = os.listdir(os.fsencode(base / "names"))
    assert max(len(name) for name in names) == 255
    assert any(b"\xff" in name for name in names)
    assert any(b"\n" in name for name in names)
    one = (base / "links/a/one").stat()
    assert one.st_nlink == 3
    assert one.st_ino == (base / "links/b/c/three").stat().st_ino
    assert os.lstat(base / "links/a/hard-link-to-a-symlink").st_nlink == 2
    sparse = (base / "space/sparse-1GiB").stat()
    assert sparse.st_size == 1 << 30
    assert sparse.st_blocks * 512 < 1 << 20
    allocated = (base / "space/fallocated").stat()
    assert allocated.st_blocks * 512 >= 8 << 20
    assert (base / "times-and-modes/before-1970").stat().st_mtime_ns == -86400 * 10**9 - 1
    assert stat.S_ISFIFO(os.lstat(base / "fifo").st_mode)
    assert stat.S_ISSOCK(os.lstat(base / "socket").st_mode)
    assert os.getxattr(base / "xattrs/user", "user.livelift") == b"value\0with\xffbytes"
    (deep,) = (path for path, _, files, _ in os.fwalk(os.fsencode(base)) if b"leaf" in files)
    assert len(deep) > 4096
    assert not (base / "devices").exists()


@pytest.mark.root
def test_root_adds_what_only_root_may_make() -> None:
    with loop_filesystem("ext4", size_mib=64) as tree:
        nasties.plant(tree)
        base = tree / "srv/nasties"
        disk = os.lstat(base / "devices/disk")
        assert stat.S_ISBLK(disk.st_mode)
        assert (os.major(disk.st_rdev), os.minor(disk.st_rdev)) == (7, 250)
        with pytest.raises(PermissionError):
            (base / "flags/immutable").write_bytes(b"")
        with pytest.raises(PermissionError):
            (base / "flags/append-only").write_bytes(b"")
        with open(base / "flags/append-only", "ab") as file:
            file.write(b"more")
        acl = subprocess.run(["getfacl", "-cn", "xattrs/acl"], cwd=base, capture_output=True, text=True, check=True)
        assert "user:12345:rw-" in acl.stdout
        capability = subprocess.run(["/sbin/getcap", "xattrs/capability"], cwd=base, capture_output=True, text=True)
        assert "cap_net_bind_service=ep" in capability.stdout
        assert os.getxattr(base / "xattrs/trusted", "trusted.livelift") == b"only root sees this"
        assert (base / "times-and-modes/year-2300").stat().st_mtime_ns == 10413792000 * 10**9 + 999_999_999

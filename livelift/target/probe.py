"""What the replica's file systems can keep: tried, not guessed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Sequence
from typing import Any

from livelift.model.job import Map


def occupied(maps: Sequence[Map]) -> list[bytes]:
    """Target directories in which something lies that is not ours. To be asked before the job's replica begins."""
    return [m.target for m in maps if set(os.listdir(m.target)) - {b"lost+found", b".livelift"}]


def replica_facts(maps: Sequence[Map], foreign: Sequence[bytes] = ()) -> dict[str, Any]:
    """Per map: free bytes, free inodes, xattrs, ACLs, case sensitivity. Keys are the target paths.

    ``foreign``: what `occupied` said when the job was made."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    return {"boot_id": boot, **{os.fsdecode(m.target): _facts(m.target, m.target not in foreign) for m in maps}}


def _facts(path: bytes, empty: bool) -> dict[str, Any]:
    st = os.statvfs(path)
    scratch = os.path.join(path, b".livelift-probe-" + secrets.token_hex(4).encode())
    fd = os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        return {
            "free": st.f_bavail * st.f_frsize,
            "free_inodes": st.f_favail if st.f_files else -1,  # btrfs has no fixed number of inodes
            "xattr": _can_set(fd, "user.livelift", b"1"),
            # u::rw-,u:0:rw-,g::r--,m::rw-,o::r--, as in linux/posix_acl_xattr.h
            "acl": _can_set(
                fd,
                "system.posix_acl_access",
                bytes.fromhex(
                    "0200000001000600ffffffff020006000000000004000400ffffffff10000600ffffffff20000400ffffffff"
                ),
            ),
            "case_sensitive": not os.path.exists(os.path.join(path, os.path.basename(scratch).upper())),
            "real": os.fsdecode(os.path.realpath(path)),
            "empty": empty,
        }
    finally:
        os.close(fd)
        os.unlink(scratch)


def _can_set(fd: int, name: str, value: bytes) -> bool:
    try:
        os.setxattr(fd, name, value)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS):
            return False
        raise
    return True

"""A mount namespace of one's own, and mounts in it: unshare(2), mount(2), umount2(2)."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from livelift.platform.linux.libc import INT, failed, function

CLONE_NEWNS: Final = 0x00020000  # sched.h
MS_BIND: Final = 0x1000  # linux/mount.h
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19

MNT_DETACH: Final = 2

Result = TypeVar("Result")

_unshare = function("unshare", INT)
_umount2 = function("umount2", ctypes.c_char_p, INT)
_mount = function("mount", ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


def own_mounts() -> None:
    """From now on mounts of this process are seen by it and its children only, and end with them. Needs CAP_SYS_ADMIN.

    Slave, not private: what the machine unmounts meanwhile is not held here.
    """
    if _unshare(CLONE_NEWNS) < 0:
        raise failed()
    mount(b"none", b"/", b"", MS_REC | MS_SLAVE)


def mount(source: bytes, target: bytes, fstype: bytes = b"", flags: int = 0, data: bytes = b"") -> None:
    if _mount(source, target, fstype, flags, data) < 0:
        raise failed(target)


def bind(source: bytes, target: bytes) -> None:
    """With everything that is mounted below."""
    mount(source, target, b"", MS_BIND | MS_REC)


def unmount(target: bytes, flags: int = 0) -> None:
    if _umount2(target, flags) < 0:
        raise failed(target)


def apart(work: Callable[[], Result]) -> Result:
    """Do ``work`` in a thread with a mount namespace and a working directory of its own (unshare(2): both belong to a
    thread). Programs that it starts are in there too. What it raises is raised here."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            own_mounts()
            results.append(work())
        except BaseException as error:  # handed on below
            errors.append(error)

    thread = threading.Thread(target=run, name="apart", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]

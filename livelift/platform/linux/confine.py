"""Opening below a directory as if it were the root: symlinks are followed, and never lead out of it."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

from livelift.platform.linux.libc import LONG, SYSCALLS, failed, function

_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_IN_ROOT: Final = 0x10
_MAXSYMLINKS: Final = 40  # include/linux/namei.h

_syscall = function("syscall", LONG, LONG, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, restype=LONG)


def open_in_root(root_fd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open ``path`` with ``root_fd`` as its root: absolute symlinks and ``..`` are resolved inside, as after chroot(2).

    openat2(2) RESOLVE_IN_ROOT, Linux 5.6; on an older kernel component by component, with the same result as long as
    nobody moves directories of the tree meanwhile. The descriptor is close-on-exec. OSError as of open(2).
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    while (fd := int(_syscall(SYSCALLS["openat2"], root_fd, path or b".", how, len(how)))) < 0:
        number = ctypes.get_errno()
        if number == errno.ENOSYS:
            return open_by_steps(root_fd, path, flags, mode)
        if number not in (errno.EINTR, errno.EAGAIN):  # EAGAIN: a rename raced with the check of ".."; try again
            raise failed(path)
    return fd


def open_by_steps(root_fd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """What `open_in_root` does where there is no openat2(2)."""
    stack = [os.dup(root_fd)]
    todo = _parts(path)[::-1]
    links = 0
    try:
        while todo:
            part = todo.pop()
            if part == b"..":
                if len(stack) > 1:
                    os.close(stack.pop())
                continue
            last = not todo
            if last and flags & (os.O_NOFOLLOW | os.O_EXCL):
                return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=stack[-1])
            try:
                target = os.readlink(part, dir_fd=stack[-1])
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
                if last:
                    return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=stack[-1])
                way = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                stack.append(os.open(part, way, dir_fd=stack[-1]))
                continue
            links += 1
            if links > _MAXSYMLINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith(b"/"):
                while len(stack) > 1:
                    os.close(stack.pop())
            todo.extend(_parts(target)[::-1])
        return os.open(b".", flags | os.O_CLOEXEC, mode, dir_fd=stack[-1])
    finally:
        for fd in stack:
            os.close(fd)


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]

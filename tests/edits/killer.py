"""Simulated death: after the n-th system call that changes something, the program makes no other."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from livelift.platform.linux import files, inode_flags


class Death(BaseException):
    """The process is gone: no handler of the program runs, no more system call is made."""


CALLS = ["rename", "mkdir", "rmdir", "unlink", "symlink", "link", "open", "write", "pwrite", "fsync", "fdatasync",
         "utime", "chmod", "fchmod", "chown", "fchown", "setxattr", "copy_file_range", "ftruncate"]  # fmt: skip


class Killer:
    """Counts the system calls that change something and dies before or after the n-th."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.count = 0
        self.at = at
        for name in CALLS:
            call = getattr(os, name)  # what is written is seen by the next process with or without a sync
            monkeypatch.setattr(os, name, self.wrap((lambda *_: None) if name in ("fsync", "fdatasync") else call))
        monkeypatch.setattr(files, "renameat2", self.wrap(files.renameat2))
        monkeypatch.setattr(files, "syncfs", self.wrap(lambda fd: None))
        monkeypatch.setattr(inode_flags, "set_flags", self.wrap(inode_flags.set_flags))

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self.count >= self.at:
                raise Death
            result = call(*args, **kwargs)
            self.count += 1
            return result

        return wrapped


def run_until(monkeypatch: pytest.MonkeyPatch, at: int, action: Callable[[], object]) -> bool:
    """Whether the action came to its end before the n-th call."""
    with monkeypatch.context() as patch:
        Killer(patch, at)
        try:
            action()
            return True
        except Death:
            return False

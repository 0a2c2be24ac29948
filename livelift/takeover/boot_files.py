"""The boot switch on disk: GRUB's directory of one system, and its environment block.

Every file but the environment block is replaced as a whole. The block is written in place, as GRUB itself does: GRUB
finds it by its blocks without the file system's journal, and must never write into blocks that have become free.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from livelift.adapt.linux.grubenv import SIZE, environment, environment_block
from livelift.platform.linux.confine import open_in_root
from livelift.takeover import switch
from livelift.takeover.records import Config
from livelift.takeover.swap_journal import read_whole, write_durably


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "surrogateescape")


class BootDirectory:
    """``top``: the root of one system's part of the file system that GRUB reads, its live or its staged place.
    ``directory``: GRUB's own in it. FileNotFoundError, NotADirectoryError: this system has none."""

    def __init__(self, top: str, directory: str) -> None:
        holder = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fd = open_in_root(holder, os.fsencode(directory), os.O_RDONLY | os.O_DIRECTORY)
        finally:
            os.close(holder)

    def __enter__(self) -> BootDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def text(self, name: str) -> str:
        """Empty if there is no such file."""
        return _text(read_whole(self.fd, name))

    def has(self, name: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def write(self, name: str, text: str) -> None:
        """Readable for others as GRUB's files are; no write at all if it says this already."""
        raw = text.encode("utf-8", "surrogateescape")
        if read_whole(self.fd, name) != raw:
            write_durably(self.fd, name, raw)

    def remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self.fd)
            os.fsync(self.fd)
        except FileNotFoundError:
            return

    def link(self, old: str, new: str) -> None:
        """``new`` is the file that ``old`` is, with its attributes; what it was before is replaced at once."""
        fresh = f"{new}.new"
        try:
            os.unlink(fresh, dir_fd=self.fd)
        except FileNotFoundError:
            pass
        os.link(old, fresh, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)
        os.rename(fresh, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        self._forget(fresh)
        os.fsync(self.fd)

    def _forget(self, name: str) -> None:
        """rename(2) of two names of one file does nothing."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return

    # the menus

    def put_own_menu(self, config: Config) -> None:
        """The menu that stands here waits beside ours."""
        text = self.text(switch.MENU)
        if text and not switch.is_own_menu(text):
            if switch.without_block(text) == text:
                self.link(switch.MENU, switch.ADAPTED)
            else:
                self.write(switch.ADAPTED, switch.without_block(text))
        self.write(switch.MENU, switch.own_menu(config.menu))

    def put_adapted_menu(self, counted: bool) -> None:
        """The one that waits is the menu, and still waits. ``counted``: with the switch."""
        adapted = self.text(switch.ADAPTED)
        if counted and switch.adapted_menu(adapted) != adapted:
            self.write(switch.MENU, switch.adapted_menu(adapted))
        else:
            self.link(switch.ADAPTED, switch.MENU)

    # the mode

    def mode(self) -> str:
        return switch.mode_of(self.text(switch.MODE))

    def set_mode(self, mode: str, config: Config) -> None:
        self.write(switch.MODE, switch.mode_text(mode, config.menu, config.tries))

    # the environment block

    def environment(self) -> dict[str, str]:
        return environment(self.text(switch.ENVIRONMENT))

    def change_environment(self, change: Callable[[dict[str, str]], None]) -> None:
        """``change`` gets the variables. Nothing is written if they stay the same; a block that has not the right size
        is made anew. ValueError: they do not fit."""
        before = self.environment()
        after = dict(before)
        change(after)
        whole = self._size() == SIZE
        if after == before and (whole or not before):
            return
        raw = environment_block(after).encode("utf-8", "surrogateescape")
        if not whole:
            write_durably(self.fd, switch.ENVIRONMENT, raw)
            return
        fd = os.open(switch.ENVIRONMENT, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            if os.pwrite(fd, raw, 0) != SIZE:
                raise OSError(errno.EIO, os.strerror(errno.EIO), switch.ENVIRONMENT)
            os.fsync(fd)
        finally:
            os.close(fd)

    def _size(self) -> int:
        try:
            return os.stat(switch.ENVIRONMENT, dir_fd=self.fd).st_size
        except FileNotFoundError:
            return -1

    def drop(self, *names: str) -> None:
        """Variables that are gone afterwards."""

        def change(variables: dict[str, str]) -> None:
            for name in names:
                variables.pop(name, None)

        self.change_environment(change)

"""A machine as the collectors see it: its files below a root, and its programs. A fixture tree looks the same."""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from typing import Final

from livelift.platform.linux.confine import open_in_root

PROGRAM_SECONDS: Final = 20
LIMIT: Final = 4 << 20
"""Bytes that are read of one file: facts and configuration are small, and a device has no end."""

Run = Callable[[tuple[str, ...]], "str | None"]


def run_program(command: tuple[str, ...]) -> str | None:
    """Its output, or None if it is missing, fails or takes longer than `PROGRAM_SECONDS`."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROGRAM_SECONDS, env=environment, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return text_of(done.stdout)


def text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


class Host:
    """``root``: a directory; nothing outside of it is read. ``run``: how programs are called; None for a tree that is
    not running (they then answer None, and what they would tell is listed in ``unread``)."""

    def __init__(self, root: str = "/", run: Run | None = None) -> None:
        self.live = root == "/"
        self._fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._root = os.fsdecode(os.readlink(f"/proc/self/fd/{self._fd}"))
        self._run = run if run is not None or not self.live else run_program
        self.unread: list[str] = []

    def close(self) -> None:
        os.close(self._fd)

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        return open_in_root(self._fd, os.fsencode(path), flags)

    def bytes(self, path: str, limit: int = LIMIT, offset: int = 0) -> bytes:
        """Content, at most ``limit`` bytes; empty if there is no such file. Other trouble is noted in ``unread``."""
        try:
            fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            self._note(path, error)
            return b""
        try:
            if offset:
                os.lseek(fd, offset, os.SEEK_SET)
            found = b""
            # The kernel sets aside as much as is asked for when it answers from /proc/sys: ask for little.
            while len(found) < limit and (piece := os.read(fd, min(limit - len(found), 1 << 16))):
                found += piece
            return found
        except OSError as error:
            self._note(path, error)
            return b""
        finally:
            os.close(fd)

    def text(self, path: str) -> str:
        return text_of(self.bytes(path))

    def line(self, path: str) -> str:
        """The first line, stripped."""
        return self.text(path).partition("\n")[0].strip()

    def exists(self, path: str) -> bool:
        return self.mode(path) != 0

    def is_dir(self, path: str) -> bool:
        return stat.S_ISDIR(self.mode(path))

    def mode(self, path: str) -> int:
        """st_mode, symlinks followed; 0 if there is nothing."""
        try:
            fd = self.open(path, os.O_PATH)
        except OSError as error:
            self._note(path, error)
            return 0
        try:
            return os.fstat(fd).st_mode
        finally:
            os.close(fd)

    def names(self, path: str) -> list[str]:
        """Sorted entries; empty if it is no directory."""
        try:
            fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            self._note(path, error)
            return []
        try:
            return sorted(text_of(os.fsencode(name)) for name in os.listdir(fd))
        finally:
            os.close(fd)

    def real(self, path: str) -> str:
        """The path with all symlinks resolved inside of the root; empty if there is nothing."""
        try:
            fd = self.open(path, os.O_PATH)
        except OSError as error:
            self._note(path, error)
            return ""
        try:
            found = os.fsdecode(os.readlink(f"/proc/self/fd/{fd}"))
        finally:
            os.close(fd)
        return found if self._root == "/" else "/" + found[len(self._root) :].strip("/")

    def lstat(self, path: str) -> os.stat_result | None:
        """Of the name itself, symlinks in its directory followed; None if there is nothing."""
        try:
            fd = self.open(path, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            self._note(path, error)
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def link(self, path: str) -> str:
        """Text of a symlink; empty if it is none."""
        try:
            fd = self.open(path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return ""
        try:
            return text_of(os.readlink(b"", dir_fd=fd))
        except OSError:
            return ""
        finally:
            os.close(fd)

    def glob(self, pattern: str) -> Iterator[str]:
        """Paths that match, sorted; ``*`` stays inside of one name, a name with a leading dot needs one."""
        parts = pattern.strip("/").split("/")
        found = [""]
        for part in parts:
            if not glob.has_magic(part):
                found = [f"{path}/{part}" for path in found]
                continue
            found = [f"{path}/{name}" for path in found for name in self.matching(path or "/", part)]
        return (path for path in found if self.exists(path))

    def matching(self, directory: str, part: str) -> list[str]:
        """Names of a directory that match a pattern, dangling links too."""
        return [n for n in self.names(directory) if fnmatch.fnmatchcase(n, part) and (n[0] != "." or part[0] == ".")]

    def run(self, *command: str) -> str:
        """Output of a program; empty, and noted in ``unread``, if it could not be had."""
        answer = self.try_run(*command)
        if answer is None:
            why = "failed or is missing" if self._run is not None else "this root is not a running machine"
            self.unread.append(f"{command[0]}: {why}")
        return answer or ""

    def try_run(self, *command: str) -> str | None:
        """As `run`, for a call that has a substitute: None, and nothing noted."""
        return self._run(command) if self._run is not None else None

    def _note(self, path: str, error: OSError) -> None:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            self.unread.append(f"{path}: {error.strerror}")

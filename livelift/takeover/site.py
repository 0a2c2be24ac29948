"""The system that runs, as the take-over's verbs see it: where things are, what is written down, how programs run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from livelift.errors import StateError
from livelift.platform.linux import files
from livelift.platform.linux.programs import run_program
from livelift.takeover.records import OWN, Config, Records, State
from livelift.takeover.swap import place_for, standing_at

PROGRAM_SECONDS = 300
"""Of grub-install or update-grub; grub-mkconfig of a machine with many disks takes minutes."""
Run = Callable[[tuple[str, ...]], str]


class Opened(NamedTuple):
    records: Records
    config: Config
    state: State


class Site:
    """``root``: of the system that runs; another one for tests. ``run``: calls a program, gives its output or raises
    ProgramError."""

    def __init__(self, root: str = "/", run: Run | None = None) -> None:
        self.root = root.rstrip("/") or "/"
        self.run = run or (lambda words: run_program(words, PROGRAM_SECONDS))

    def top(self, mountpoint: str = "/") -> str:
        """The live place of a file system."""
        return os.path.join(self.root, mountpoint.lstrip("/")).rstrip("/") or "/"

    def tops(self, config: Config) -> list[str]:
        return [self.top(volume.mountpoint) for volume in config.volumes]

    def staged(self, mountpoint: str = "/", view: str = "") -> str:
        """Its staged place; ``view``: a root in which the staged system is seen with all its file systems."""
        if view:
            return os.path.join(view, mountpoint.lstrip("/")).rstrip("/")
        return place_for(self.top(mountpoint))

    def own(self) -> str:
        return os.path.join(self.root, OWN)

    def system(self) -> str:
        """old, new or mixed."""
        return standing_at(self.root)

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        """StateError: nothing is installed. CorruptError: what is written down is damaged."""
        try:
            records = Records(self.root)
        except FileNotFoundError as error:
            raise StateError("no take-over is installed here", remedy="livelift takeover install") from error
        try:
            config = records.config()
            if config is None:
                raise StateError("the take-over is installed in part", remedy="livelift takeover install, again")
            yield Opened(records, config, records.state() or State())
        finally:
            records.close()

    def sync(self, config: Config) -> None:
        for top in self.tops(config):
            fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                files.syncfs(fd)
            finally:
                os.close(fd)

"""What one worker works with: its open files, its notes and counters, and who we are to the kernel."""

from __future__ import annotations

import os
import threading
from typing import Final, NamedTuple

from livelift.replay.directories import Directory
from livelift.replay.open_files import OpenFiles
from livelift.replay.trouble import Notes


class Counters(NamedTuple):
    """Since this process started: records applied, objects made, bytes of content written."""

    records: int
    objects: int
    bytes: int


class Who:
    """Our ids and umask: what a fresh object gets without being asked. Looked up once (umask: proc_pid_status(5)), for
    changing the umask would change it for the whole process."""

    def __init__(self) -> None:
        self.uid: Final = os.geteuid()
        self.gid: Final = os.getegid()
        self.root: Final = self.uid == 0
        with open("/proc/self/status", "rb") as status:
            self.umask: Final = next(int(line.split()[1], 8) for line in status if line.startswith(b"Umask:"))


class Hands:
    """One per worker thread."""

    def __init__(self, who: Who, unlock: threading.Lock, files: int) -> None:
        self.uid = who.uid
        self.gid = who.gid
        self.root = who.root
        self.umask = who.umask
        self.unlock = unlock  # only one worker at a time lifts i/a flags and sets them again
        self.files = OpenFiles(files)
        self.notes = Notes()
        self.made = 0
        self.bytes = 0

    def note(self, code: str, error: OSError, directory: Directory, name: bytes, remedy: str = "") -> None:
        """A problem with one object: this replica is weaker than the source."""
        self.notes.add(code, error, directory.oid, name, remedy)

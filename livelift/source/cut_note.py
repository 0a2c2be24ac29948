"""How far a cutover has come, kept in the state directory: a source that is started again must neither overwrite a
replica that serves by now, nor leave its own service frozen for an attempt that died with it.

    ""  ──fence──> "fenced" ──ask──> "asked" ──confirmed──> "cut"
    fenced, asked, cut ──undone──> "undone" ──told to the target──> ""
"""

from __future__ import annotations

from livelift.platform.system import os

NAMES = ("", "fenced", "asked", "cut", "undone")


class CutNote:
    """``state`` is one of `NAMES`. OSError from `set` if it cannot be made durable."""

    def __init__(self, directory: bytes) -> None:
        self._directory = directory
        self._path = os.path.join(directory, b"cut")
        try:
            with open(self._path, encoding="ascii") as file:
                self.state = file.read().strip()
        except FileNotFoundError:
            self.state = ""
        if self.state not in NAMES:
            self.state = "cut"  # the safe reading: nothing is sent before the operator says so

    def set(self, state: str) -> None:
        """Whole or not at all, and durable: temporary file, fsync, rename, fsync of the directory."""
        fd = os.open(self._path + b".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, state.encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(self._path + b".new", self._path)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.state = state

    @property
    def features(self) -> tuple[str, ...]:
        """What the greeting says about it. What was asked for, and did not end in a cut, is undone."""
        if self.state == "cut":
            return ("cut",)
        return ("rollback",) if self.state in ("asked", "undone") else ()

"""How far a cutover has come, kept in the state directory: a source that is started again must neither overwrite a
replica that serves by now, nor leave its own service frozen for an attempt that died with it.

    ""  ──fence──> "fenced" ──ask──> "asked" ──confirmed──> "cut"
    of a whole server, from here on:  "cut" ──> "handed" ──confirmed there──> "served" ──commit──> "committed"
    fenced, asked, cut, handed, served ──undone──> "undone" ──told to the target──> ""

The fence stays with "cut" (of data), "handed", "served" and "committed", whatever becomes of the agent; with any other
note it comes down (`livelift.cutover.keeper`).
"""

from __future__ import annotations

from livelift.lifecycle.states import State
from livelift.platform.system import os

NAMES = ("", "fenced", "asked", "cut", "handed", "served", "committed", "undone")
STANDING = {"handed": State.HANDED, "served": State.SERVED, "committed": State.COMMITTED}
"""Notes of a whole server with which the source stays fenced, and the state in which an agent starts then."""
PASSING = ("", "fenced", "asked", "undone")
"""Notes of an attempt that ends with its agent. "cut" is one of them for a whole server: its target does nothing that
cannot be undone before "handed"."""


def lets_go(server: bool) -> tuple[str, ...]:
    """The notes with which a fence comes down when the agent is gone."""
    return (*PASSING, "cut") if server else PASSING


class CutNote:
    """``state`` is one of `NAMES`. ``server``: of a whole server. OSError from `set` if it cannot be made durable."""

    def __init__(self, directory: bytes, server: bool = False) -> None:
        self._directory = directory
        self._server = server
        self._path = os.path.join(directory, b"cut")
        try:
            with open(self._path, encoding="ascii") as file:
                self.state = file.read().strip()
        except FileNotFoundError:
            self.state = ""
        if self.state not in NAMES:
            self.state = "handed" if server else "cut"  # the safe reading: nothing happens before the operator says so

    @property
    def stands(self) -> bool:
        """The fence is to stay, and what runs on the target may be in use."""
        return self.state not in lets_go(self._server)

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
        if self.state in STANDING:
            return ("cut", "handed")
        if self.state == "cut":
            return ("cut",)
        return ("rollback",) if self.state in ("asked", "undone") else ()

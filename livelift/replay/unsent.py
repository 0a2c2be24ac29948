"""Conflicts survive a crash: a step is never tried twice, so its conflict must not be forgotten either."""

from __future__ import annotations

import os

import msgspec

from livelift.replay.trouble import Conflict


class Unsent:
    """An append-only file of JSON lines, synced with each one (conflicts are rare), emptied by a checkpoint.

    So: whoever holds the Replayer sends the conflicts on before it acknowledges the checkpoint after them.
    """

    def __init__(self, path: bytes) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._found: list[Conflict] = []
        self._last: Conflict | None = None
        self._empty = True
        with open(self._fd, "rb", closefd=False) as file:
            for line in file:
                self._empty = False
                if line.endswith(b"\n"):  # else: torn by the crash, so its step has not been marked as done
                    self._found.append(_DECODER.decode(line))

    def take(self) -> list[Conflict]:
        """Those of before the crash, once."""
        found, self._found = self._found, []
        return found

    def give_back(self, conflicts: list[Conflict]) -> None:
        """They could not be handed on: the next `take` has them."""
        self._found = conflicts + self._found

    def keep(self, conflict: Conflict) -> None:
        if conflict is self._last:
            return
        os.write(self._fd, _ENCODER.encode(conflict) + b"\n")
        os.fdatasync(self._fd)
        self._last = conflict
        self._empty = False

    def clear(self) -> None:
        if not self._empty:
            os.ftruncate(self._fd, 0)
            self._empty = True

    def close(self) -> None:
        os.close(self._fd)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Conflict)


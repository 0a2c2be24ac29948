"""Capture by the USN journal: every change of an NTFS volume by file reference, kept by the volume itself.

A journal that has wrapped over what was not read yet, was deleted or made anew: `Lost` for the volume, and on from its
present end. Not seen on a real Windows machine yet (docs/internals/windows.md).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from livelift.capture.usn_events import Translator
from livelift.errors import PreflightError, StateError
from livelift.platform.windows import dll, files
from livelift.platform.windows import journal as usn_journal
from livelift.platform.windows.journal import Journal
from livelift.platform.windows.usn import JournalState
from livelift.platform.windows.volumes import volume_of
from livelift.ports import Event, Lost, Synced, WatchedVolume

POLL: Final = 0.05
"""Seconds between two looks at an idle journal: one FSCTL of some 10 us for each volume."""

OPEN_EVERY: Final = 2.0
"""Seconds between two marks of files that were written and are still open: only changed blocks are sent, but all of the
file is read for it, and `source.dirty` makes the pauses longer for what is dear to read."""


class _Followed:
    def __init__(self, volume: WatchedVolume) -> None:
        self.index = volume.index
        self.journal = Journal(volume_of(os.fsdecode(volume.mountpoint)).device)
        self.translator = Translator(volume.index)
        try:
            self.state = self._ready()
        except BaseException:
            self.journal.close()
            raise
        self.position = self.state.next

    def _ready(self) -> JournalState:
        try:
            return self.journal.state()
        except OSError as error:
            if dll.winerror(error) != usn_journal.NOT_ACTIVE:
                raise
        self.journal.create()
        return self.journal.state()

    def take(self) -> list[Event]:
        """Everything up to the present end."""
        events: list[Event] = []
        while True:
            try:
                following, records = self.journal.read(self.state.id, self.position)
            except OSError as error:
                if dll.winerror(error) not in usn_journal.GONE:
                    raise
                self.state = self._ready()
                self.position = self.state.next
                self.translator = Translator(self.index)
                reason = "the USN journal wrapped, or was deleted"
                return [*events, Lost(0, self.index, f"{reason} ({dll.winerror(error)})", time.time_ns())]
            events += self.translator.events(records)
            if following == self.position:
                return events
            self.position = following


class UsnCapture:
    """One thread reads; `sync` and `close` may come from others."""

    name = "usn"
    promise = "converges: every change by file reference, content is found by block digests; a cut needs the fence"
    blind_to: tuple[str, ...] = ("mmap",)

    def __init__(self) -> None:
        self._volumes: list[_Followed] = []
        self._tokens: deque[int] = deque()
        self._asked = threading.Event()
        self._marked = 0.0
        self._started = False

    def start(self, volumes: Iterable[WatchedVolume], ignore: Callable[[bytes], bool]) -> None:
        """PreflightError: a volume without a journal, or no right to read it."""
        try:
            for volume in volumes:
                self._volumes.append(_Followed(volume))
        except OSError as error:
            self.close()
            where = os.fsdecode(volume.mountpoint)
            if dll.winerror(error) in files.UNSUPPORTED:
                raise PreflightError(f"{where} has no USN journal", remedy="use --capture watch") from error
            raise PreflightError(f"the USN journal of {where}: {error}", remedy="run as an administrator") from error
        self._started = True

    def watch_directory(self, oid: int, path: bytes) -> None:
        """The journal speaks of the whole volume."""

    def read(self, timeout: float) -> list[Event]:
        if not self._started:
            raise StateError("the capture is not started, or closed")
        deadline = time.monotonic() + timeout
        while True:
            tokens = len(self._tokens)
            events = [event for volume in self._volumes for event in volume.take()]
            if tokens or time.monotonic() - self._marked > OPEN_EVERY:
                self._marked = time.monotonic()
                events += [event for volume in self._volumes for event in volume.translator.still_open()]
            events += [Synced(self._tokens.popleft()) for _ in range(tokens)]
            remaining = deadline - time.monotonic()
            if events or remaining <= 0:
                return events
            self._asked.wait(min(POLL, remaining))
            self._asked.clear()

    def sync(self, token: int) -> None:
        self._tokens.append(token)
        self._asked.set()

    def close(self) -> None:
        self._started = False
        for volume in self._volumes:
            volume.journal.close()
        self._volumes.clear()

"""The serial log of a machine: what it said since its last start, signs of a failed boot, a line to wait for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.vm.qemu import clean

TROUBLE: Final = re.compile(
    rb"Kernel panic|\(initramfs\)|grub rescue>|Gave up waiting for root|[Ee]mergency mode|No bootable device|"
    rb"error: symbol .* not found|Failed to boot both default|Minimal BASH-like line editing|"
    rb"BdsDxe: No bootable option|You need to load the kernel first"
)


class Serial:
    """QEMU appends to the file; ``offset`` is where the boot begins that we look at."""

    def __init__(self, file: Path, offset: int = 0) -> None:
        self._file = file
        self.offset = offset

    def size(self) -> int:
        return self._file.stat().st_size if self._file.exists() else 0

    def text(self) -> bytes:
        """Everything from ``offset`` on."""
        if not self._file.exists():
            return b""
        with self._file.open("rb") as file:
            file.seek(self.offset)
            return file.read()

    def tail(self, lines: int = 30) -> str:
        return "\n".join(clean(self.text()).rstrip().split("\n")[-lines:])

    def trouble(self) -> str:
        """The first sign of a boot that leads nowhere, or an empty string."""
        found = TROUBLE.search(self.text())
        return found.group().decode() if found else ""

    def wait(self, pattern: str, timeout: float, alive: Callable[[], bool], every: float = 0.005) -> str | None:
        """The match, as soon as it is in the text from now on (from the last start on, if it is there already);
        None: not within ``timeout`` seconds, or the machine has ended."""
        wanted, seen, at = re.compile(pattern.encode()), b"", self.offset
        end = time.monotonic() + timeout
        while True:
            living = alive()
            if self._file.exists():
                with self._file.open("rb") as file:
                    file.seek(at)
                    seen += file.read()
                    at = file.tell()
            if found := wanted.search(seen):
                return found.group().decode(errors="replace")
            if not living or time.monotonic() > end:
                return None
            time.sleep(every)

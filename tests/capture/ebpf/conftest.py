"""Programs in this machine's kernel, or a loud skip that says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from livelift.capture.ebpf.capture import EbpfSyscallCapture
from livelift.capture.ebpf.inorder import EbpfFexitCapture
from livelift.errors import PreflightError
from livelift.model.record import Range
from livelift.ports import Event, Exact, WatchedVolume
from tests.capture.conftest import Reader

EbpfCapture = EbpfSyscallCapture | EbpfFexitCapture
AnyCapture = TypeVar("AnyCapture", EbpfSyscallCapture, EbpfFexitCapture)


def started(capture: AnyCapture, volume: WatchedVolume) -> AnyCapture:
    """The capture, running; skips the test with the kernel's reason where it refuses."""
    try:
        capture.start([volume], lambda _: False)
    except PreflightError as error:
        pytest.skip(f"{capture.name}: {error.args[0]}")
    return capture


@pytest.fixture
def reader(volume: WatchedVolume) -> Iterator[Reader]:
    capture = started(EbpfSyscallCapture(), volume)
    try:
        yield Reader(capture, volume)
    finally:
        capture.close()


def records(events: list[Event], oid: int) -> list[tuple[str, int, int, bytes]]:
    """(kind, offset, length, payload) of the exact records on one object."""
    return [
        (e.record.kind.name, e.record.body.offset, e.record.body.length, bytes(e.record.payload))
        for e in events
        if isinstance(e, Exact) and isinstance(e.record.body, Range) and e.record.body.oid == oid
    ]


def replay(events: list[Event], oid: int, start: bytes = b"") -> bytes:
    """The file as writes and truncations alone make it of ``start``."""
    content = bytearray(start)
    for kind, offset, _, payload in records(events, oid):
        if kind == "TRUNCATE":
            content = content[:offset].ljust(offset, b"\0")
        elif kind == "WRITE":
            content = content.ljust(offset + len(payload), b"\0")
            content[offset : offset + len(payload)] = payload
    return bytes(content)


def elsewhere(script: str, *arguments: str | Path) -> int:
    """Run a Python script in a process of its own; its process id, after it ended well."""
    child = subprocess.Popen([sys.executable, "-c", script, *map(os.fspath, arguments)])
    assert child.wait(60) == 0
    return child.pid

"""When the agent ends, however it ends, the kernel is as it was before.

In both modes, where the kernel lets them load; test_machines.py runs this file in a virtual machine.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from livelift.capture.ebpf.capture import EbpfSyscallCapture
from livelift.capture.ebpf.inorder import EbpfFexitCapture
from livelift.ports import WatchedVolume
from tests.capture.ebpf.conftest import EbpfCapture, started
from tests.oracle.slow import SLOW

pytestmark = pytest.mark.root

CHILD = """
import os, sys, time
from livelift.capture.ebpf.capture import EbpfSyscallCapture
from livelift.capture.ebpf.inorder import EbpfFexitCapture
from livelift.ports import WatchedVolume
capture = {mode}()
path = sys.argv[1].encode()
capture.start([WatchedVolume(1, path, sys.argv[2], os.stat(path).st_dev)], lambda _: False)
print("started", flush=True)
time.sleep(600)
"""

LEAST = {EbpfSyscallCapture: 2, EbpfFexitCapture: 20}


def held_by(process: int) -> dict[str, set[int]]:
    """Kernel ids of the BPF programs, links and maps that a process holds (proc(5), fdinfo)."""
    found: dict[str, set[int]] = {"prog": set(), "link": set(), "map": set()}
    for fd in os.listdir(f"/proc/{process}/fd"):
        try:
            info = Path(f"/proc/{process}/fdinfo/{fd}").read_text()
        except FileNotFoundError:  # that of this very listing
            continue
        for line in info.splitlines():
            word, _, number = line.partition(":")
            if word.endswith("_id") and word.removesuffix("_id") in found:
                found[word.removesuffix("_id")].add(int(number))
    return found


def left(held: dict[str, set[int]]) -> list[str]:
    """Those of them that the kernel still has."""
    libbpf = ctypes.CDLL("libbpf.so.1")
    found = []
    for kind, numbers in held.items():
        for number in numbers:
            fd = getattr(libbpf, f"bpf_{kind}_get_fd_by_id")(number)
            if fd >= 0:
                os.close(fd)
                found.append(f"{kind} {number}")
    return found


@pytest.mark.parametrize("mode", list(LEAST), ids=lambda mode: mode.name)
@pytest.mark.parametrize("how", ["close", "kill", "kill while it is written"])
@pytest.mark.timeout(300)
def test_nothing_is_left_in_the_kernel(volume: WatchedVolume, here: Path, how: str, mode: type[EbpfCapture]) -> None:
    capture = started(mode(), volume)
    held = held_by(os.getpid())
    try:
        assert len(held["prog"]) >= LEAST[mode] and held["map"]
        assert left(held), "or this test could not see anything"
        if how != "close":
            command = [sys.executable, "-c", CHILD.format(mode=mode.__name__), here, volume.fstype]
            child = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert child.stdout is not None and child.stdout.readline() == b"started\n"
            held = {kind: numbers | held[kind] for kind, numbers in held_by(child.pid).items()}
            until = time.monotonic() + 2
            with (here / "written").open("wb") as file:
                while "while" in how and time.monotonic() < until:
                    file.write(bytes(65536))
                    file.seek(0)
                    if time.monotonic() > until - 1:
                        child.kill()
            child.kill()
            child.communicate()
    finally:
        capture.close()
        capture.close()  # a second one does nothing
    deadline = time.monotonic() + 5 * SLOW  # the kernel frees programs after a grace period
    while left(held) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left(held) == []
    path = here / "afterwards"
    path.write_bytes(b"x" * 70_000)
    os.truncate(path, 10)
    assert path.read_bytes() == b"x" * 10

"""The watchdog as a process: it pulls the trigger in time, is calmed by root's word only, feeds the hardware."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from livelift.takeover import watchdog
from livelift.takeover.watchdog import Hardware, Watchdog, ask


@pytest.fixture
def name(request: pytest.FixtureRequest) -> bytes:
    return b"\0livelift-test-%d-%s" % (os.getpid(), request.node.name.encode())


class Dog:
    """A watchdog in a thread, with files for what it would write to."""

    def __init__(self, place: Path, seconds: float, name: bytes, hardware: Hardware | None = None) -> None:
        self.trigger, self.log = place / "trigger", place / "log"
        fds = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in (self.trigger, self.log)]
        self.dog = Watchdog(seconds, hardware, *fds, name=name)
        self.told: list[bool] = []
        self.thread = threading.Thread(target=lambda: self.told.append(self.dog.run()), daemon=True)
        self.thread.start()


def test_it_reboots_unless_it_is_told(tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    began = time.monotonic()
    dog = Dog(tmp_path, 0.5, name)
    while not dog.trigger.read_bytes().startswith(b"sub"):
        assert time.monotonic() - began < 10
    assert time.monotonic() - began >= 0.5
    assert "not confirmed within" in dog.log.read_text() and dog.log.read_text().startswith("<2>livelift: ")
    assert ask("confirmed", name) == "calm"  # a trigger that does nothing leaves it waiting
    dog.thread.join(10)
    assert dog.told == [True]


def test_it_is_calmed(tmp_path: Path, name: bytes) -> None:
    dog = Dog(tmp_path, 60, name)
    assert ask("status", name) == "60 software"
    assert ask("nonsense", name).endswith("software")
    assert ask("confirmed", name) == "calm"
    dog.thread.join(10)
    assert dog.told == [True] and dog.trigger.read_bytes() == b""


def test_none_runs(name: bytes) -> None:
    assert ask("status", name) == "" and ask("confirmed", name) == ""


@pytest.mark.root
def test_others_are_not_listened_to(tmp_path: Path, name: bytes) -> None:
    dog = Dog(tmp_path, 60, name)
    code = f"""
import os, socket
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as door:
    door.connect({name!r})
    door.sendall(b"confirmed\\n")
    print(door.recv(64))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    hung_up = "BrokenPipeError" in done.stderr or "ConnectionResetError" in done.stderr
    assert done.stdout.strip() == "b''" or hung_up, done
    assert ask("status", name).endswith("software")
    assert ask("confirmed", name) == "calm"
    dog.thread.join(10)


def test_the_hardware_is_fed_and_stopped(tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "watchdog"
    hardware = Hardware(str(device), str(tmp_path / "nowayout"))
    monkeypatch.setattr(watchdog, "FEED", 0.02)
    dog = Dog(tmp_path, 60, name, hardware)
    assert ask("status", name).endswith("software"), "its driver is not loaded yet"
    (tmp_path / "nowayout").write_text("0\n")
    device.touch()
    deadline = time.monotonic() + 10
    while len(device.read_bytes()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert ask("status", name).endswith("hardware")
    assert ask("confirmed", name) == "calm"
    dog.thread.join(10)
    assert device.read_bytes().strip(b"\0") == b"V" and device.read_bytes().endswith(b"V")


def test_a_question_has_it_look_for_the_hardware(tmp_path: Path, name: bytes) -> None:
    """The stage takes a second or two, and behind it there is no /dev any more."""
    device = tmp_path / "watchdog"
    dog = Dog(tmp_path, 60, name, Hardware(str(device), str(tmp_path / "nowayout")))
    assert ask("status", name).endswith("software")
    (tmp_path / "nowayout").write_text("0\n")
    device.touch()
    assert ask("status", name).endswith("hardware")
    assert ask("confirmed", name) == "calm"
    dog.thread.join(10)


def test_hardware_that_cannot_be_stopped_is_left_alone(tmp_path: Path) -> None:
    device = tmp_path / "watchdog"
    device.touch()
    (tmp_path / "nowayout").write_text("1\n")
    hardware = Hardware(str(device), str(tmp_path / "nowayout"))
    hardware.feed()
    hardware.stop()
    assert device.read_bytes() == b"" and hardware.fd == -1

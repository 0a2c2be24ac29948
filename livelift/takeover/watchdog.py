"""The watchdog: a process of the take-over stage that outlives it and reboots unless the new system confirms in time.

It needs no file once it runs: its memory is locked, /proc/sysrq-trigger and /dev/watchdog are open, and it is told by
an abstract Unix socket (unix(7)): that name belongs to the network namespace, so it is the same before and after the
root has changed, it needs no place in anybody's tree, and the answer says that the machine is calm again, which a file
that somebody will look at some time does not. Only root is listened to (SO_PEERCRED).

Its name begins with "@": systemd, which kills all other processes of the initramfs when it changes the root, leaves
those to themselves ("Root Storage Daemons", systemd.io).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from fcntl import ioctl
from typing import Final

from livelift.platform.linux.memory import lock_memory

SOCKET: Final = b"\0livelift-takeover"
NAME: Final = "@livelift-watchdog"
FEED: Final = 10.0
"""Seconds between two signs of life for the hardware; its own limit is set to `HARDWARE`."""
HARDWARE: Final = 60
LOADING: Final = 30.0
"""Seconds in which the hardware may still appear."""
DEVICE: Final = "/dev/watchdog"
NOWAYOUT: Final = "/sys/class/watchdog/watchdog0/nowayout"
_SETTIMEOUT: Final = 0xC0045706  # WDIOC_SETTIMEOUT, linux/watchdog.h
_PEER: Final = struct.Struct("=iII")  # struct ucred: pid, uid, gid


class Hardware:
    """/dev/watchdog, where there is one that can be stopped again: with "nowayout" it could not."""

    def __init__(self, device: str = DEVICE, nowayout: str = NOWAYOUT) -> None:
        self.fd = -1
        self._device = device
        self._nowayout = nowayout
        self._until = time.monotonic() + LOADING

    def feed(self) -> None:
        self.look()
        if self.fd >= 0:
            os.write(self.fd, b"\0")

    def look(self) -> None:
        """Opened if it is not: the stage loads its driver after this process has started, and asks then. Not for long:
        behind the change of root this process sees the initramfs' /dev, which is empty."""
        if self.awaited():
            self._open()

    def awaited(self) -> bool:
        return self.fd < 0 and time.monotonic() < self._until

    def _open(self) -> None:
        try:
            with open(self._nowayout, encoding="ascii") as file:
                if file.read().strip() != "0":
                    return
            self.fd = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
            ioctl(self.fd, _SETTIMEOUT, struct.pack("=i", HARDWARE))
        except OSError:
            return  # there is none, it belongs to another, or it has a fixed time limit

    def stop(self) -> None:
        """The magic close (Documentation/watchdog/watchdog-api.rst)."""
        if self.fd >= 0:
            os.write(self.fd, b"V")
            os.close(self.fd)
            self.fd = -1


class Watchdog:
    """``trigger``: where the letters of sysrq go. ``log``: the kernel's log. Both are descriptors."""

    def __init__(self, seconds: float, hardware: Hardware | None, trigger: int, log: int, name: bytes = SOCKET) -> None:
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._hardware = hardware
        self._trigger = trigger
        self._log = log
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(name)
        self._door.listen(8)

    def run(self) -> bool:
        """True: it has been told. Else the machine is rebooting; a trigger that does not work is pulled again."""
        with self._door:
            return self._watch()

    def _watch(self) -> bool:
        poll = select.poll()  # select(2) takes no descriptor above 1023
        poll.register(self._door, select.POLLIN)
        while True:
            left = self._deadline - time.monotonic()
            if left <= 0:
                self._fire()
                self._deadline = time.monotonic() + FEED
                continue
            try:
                if self._hardware is not None:
                    self._hardware.feed()
                if poll.poll(1000 * min(left, FEED, self._pause())) and self._answer(left):
                    self._door.close()
                    return True
            except OSError as error:
                self.say(f"watchdog: {error}")
                time.sleep(1)

    def _pause(self) -> float:
        return 1.0 if self._hardware is not None and self._hardware.awaited() else FEED

    def _answer(self, left: float) -> bool:
        peer, _ = self._door.accept()
        with peer:
            peer.settimeout(2)
            _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            if uid != 0:
                return False
            word = peer.recv(64)
            if word == b"confirmed\n":
                if self._hardware is not None:
                    self._hardware.stop()
                self.say("watchdog: the system that runs has been confirmed")
                peer.sendall(b"calm\n")
                return True
            if self._hardware is not None:
                self._hardware.look()
            device = "hardware" if self._hardware is not None and self._hardware.fd >= 0 else "software"
            peer.sendall(f"{left:.0f} {device}\n".encode())
            return False

    def _fire(self) -> None:
        """Sync, remount read-only, reboot (Documentation/admin-guide/sysrq.rst). The first two are not waited for."""
        self.say(f"watchdog: not confirmed within {self._seconds:.0f} s, rebooting", urgent=True)
        for letter, pause in ((b"s", 2.0), (b"u", 2.0), (b"b", 0.0)):
            try:
                os.write(self._trigger, letter)
            except OSError as error:
                self.say(f"watchdog: sysrq {letter.decode()}: {error}", urgent=True)
            time.sleep(pause)

    def say(self, text: str, urgent: bool = False) -> None:
        try:
            os.write(self._log, f"<{2 if urgent else 5}>livelift: {text}\n".encode())
        except OSError:
            return


def main(seconds: int, hardware: bool, ready: int) -> int:
    """``ready``: a descriptor that gets a byte once everything stands."""
    os.setsid()
    os.chdir("/")
    trigger = os.open("/proc/sysrq-trigger", os.O_WRONLY | os.O_CLOEXEC)
    log = os.open("/dev/kmsg", os.O_WRONLY | os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    watchdog = Watchdog(seconds, Hardware() if hardware else None, trigger, log)
    lock_memory()
    os.write(ready, b"1")
    os.close(ready)
    watchdog.run()
    return 0


def ask(word: str, name: bytes = SOCKET, seconds: float = 5) -> str:
    """ "confirmed": the watchdog ends. "status": seconds left, and hardware (it is looked for now) or
    software. Empty: none runs. OSError: it runs and does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(seconds)
        try:
            door.connect(name)
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                return ""
            raise
        door.sendall(f"{word}\n".encode())
        return door.recv(64).decode("ascii").strip()

"""The stage's program in the initramfs: kernel modules, mounts, the watchdog, the console; `stage` does the rest.

    main.py stage ROOT                     ROOT: where the initramfs has mounted the root
    main.py watchdog SECONDS HARDWARE FD   see `watchdog`
    main.py check                          everything could be loaded

Exit code 0: go on with the boot. Anything else: the hook (`hooks.WRAPPER`) looks which system stands.
"""

from __future__ import annotations

import os
import select
import sys
import time
from typing import Final

from livelift.errors import StateError
from livelift.facts.mountinfo import Mount, parse_mountinfo
from livelift.platform.linux import mounting
from livelift.platform.linux.modules import load_module
from livelift.platform.linux.namespaces import mount, unmount
from livelift.takeover import watchdog
from livelift.takeover.records import Config, Records, Volume
from livelift.takeover.stage import TROUBLE, Stage
from livelift.takeover.swap import standing_at
from livelift.takeover.switch import PARAMETER

HOME: Final = "/livelift"
"""Our directory in the initramfs."""
PYTHON: Final = f"{HOME}/bin/python3"
LIBRARIES: Final = f"{HOME}/so"
LOADER: Final = f"{LIBRARIES}/ld.so"
DEVICE_SECONDS: Final = 60.0
"""How long a disk of another file system is waited for; dracut and initramfs-tools give the root 30 s and more."""
READY_SECONDS: Final = 30.0


class Machine:
    """`stage.Hands` in an initramfs. ``root``: where it has mounted the root."""

    def __init__(self, root: str, config: Config) -> None:
        self._root = root
        self._volumes = config.volumes
        self.places: dict[str, str] = {"/": root}
        self._writable: list[tuple[str, tuple[bytes, ...]]] = []
        self._mounted: list[str] = []
        self._deadline = 0.0
        self._guarded = False

    # the console

    def say(self, text: str, urgent: bool = False) -> None:
        say(text, urgent)

    def now(self) -> int:
        return time.time_ns()

    # mounts

    def unlock(self) -> None:
        """The root for writing."""
        self._make_writable(self._root)

    def open(self) -> None:
        load_modules()
        self._arm_hardware()
        self._deadline = self._deadline or time.monotonic() + DEVICE_SECONDS
        for volume in self._volumes:
            if volume.mountpoint not in self.places:
                self.places[volume.mountpoint] = self._open(volume)

    def _open(self, volume: Volume) -> str:
        inside = f"{self._root}{volume.mountpoint}"
        if _mount_at(inside) is not None:  # /usr, which the initramfs mounts itself
            self._make_writable(inside)
            return inside
        device = device_of(volume.spec)
        if not os.path.exists(device):
            activate(device)
        while not os.path.exists(device):
            if time.monotonic() > self._deadline:
                raise StateError(f"{volume.spec} for {volume.mountpoint} is not here", remedy="is the disk there?")
            time.sleep(0.2)
        place = f"{HOME}/fs/{len(self._mounted)}"
        os.makedirs(place, exist_ok=True)
        mount(os.fsencode(device), os.fsencode(place), volume.fstype.encode(), 0, volume.data.encode())
        self._mounted.append(place)
        return place

    def _make_writable(self, path: str) -> None:
        found = _mount_at(path)
        if found is None:
            raise StateError(f"nothing is mounted at {path}", remedy="this is no initramfs of a kind that is known")
        if found.read_only:
            mounting.remount(os.fsencode(path), False, found.options)
            self._writable.append((path, found.options))

    def close(self) -> None:
        """As the initramfs expects it. Trouble is told: the system that stands can start all the same."""
        for place in reversed(self._mounted):
            try:
                unmount(os.fsencode(place))
            except OSError as error:
                say(f"{place}: {error}", urgent=True)
        for path, options in reversed(self._writable):
            try:
                mounting.remount(os.fsencode(path), True, options)
            except OSError as error:
                say(f"{path} stays writable: {error}")

    def settle(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounting.settle(fd)
        finally:
            os.close(fd)

    # the watchdog

    def guard(self, seconds: int, hardware: bool) -> None:
        if self._guarded:
            return
        ready, told = os.pipe()
        os.set_inheritable(told, True)
        words = ["watchdog", str(seconds), str(int(hardware)), str(told)]
        child = os.fork()
        if child == 0:
            try:
                os.execv(LOADER, [watchdog.NAME, *python_words()[1:], *words])
            finally:
                os._exit(127)
        os.close(told)
        try:
            poll = select.poll()
            poll.register(ready, select.POLLIN)
            if not poll.poll(1000 * READY_SECONDS) or os.read(ready, 1) != b"1":
                raise StateError("the watchdog does not start", remedy="see the console")
        finally:
            os.close(ready)
        self._guarded = True

    def _arm_hardware(self) -> None:
        """The watchdog takes it before the root changes, now that its driver is loaded. Without it the software counts,
        as the answer tells."""
        if not self._guarded:
            return
        try:
            say(f"watchdog: {watchdog.ask('status')}")
        except OSError as error:
            say(f"watchdog: {error}", urgent=True)

    def calm(self) -> None:
        watchdog.ask("confirmed")
        self._guarded = False


def python_words() -> list[str]:
    """How the private Python is started: by its own loader, with nothing of the initramfs' own."""
    words = [LOADER, "--library-path", LIBRARIES, PYTHON, "-I", "-S", "-B", "-X", "utf8"]
    return [*words, f"{HOME}/main.py"]


def say(text: str, urgent: bool = False) -> None:
    """The kernel's log comes to the console too, where the log level lets it."""
    line = f"livelift: {text}"
    print(line, flush=True)
    try:
        fd = os.open("/dev/kmsg", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, f"<{2 if urgent else 5}>{line}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return
    finally:
        os.close(fd)


def wish_of(command_line: str) -> str:
    """The last livelift= of a kernel's command line; empty without."""
    found = [word.partition("=")[2] for word in command_line.split() if word.partition("=")[0] == PARAMETER]
    return found[-1] if found else ""


def device_of(spec: str) -> str:
    """UUID=, LABEL= and their like as udev links them; anything else is a path."""
    tag, separator, value = spec.partition("=")
    return f"/dev/disk/by-{tag.lower()}/{value}" if separator and not spec.startswith("/") else spec


def activate(device: str) -> None:
    """An LVM volume, which the initramfs activates only for the root."""
    tool = next((path for path in ("/sbin/lvm", "/usr/sbin/lvm", "/bin/lvm") if os.path.exists(path)), "")
    if not tool or not device.startswith("/dev/mapper/"):
        return
    group, _, volume = device[12:].replace("--", "\0").partition("-")
    name = f"{group}/{volume}".replace("\0", "-")
    child = os.posix_spawn(tool, ["lvm", "lvchange", "-aay", "-y", "--sysinit", name], {"PATH": "/sbin:/bin"})
    os.waitpid(child, 0)


def load_modules() -> None:
    """Drivers that the target's own initramfs does not have, in their order. Trouble shows when a disk is missing."""
    directory = f"{HOME}/modules"
    if not os.path.isdir(directory):
        return
    for name in sorted(os.listdir(directory)):
        try:
            load_module(f"{directory}/{name}")
        except OSError as error:
            say(f"{name}: {error}")


def _mount_at(path: str) -> Mount | None:
    with open("/proc/self/mountinfo", "rb") as file:
        found = [m for m in parse_mountinfo(file.read()) if m.mountpoint == os.fsencode(path)]
    return found[-1] if found else None


def run(root: str, command_line: str) -> int:
    """Exit code."""
    root = root.rstrip("/") or "/"
    began = time.monotonic()
    try:
        records = Records(root)
    except FileNotFoundError:
        standing = standing_at(root)
        say(f"nothing of a take-over is on this root, the {standing} system stands")
        return 0 if standing != "mixed" else 1
    try:
        config = records.config()
        if config is None:
            raise StateError("the take-over is not installed on this root", remedy="see `livelift takeover status`")
        machine = Machine(root, config)
        machine.unlock()
        try:
            outcome = Stage(config, records, machine.places, machine).run(wish_of(command_line))
        finally:
            machine.close()
        say(f"{outcome.text} ({time.monotonic() - began:.1f} s)")
        return 0
    finally:
        records.close()


def main(words: list[str]) -> int:
    if words[1] == "watchdog":
        return watchdog.main(int(words[2]), words[3] == "1", int(words[4]))
    if words[1] == "check":
        print("the stage can be loaded")
        return 0
    with open("/proc/cmdline", encoding="ascii", errors="replace") as file:
        command_line = file.read()
    try:
        return run(words[2], command_line)
    except TROUBLE as error:
        say(f"{error}", urgent=True)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))

"""QEMU's command line for a machine, and its monitor."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.vm.places import VmError
from tests.vm.profiles import Profile

FIRMWARE: Final = Path("/usr/share/OVMF")
_ESCAPES: Final = re.compile(rb"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|c)|\r|\x00")


def clean(text: bytes) -> str:
    """Without what a terminal would act upon."""
    return _ESCAPES.sub(b"", text).decode(errors="replace")


def hardware(profile: Profile, disk: Path, kind: str, log: Path, state: Path) -> list[object]:
    """The machine without its network. ``kind``: raw or qcow2. ``state``: a directory for its sockets.

    LIVELIFT_VM_ACCEL: tcg (default: emulation runs everywhere) or kvm. Each machine has one processor: on a host of
    two cores that is one for each. ``cache=unsafe``: the host's page cache is the disk's medium, so a power cut loses
    what the guest had not yet sent to the disk, and nothing else.
    """
    state.mkdir(parents=True, exist_ok=True)
    kvm = os.environ.get("LIVELIFT_VM_ACCEL", "tcg") == "kvm"
    words: list[object] = [
        "qemu-system-x86_64", "-name", profile.name, "-machine", profile.machine,
        "-accel", "kvm" if kvm else "tcg,thread=multi,tb-size=256", "-cpu", "host" if kvm else profile.cpu,
        "-smp", 1, "-m", profile.memory, "-nodefaults", "-no-user-config", "-display", "none", "-rtc", "base=utc",
        "-chardev", f"socket,id=ser,path={state}/serial.sock,server=on,wait=off,logfile={log},logappend=on",
        "-serial", "chardev:ser", "-monitor", f"unix:{state}/monitor.sock,server=on,wait=off",
    ]  # fmt: skip
    if profile.uefi:
        variables = state / "efivars.fd"
        if not variables.exists():
            shutil.copy(FIRMWARE / "OVMF_VARS_4M.fd", variables)
        words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE}/OVMF_CODE_4M.fd"]
        words += ["-drive", f"if=pflash,unit=1,format=raw,file={variables}"]
    words += ["-drive", f"if=none,id=d0,format={kind},file={disk},cache=unsafe,discard=unmap"]
    words += {
        "ahci": ["-device", "ahci,id=sata", "-device", "ide-hd,drive=d0,bus=sata.0"],
        "virtio-blk": ["-device", "virtio-blk-pci,drive=d0"],
        "nvme": ["-device", "nvme,serial=vm0,drive=d0"],
    }[profile.disk]
    if profile.watchdog:
        # q35 has a second one, iTCO, which does nothing unless allowed to; Linux may take either for /dev/watchdog
        words += ["-device", "i6300esb,addr=6", "-global", "ICH9-LPC.noreboot=false", "-action", "watchdog=reset"]
    return words


def network(profile: Profile, ports: Mapping[int, int], wires: Path) -> list[object]:
    """Two cards. The management: nothing but 127.0.0.1's ports to the guest's, ``ports`` as {guest: host}; no way out.
    The link: a wire between the two roles, made of datagram sockets in ``wires``; either end may be away."""
    other = "target" if profile.role == "source" else "source"
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in ports.items())
    second = f"{profile.mac[:-1]}{int(profile.mac[-1], 16) + 1:x}"
    return [
        "-netdev", f"user,id=mgmt,restrict=on{forwards}",
        "-device", f"{profile.nic},id=nic-mgmt,netdev=mgmt,mac={profile.mac},addr=3,romfile=",
        "-netdev", f"dgram,id=link,local.type=unix,local.path={wires}/link.{profile.role},"
                   f"remote.type=unix,remote.path={wires}/link.{other}",
        "-device", f"{profile.nic},id=nic-link,netdev=link,mac={second},addr=4,romfile=",
    ]  # fmt: skip


def monitor(path: Path, command: str, timeout: float = 120) -> str:
    """One command of the human monitor, and what it says (nothing: it was done)."""
    prompt = b"(qemu) "
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout)
        try:
            line.connect(os.fspath(path))
            _until(line, prompt)
            line.sendall(command.encode() + b"\n")
            said = _until(line, prompt)
        except OSError as error:
            raise VmError(f"QEMU's monitor {path}: {command}: {error}") from error
    return "\n".join(clean(said.removesuffix(prompt)).splitlines()[1:])  # the first line is the command's echo


def _until(line: socket.socket, end: bytes) -> bytes:
    text = b""
    while not text.endswith(end):
        chunk = line.recv(4096)
        if not chunk:  # `quit` closes it
            break
        text += chunk
    return text

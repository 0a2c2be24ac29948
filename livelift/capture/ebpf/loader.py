"""From the compiled object file to running programs: which of them this machine can have, and plain words why not."""

from __future__ import annotations

import errno
import os
import platform
import struct
from collections.abc import Callable, Iterable
from importlib import resources

from livelift.capture.ebpf.syscalls import CALLS, NUMBERS
from livelift.errors import PreflightError
from livelift.model.entry import object_id
from livelift.platform.linux.bpf import BTF, BpfObject, put
from livelift.platform.linux.mapped import writable_shared_mappings
from livelift.ports import WatchedVolume

FALLBACK = "use --capture auto"


def open_object(flavour: str) -> BpfObject:
    """The object file of this architecture. PreflightError: there is none, or the kernel cannot relocate it."""
    machine = platform.machine()
    file = resources.files("livelift.capture.ebpf") / f"{flavour}.{machine}.bpf.o"
    if not file.is_file():
        raise PreflightError(f"there are no BPF programs for {machine}", remedy=FALLBACK)
    if not os.path.exists(BTF):
        raise PreflightError(f"this kernel does not describe its types ({BTF} is missing)", remedy=FALLBACK)
    return BpfObject(file.read_bytes())


def run(programs: BpfObject, names: Iterable[str], prepare: Callable[[], None]) -> None:
    """Load, ``prepare`` the maps, attach ``names`` in this order. PreflightError: refused."""
    doing = "loading"
    try:
        programs.load()
        prepare()
        for name in names:
            doing = f"attaching {name}"
            programs.attach(name)
    except OSError as error:
        if error.errno == errno.EPERM:
            reason = (
                f"this kernel, or the container that the agent runs in, refuses BPF programs of this kind ({doing})"
            )
        else:
            reason = f"BPF programs: {error.strerror} ({doing}; {programs.said[-300:]})"
        raise PreflightError(reason, remedy=FALLBACK) from error


def set_volumes(programs: BpfObject, volumes: Iterable[WatchedVolume], processes: Iterable[int]) -> None:
    """Which file systems are captured, and whose (process ids) writes are not."""
    table, skip = programs.map("volumes"), programs.map("skip")
    for volume in volumes:
        put(table, struct.pack("=I", kernel_device(volume.device)), struct.pack("=I", volume.index + 1))
    for process in processes:
        put(skip, struct.pack("=I", process), b"\1")


def set_calls(programs: BpfObject) -> None:
    """Which system calls are looked at, by this architecture's numbers."""
    table = programs.map("calls")
    for name, number in NUMBERS[platform.machine()].items():
        put(table, struct.pack("=I", number), struct.pack("=I", CALLS[name]))


def mapped_already(programs: BpfObject, volumes: Iterable[WatchedVolume]) -> None:
    """Which files were mapped writable before the programs could see it."""
    table = programs.map("mapped")
    indices = {volume.device: volume.index for volume in volumes}
    for device, inode in writable_shared_mappings():
        if device in indices:
            put(table, struct.pack("=Q", object_id(indices[device], inode)), b"\1")


def kernel_device(device: int) -> int:
    """A device number of stat(2) as the kernel keeps it (linux/kdev_t.h, MKDEV: 12 bits major, 20 bits minor)."""
    return os.major(device) << 20 | os.minor(device)

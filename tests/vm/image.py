"""Disk images: a tree put into a partition of a file, then sealed by one boot of the machine that it is for.

Neither loop devices nor mounts are needed on the host. An image is a sparse raw file that nobody writes to again:
machines run on overlays of it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.vm import lvm
from tests.vm.places import VmError, cache, locked, run, strings
from tests.vm.profiles import PROFILES, Profile
from tests.vm.qemu import hardware
from tests.vm.tree import digest, recipe, tree

SEAL: Final = Path(__file__).with_name("seal.sh")
SEALED: Final = b"VM-SEAL-OK"
PATIENCE: Final = 1800.0
"""Seconds for the sealing boot; 130 on an idle machine of two cores."""
_TYPES: Final = {
    "root": "L", "var": "L", "swap": "S", "esp": "U", "bios": "21686148-6449-6E6F-744E-656564454649"
}  # fmt: skip


def path(profile: Profile, suite: str) -> Path:
    """Where the sealed image is, or will be. Named by all that went into it. UEFI variables lie beside it (``.fd``)."""
    made_of = digest(profile, SEAL.read_text(), recipe(profile, suite), *([lvm.SCRIPT] if profile.lvm else []))
    return cache() / f"{profile.name}-{suite}-{made_of}.img"


def build(names: list[str], suite: str) -> dict[str, Path]:
    """The sealed images of these profiles, made on first use; two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(lambda name: image(PROFILES[name], suite), names), strict=True))


def image(profile: Profile, suite: str) -> Path:
    done = path(profile, suite)
    with locked(done.stem):
        if not done.exists():
            _make(profile, suite, done)
    return done


def _make(profile: Profile, suite: str, done: Path) -> None:
    root = tree(profile, suite)
    began = time.monotonic()
    part, state, log = done.with_suffix(".part"), done.with_suffix(".d"), done.with_suffix(".log")
    shutil.rmtree(state, ignore_errors=True)
    log.unlink(missing_ok=True)
    start = _fill(profile, root, part)
    _put(part, start, SEAL, "/seal")
    filled = time.monotonic() - began
    print(f"sealing {profile.name}: filled in {filled:.0f} s; first boot (log: {log})", file=sys.stderr, flush=True)
    _boot(profile, root, part, state, log)
    if SEALED not in log.read_bytes():
        raise VmError(f"{profile.name} was not sealed; the end of {log}:\n{log.read_text(errors='replace')[-3000:]}")
    if profile.uefi:
        shutil.copy(state / "efivars.fd", done.with_suffix(".fd"))
    shutil.rmtree(state)
    state.with_suffix(".initrd").unlink(missing_ok=True)
    part.rename(done)
    size = done.stat().st_blocks * 512 >> 20
    print(f"sealed {profile.name} in {time.monotonic() - began:.0f} s, {size} MiB", file=sys.stderr, flush=True)


def _fill(profile: Profile, root: Path, file: Path) -> int:
    """Partition the disk and put the tree into the root's partition; the byte where that file system begins."""
    script = f"label: {'gpt' if profile.gpt else 'dos'}\n" + "".join(
        (f"size={size}MiB, " if size else "") + f"type={_TYPES[role]}"
        + (", bootable" if role == "root" and not profile.gpt else "") + "\n"
        for role, size in profile.layout
    )  # fmt: skip
    with file.open("wb") as disk:
        disk.truncate(profile.size << 20)
    run("sfdisk", "-q", file, input=script.encode())
    number = profile.number("root")
    assert number is not None
    partition = json.loads(run("sfdisk", "-J", file).stdout)["partitiontable"]["partitions"][number - 1]
    start, size = partition["start"] * 512, partition["size"] * 512
    if profile.lvm:
        start, size = start + lvm.BEFORE, lvm.room(size)
    options = f"offset={start},lazy_itable_init=1,nodiscard"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", root, "-E", options, "-M", "/", file,
        f"{size >> 10}k")  # fmt: skip
    return int(start)


def _put(file: Path, start: int, local: Path, name: str) -> None:
    """Write a file into the file system that begins at byte ``start``; it keeps its mode."""
    done = run("debugfs", "-w", "-R", f"write {local} {name}", f"{file}?offset={start}")
    if b"Allocated inode" not in done.stdout + done.stderr:
        raise VmError(f"debugfs did not write {name}: {(done.stdout + done.stderr).decode()}")


def _boot(profile: Profile, root: Path, part: Path, state: Path, log: Path) -> None:
    kernel, initrd = (max((root / "boot").glob(f"{name}-*")) for name in ("vmlinuz", "initrd.img"))
    words = {
        "NAME": profile.role, "DISK": profile.device, "MGMT": profile.interfaces[0], "LINK": profile.interfaces[1],
        "ADDRESS": profile.address, "SERVES": "yes" if profile.serves else "", "LVM": "yes" if profile.lvm else "",
        **{role.upper(): profile.partition(role) for role in ("root", "swap", "esp", "var")},
    }  # fmt: skip
    line = ["rw console=ttyS0 mitigations=off init=/seal panic=1", *(f"VM_{key}={word}" for key, word in words.items())]
    if profile.lvm:
        initrd = lvm.initrd(initrd, profile.partition("root"), state.with_suffix(".initrd"))
        line += [f"root={lvm.ROOT} rdinit=/lvm-first"]
    else:
        line += [f"root={profile.partition('root')}"]
    argv = [*hardware(profile, part, "raw", log, state), "-no-reboot"]
    argv += ["-kernel", kernel, "-initrd", initrd, "-append", " ".join(line)]
    try:
        subprocess.run(list(strings(argv)), timeout=PATIENCE, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        raise VmError(f"QEMU: {error.stderr.decode(errors='replace')}") from error
    except subprocess.TimeoutExpired as error:
        tail = log.read_text(errors="replace")[-3000:]
        raise VmError(f"{profile.name} was not sealed in {PATIENCE:.0f} s:\n{tail}") from error

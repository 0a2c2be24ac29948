"""Synthetic machines as trees on disk."""

from __future__ import annotations

from pathlib import Path

from livelift.adapt.windows.system import DRIVERS, HIVE_FILES, SOFTWARE, SYSTEM
from livelift.registry.tree import Hive, Key
from livelift.registry.values import set_number, set_text
from livelift.registry.writer import write_hive
from tests.adapt.windows.machine import Maker


def software(build: int) -> Hive:
    root = Key("ROOT", security=SECURITY)
    now = root.make("Microsoft\\Windows NT\\CurrentVersion")
    set_text(now, "CurrentBuildNumber", str(build))
    set_text(now, "EditionID", "ServerStandard")
    set_text(now, "SystemRoot", "C:\\Windows")
    set_number(now, "UBR", 1)
    return Hive(root)


SECURITY = bytes.fromhex("0100048014000000240000000000000000000000" + "01020000000000052000000020020000" * 2)
"""A self-relative descriptor: owner and group are Administrators."""


def grow(machine: Maker, root: Path, *, boot: str = "Boot/BCD") -> Path:
    """The machine's hives, boot store and files below ``root``; a file's content is its digest's name."""
    hives = {
        SYSTEM: Hive(machine.root),
        SOFTWARE: software(machine.build),
        DRIVERS: Hive(machine.drivers or Key("ROOT")),
    }
    for name, hive in hives.items():
        for _, key in hive.root.walk():
            key.security = SECURITY
        put(root / HIVE_FILES[name], write_hive(hive))
    store = machine.boot_store()
    for _, key in store.root.walk():
        key.security = SECURITY
    put(root / boot, write_hive(store))
    machine.file("Windows/system32/winload.efi")
    for path, file in machine.files.items():
        if not any(path == HIVE_FILES[name] for name in hives):
            put(respelled(root, path), file.digest.encode())
    put(root / "Windows/System32/config/SYSTEM.LOG1", b"")
    return root


def respelled(root: Path, path: str) -> Path:
    """With the spelling that is there already, as on a volume that ignores case."""
    here = root
    for part in path.split("/"):
        there = [entry.name for entry in here.iterdir()] if here.is_dir() else []
        here /= next((name for name in there if name.lower() == part.lower()), part)
    return here


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def snapshot(root: Path) -> dict[str, tuple[bytes, int, int, int]]:
    """Everything that an undo must bring back: content, mode, mtime, inode."""
    found = {}
    for path in sorted(root.rglob("*")):
        st = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(root))] = (data, st.st_mode, st.st_mtime_ns, st.st_ino)
    return found

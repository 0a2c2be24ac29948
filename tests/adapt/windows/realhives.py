"""The real hives of ../shared/hives, where present, as machines with a listing of files that fits them."""

from __future__ import annotations

import lzma
from functools import lru_cache
from pathlib import Path

import pytest

from livelift.adapt.windows.driver_files import STORE
from livelift.adapt.windows.files import FileFact, FileView
from livelift.adapt.windows.images import image_path, is_driver
from livelift.adapt.windows.inf_files import CATALOGUES
from livelift.adapt.windows.oem_numbers import INF, databases
from livelift.adapt.windows.system import BCD, SYSTEM, System, Version
from livelift.registry.reader import read_hive
from livelift.registry.tree import Hive, Key
from livelift.registry.values import list_of

HIVES = Path(__file__).resolve().parents[4] / "shared/hives"
LOGS = {"SYSTEM_B": ("SYSTEM_B.LOG1", "SYSTEM_B.LOG2")}
BUILDS = {"SYSTEM": 7601, "SYSTEM_WIN_10_1709": 18362, "SYSTEM_B": 16299}
"""Of the hives' machines (no SOFTWARE hive is at hand); by driver versions and CloneTag."""
NAMES = sorted(BUILDS)


def need_hives() -> None:
    if not (HIVES / "SYSTEM.xz").exists():
        pytest.skip(f"real hives are not at {HIVES.name} beside the repository")


def unpack(name: str) -> bytes:
    return lzma.decompress((HIVES / f"{name}.xz").read_bytes())


@lru_cache
def hive(name: str) -> Hive:
    return read_hive(unpack(name), [unpack(log) for log in LOGS.get(name, ())])


@lru_cache
def machine(name: str) -> System:
    """With a boot store that fits, and every file that the hive names."""
    hives = {SYSTEM: hive(name)}
    if BUILDS[name] > 7601:
        hives[BCD] = hive("BCD")
    version = System(hives, FileView()).version
    known = Version(
        BUILDS[name], 1, "Professional", version.kind, version.architecture, version.language, "C:\\Windows"
    )
    return System(hives, listing(name, hives), known)


def listing(name: str, hives: dict[str, Hive]) -> FileView:
    """In-box files have the same digest on every machine, others one of their own."""
    bare = System(hives, FileView(), Version())
    paths = {"Windows/system32/winload.efi", "Windows/System32/config/SYSTEM.LOG1"}
    for service in bare.control("Services") or Key(""):
        path = image_path(service.name, service)
        if is_driver(service) and path is not None:
            paths.add(path)
    for _, database in databases(bare):
        for inf in database.get("DriverInfFiles") or ():
            paths.add(f"{INF}/{inf.name}")
            if inf.name.lower().startswith("oem"):
                paths.add(f"{CATALOGUES}/{inf.name[:-4]}.cat")
            for package in list_of(inf.value("")):
                paths.add(f"{STORE}/{package}/{inf.name}")
    owner = {path: name if "/oem" in path.lower() else "" for path in paths}
    return FileView((FileFact(path, len(path), f"{owner[path]}:{path}") for path in sorted(paths)), ["Windows"])

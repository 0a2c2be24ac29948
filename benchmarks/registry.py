"""A SYSTEM hive of 15 MB takes over devices and drivers of another one: read both, replace two keys, write.

Beside hivex, which edits the file in place where we write it anew.

Each run is a process of its own: ``python -m benchmarks.registry PEER BASE OTHER OUT`` merges once and prints what it
took as JSON. hivex is called through its C library with no Python between the calls but the loop over the keys; it has
no security descriptors, class names and time stamps to carry, so it does less.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.copies import Bench
from benchmarks.report import Row
from livelift.registry.merge import graft
from livelift.registry.reader import read_hive
from livelift.registry.tree import Hive, Key
from livelift.registry.values import set_list, set_text
from livelift.registry.writer import write_hive

TAKEN = ("ControlSet001\\Enum", "DriverDatabase")
MIB = 1 << 20


def run_registry(bench: Bench) -> Iterator[Row]:
    """Base and other are like the SYSTEM hives of Windows 10: 43,000 keys with 90,000 values, a fifth in Enum; one
    list of 3,000 subkeys in DriverDatabase. With --quick a tenth of it."""
    base, other = bench.work / "BASE", bench.work / "OTHER"
    scale = 10 if bench.quick else 1
    base.write_bytes(write_hive(system(1, 49_000 // scale)))
    other.write_bytes(write_hive(system(2, 42_000 // scale)))
    expected = None
    for _ in range(bench.rounds or (1 if bench.quick else 3)):
        for name in MERGES:
            if bench.peers and name not in bench.peers:
                continue
            if name == "hivex" and not ctypes.util.find_library("hivex"):
                print("registry: without hivex: no libhivex (Debian package libhivex0)", file=sys.stderr)
                continue
            out = bench.work / "OUT"
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.registry", name, base, other, out], capture_output=True, check=True
            )
            counts = read_hive(out.read_bytes()).counts()
            expected = expected or counts
            if counts != expected:
                raise RuntimeError(f"registry: {name} wrote {counts} keys and values, not {expected}")
            yield Row("registry", name, True, json.loads(done.stdout))
            out.unlink()


def system(seed: int, keys: int) -> Hive:
    """Always the same for the same seed."""
    rng = random.Random(seed)
    descriptors = [rng.randbytes(20 + 4 * rng.randrange(60)) for _ in range(250)]
    hive = Hive(Key("ROOT", 1, descriptors[0]), 5, "SYSTEM")
    control, enum = hive.root.make("ControlSet001"), hive.root.make(TAKEN[0])
    ids = hive.root.make("DriverDatabase\\DeviceIds\\PCI")
    for number in range(min(3000, keys // 10)):
        _fill(ids.make(f"VEN_{rng.randrange(1 << 16):04X}&DEV_{number:04X}"), rng)
    made = len(ids)
    while made < keys:
        above = enum if made % 5 == 0 else control
        device = above.make(f"{rng.choice(('PCI', 'USB', 'Services', 'Control', 'Class'))}\\{rng.getrandbits(56):014X}")
        for below in ("Device Parameters", "Properties\\{4d36e968-e325-11ce-bfc1-08002be10318}\\0002", "LogConf"):
            key = device.make(below, rng.getrandbits(60))
            key.security = rng.choice(descriptors)
            _fill(key, rng)
        _fill(device, rng)
        made += 7
    return hive


def _fill(key: Key, rng: random.Random) -> None:
    for number in range(rng.randrange(6)):
        kind = rng.randrange(4)
        if kind == 0:
            key.set(f"Number{number}", 4, rng.randbytes(4))
        elif kind == 1:
            set_text(key, f"Text{number}", "@system32\\drivers\\" + "x" * rng.randrange(60))
        elif kind == 2:
            set_list(key, f"List{number}", [f"PCI\\VEN_{rng.randrange(1 << 16):04X}" for _ in range(4)])
        else:
            key.set(f"Data{number}", 0xFFFF0012, rng.randbytes(rng.choice((8, 16, 100, 300))))


def livelift(base: Path, other: Path, out: Path) -> None:
    hive, giver = read_hive(base.read_bytes()), read_hive(other.read_bytes())
    for path in TAKEN:
        key = giver.find(path)
        assert key is not None
        graft(hive.root, path, key)
    out.write_bytes(write_hive(hive))


class _SetValue(ctypes.Structure):
    _fields_ = (  # hive_set_value of hivex.h
        ("key", ctypes.c_char_p), ("t", ctypes.c_int), ("len", ctypes.c_size_t), ("value", ctypes.c_char_p),
    )  # fmt: skip


def hivex(base: Path, other: Path, out: Path) -> None:
    """Source: hivex(3)."""
    library = ctypes.CDLL(ctypes.util.find_library("hivex"), use_errno=True)
    for name, result, arguments in (
        ("open", ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]),
        ("root", ctypes.c_size_t, [ctypes.c_void_p]),
        ("node_name", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]),
        ("node_children", ctypes.POINTER(ctypes.c_size_t), [ctypes.c_void_p, ctypes.c_size_t]),
        ("node_values", ctypes.POINTER(ctypes.c_size_t), [ctypes.c_void_p, ctypes.c_size_t]),
        ("value_key", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]),
        ("value_value", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]),
        ("node_get_child", ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]),
        ("node_add_child", ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]),
        ("node_delete_child", ctypes.c_int, [ctypes.c_void_p, ctypes.c_size_t]),
        ("node_set_values", ctypes.c_int,
         [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(_SetValue), ctypes.c_int]),
        ("commit", ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]),
    ):  # fmt: skip
        function = getattr(library, f"hivex_{name}")
        function.restype, function.argtypes = result, arguments
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]

    def text(pointer: int) -> bytes:
        found = ctypes.string_at(pointer)
        free(pointer)
        return found

    def several(array: ctypes._Pointer[ctypes.c_size_t]) -> list[int]:
        found = []
        while array[len(found)]:
            found.append(array[len(found)])
        free(array)
        return found

    def checked(result: int) -> int:
        if not result:
            raise OSError(ctypes.get_errno(), "hivex")
        return result

    hive = checked(library.hivex_open(os.fsencode(base), 4))  # HIVEX_OPEN_WRITE
    giver = checked(library.hivex_open(os.fsencode(other), 0))
    waiting = []
    for path in TAKEN:
        above, source = library.hivex_root(hive), library.hivex_root(giver)
        *parents, name = path.encode().split(b"\\")
        for part in parents:
            above = checked(library.hivex_node_get_child(hive, above, part))
        for part in (*parents, name):
            source = checked(library.hivex_node_get_child(giver, source, part))
        library.hivex_node_delete_child(hive, checked(library.hivex_node_get_child(hive, above, name)))
        waiting.append((source, checked(library.hivex_node_add_child(hive, above, name))))
    while waiting:
        node, twin = waiting.pop()
        values = []
        for value in several(library.hivex_node_values(giver, node)):
            kind, length = ctypes.c_int(), ctypes.c_size_t()
            pointer = library.hivex_value_value(giver, value, ctypes.byref(kind), ctypes.byref(length))
            data = ctypes.string_at(pointer, length.value)
            free(pointer)
            values.append(_SetValue(text(library.hivex_value_key(giver, value)), kind, len(data), data))
        if values:
            library.hivex_node_set_values(hive, twin, len(values), (_SetValue * len(values))(*values), 0)
        for child in several(library.hivex_node_children(giver, node)):
            label = text(library.hivex_node_name(giver, child))
            waiting.append((child, checked(library.hivex_node_add_child(hive, twin, label))))
    if library.hivex_commit(hive, os.fsencode(out), 0):
        raise OSError(ctypes.get_errno(), "hivex_commit")


MERGES: dict[str, Callable[[Path, Path, Path], None]] = {"livelift": livelift, "hivex": hivex}


def main() -> None:
    peer, base, other, out = sys.argv[1], *map(Path, sys.argv[2:])
    started = time.monotonic()
    MERGES[peer](base, other, out)
    print(
        json.dumps(
            {
                "wall s": time.monotonic() - started,
                "CPU s": time.process_time(),
                "size MiB": out.stat().st_size / MIB,
                "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()

"""What a source agent was told: kept in its state directory, so that a restart needs no argument."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from livelift.errors import StoreError, UsageError
from livelift.model.job import Map
from livelift.platform.system import os

FILE = "source.json"
PATHS = ("fence", "own", "left", "hollow")


class SourceConfig(msgspec.Struct, frozen=True):
    """``own``: further directories that are never walked. ``pressure_limit`` percent, 0: none. ``server``: a whole
    system moves (docs/internals/server-job.md); ``left``, ``hollow``: as `livelift.source.volumes.find_volumes`.
    ``fence``: cgroups to freeze; none: of a whole system all that need not live. ``stop``: units that the fence stops.
    ``hooks``: their directory."""

    directory: bytes
    job: str
    host: str
    port: int
    maps: tuple[Map, ...]
    capture: str = "auto"
    lanes: int = 2
    readers: int = 8
    spool_cap: int = 1 << 30
    spool_memory: int = 64 << 20
    bandwidth: str = ""
    fence: tuple[bytes, ...] = ()
    own: tuple[bytes, ...] = ()
    pressure_limit: float = 0.0
    cpu_limit: float = 0.0
    idle_priority: bool = True
    verify_every: float = 600.0
    ignored: tuple[str, ...] = ()
    ntfs_target: bool = False
    server: bool = False
    left: tuple[bytes, ...] = ()
    hollow: tuple[bytes, ...] = ()
    stop: tuple[str, ...] = ()
    hooks: str = "/etc/livelift/hooks.d"

    def own_directories(self) -> list[bytes]:
        return [self.directory, *self.own]

    def save(self) -> None:
        value = msgspec.to_builtins(self)
        value["directory"] = None
        for key in PATHS:
            value[key] = [os.fsdecode(p) for p in getattr(self, key)]
        value["maps"] = [
            [
                os.fsdecode(m.source),
                os.fsdecode(m.target),
                [os.fsdecode(p) for p in m.exclude],
                [os.fsdecode(p) for p in m.include],
            ]
            for m in self.maps
        ]
        path = Path(os.fsdecode(self.directory)) / FILE
        temporary = path.with_suffix(".new")
        with open(temporary, "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def load(directory: bytes) -> SourceConfig:
    path = Path(os.fsdecode(directory)) / FILE
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UsageError(
            f"no job in {os.fsdecode(directory)}",
            remedy="pair first: livelift source --pair CODE HOST:PORT --map /srv=/srv",
        ) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}", remedy="begin a new job with another --state") from error
    value["directory"] = directory
    for key in PATHS:
        value[key] = tuple(os.fsencode(p) for p in value.get(key, ()))
    for key in ("ignored", "stop"):
        value[key] = tuple(value.get(key, ()))
    value["maps"] = tuple(Map(os.fsencode(s), os.fsencode(t), _encode(e), _encode(i)) for s, t, e, i in value["maps"])
    return SourceConfig(**value)


def _encode(texts: list[str]) -> tuple[bytes, ...]:
    return tuple(os.fsencode(t) for t in texts)

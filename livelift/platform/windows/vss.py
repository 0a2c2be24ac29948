"""Volume snapshots (VSS): the commands, what they answer, and where a path lies in a snapshot.

Made through WMI (Win32_ShadowCopy.Create), which clients and servers both have; deleted by vssadmin. The commands are
built and their answers read by pure functions; that they work was not seen yet (no Windows machine).
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import Final, NamedTuple

from livelift.errors import RetryError

_GUID: Final = re.compile(r"\{[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}")
_DEVICE: Final = re.compile(r"\\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy[0-9]+")
_PATIENCE: Final = 300.0
"""VSS gives its writers 60 s to freeze and itself 10 s to make the copy, but starts services before."""

_TROUBLE: Final = {
    1: "access denied",
    3: "the volume was not found",
    5: "the volume does not support snapshots",
    8: "the maximum number of snapshots is there already",
    9: "another snapshot is being made",
    11: "the writers or providers are not ready",
    12: "not enough room for the snapshot",
}
"""Return values of Win32_ShadowCopy.Create, those that need words."""


class Snapshot(NamedTuple):
    id: str
    device: str


def create_command(volume: str) -> list[str]:
    """``volume``: its mount point with a backslash at the end, such as ``C:\\``."""
    if '"' in volume or "'" in volume or not volume.endswith("\\"):
        raise ValueError(f"not a mount point: {volume!r}")
    script = (
        "$r = Invoke-CimMethod -ClassName Win32_ShadowCopy -MethodName Create "
        f"-Arguments @{{Volume='{volume}'; Context='ClientAccessible'}}; "
        "$s = Get-CimInstance Win32_ShadowCopy | Where-Object {$_.ID -eq $r.ShadowID}; "
        "@{code=$r.ReturnValue; id=$r.ShadowID; device=$s.DeviceObject} | ConvertTo-Json -Compress"
    )
    return ["powershell.exe", "-NoProfile", "-NonInteractive", "-Command", script]


def delete_command(snapshot: Snapshot) -> list[str]:
    return ["vssadmin.exe", "delete", "shadows", f"/shadow={snapshot.id}", "/quiet"]


def parse_created(text: str) -> Snapshot:
    """RetryError: it was not made, and why. ValueError: not an answer of this command."""
    value = json.loads(text)
    if not isinstance(value, dict) or not isinstance(value.get("code"), int):
        raise ValueError(f"not an answer of Win32_ShadowCopy.Create: {text[:200]!r}")
    if value["code"]:
        reason = _TROUBLE.get(value["code"], f"code {value['code']}")
        raise RetryError(f"no snapshot: {reason}", remedy="see vssadmin list writers and the application event log")
    name, device = str(value.get("id")), str(value.get("device"))
    if not _GUID.fullmatch(name) or not _DEVICE.fullmatch(device):
        raise ValueError(f"not the id and device of a snapshot: {text[:200]!r}")
    return Snapshot(name, device)


def path_in(snapshot: Snapshot, on_volume: str) -> str:
    """``on_volume``: path below the volume's root, with a backslash first."""
    return snapshot.device + on_volume


def create(volume: str) -> Snapshot:
    """RetryError: it was not made. OSError: the commands are not there."""
    return parse_created(_run(create_command(volume)))


def delete(snapshot: Snapshot) -> None:
    _run(delete_command(snapshot))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[:300]
        raise RetryError(f"{subprocess.list2cmdline(command)}: exit {done.returncode}: {said}")
    return done.stdout

"""What both machines must have before anything is placed on them: asked of what `remote.Machine.look` has seen."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Final

from livelift.bootstrap import front
from livelift.bootstrap.jobs import Migration
from livelift.errors import PreflightError, StateError

SPARE: Final = 256 << 20
"""Bytes for the unpacked wheels of one Python (43 MiB), the directory map, logs. Room for the spool and the data is
what the agents' own preflight asks for."""


def check(job: Migration, looks: dict[str, dict[str, Any]], agent: Path, digest: str) -> None:
    """PreflightError with everything that is missing, on both machines. StateError: they hold different jobs, or the
    job has been cut over."""
    with zipfile.ZipFile(agent) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    wrong: dict[str, str] = {}
    for side, look in looks.items():
        here = f"{side} {job.destination(side)}"
        try:
            front.choose(manifest, look["platform"], tuple(look["libc"]))
        except front.RefusedError as error:
            text, _, remedy = str(error).partition("\n  what to do: ")
            wrong[f"{here}: {text}"] = remedy
        if look["uid"] != 0:
            wrong[f"{here}: not root"] = "log in as root, or say --sudo if sudo asks for no password there"
        needed = (0 if look["agent"] == digest else agent.stat().st_size) + SPARE
        if not look["running"] and look["free"] < needed:
            text = f"{here}: {look['free'] >> 20} MiB free where {job.base} is, {needed >> 20} needed"
            wrong[text] = "make room, or name another directory on both machines: --base DIR"
        if job.server and not look["systemd"]:
            remedy = "a whole system is moved between machines with systemd only; --map moves data without it"
            wrong[f"{here}: systemd does not run there"] = remedy
        if look["missing"]:
            remedy = "make it on the file system that is to hold the data (is that mounted?), or correct --map"
            wrong[f"{here}: no directory {', '.join(look['missing'])}"] = remedy
    if wrong:
        raise PreflightError("; ".join(wrong), remedy="; ".join(dict.fromkeys(wrong.values())))
    if (looks["source"]["status"] or {}).get("state") in ("cut", "handed", "served", "committed"):
        raise StateError(
            f"job {job.name} has been cut over",
            remedy=f"livelift rollback --job {job.name} lets the source serve again; livelift remove --job {job.name} "
            "--keep-fence ends the job",
        )
    ids = {side: look["job"] for side, look in looks.items()}
    if ids["source"] and ids["source"] != ids["target"]:
        raise StateError(
            f"the source belongs to job {ids['source']}, the target to {ids['target'] or 'none'}",
            remedy=f"livelift remove --job {job.name} clears both (never the data), then begin again",
        )

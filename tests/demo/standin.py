"""A stand-in for the command line, to test the demo's orchestration: rsync at the start and while all is frozen.

Speaks only what the demo needs of it. STANDIN_FAULT breaks something on purpose: ``lose`` removes an object of the
replica, ``crash`` ends the source agent while it follows, ``refuse`` fails the cutover.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

FAULT = os.environ.get("STANDIN_FAULT", "")


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else ""


def copy(mapping: str) -> None:
    source, target = mapping.split("=")
    done = subprocess.run(
        # --modify-window=-1: compare times to the nanosecond, not the second (rsync(1))
        ["rsync", "-aHAXS", "--delete", "--numeric-ids", "--modify-window=-1", f"{source}/", f"{target}/"],
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 23, 24), done.stderr  # 24: files vanished, 23: not allowed (user)


def main() -> int:
    verb = sys.argv[1]
    state = Path(option("--state"))
    if verb == "target":
        state.mkdir()
        if FAULT != "mute":
            print(json.dumps({"event": "pairing", "code": "ABCDE-FGHIJ", "port": 7777}), flush=True)
        time.sleep(3600)
    elif verb == "source":
        assert option("--pair") == "ABCDE-FGHIJ"
        state.mkdir()
        status = {"state": "initial", "initial_percent": 10.0, "files": 1, "bytes": 1000, "rate": 100.0, "lag": 9.0}
        (state / "status").write_text(json.dumps(status))
        (state / "arguments").write_text(json.dumps([option("--map"), option("--fence-cgroup")]))
        copy(option("--map"))
        status |= {"state": "following", "initial_percent": 100.0, "lag": 0.5, "gaps": 0, "capture_mode": "standin"}
        (state / "status").write_text(json.dumps(status))
        time.sleep(1.5 if FAULT == "crash" else 3600)
        return 1
    elif verb == "status":
        if not (state / "status").exists():
            return 7
        while True:
            print((state / "status").read_text(), flush=True)
            time.sleep(0.2)
    elif verb == "cutover":
        mapping, group = json.loads((state / "arguments").read_text())
        began = time.monotonic()
        if group and (Path(group) / "cgroup.freeze").exists():
            (Path(group) / "cgroup.freeze").write_text("1")
        elif group:
            (Path(group) / "freezer.state").write_text("FROZEN")
        time.sleep(0.2)
        if FAULT == "refuse":
            print(json.dumps({"step": "drain"}))
            print(json.dumps({"error": "mismatch", "text": "verification: 19 differences", "exit": 5}))
            return 5
        for _ in range(2):  # one pass leaves the time of a directory from which it deleted
            copy(mapping)
        if FAULT == "lose":
            (Path(mapping.split("=")[1]) / "srv/nasties/fifo").unlink()
        print(json.dumps({"fence_seconds": time.monotonic() - began, "cut_lsn": 1, "differences": 0}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

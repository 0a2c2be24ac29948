"""Agents of a server job on one machine: real ones, but the target's take-over and the source's systemd are played.

    python -m tests.system.pretend ANYTHING... livelift source|target ...

The target plays by ``play.json`` in its state directory, which the test writes and `Play` reads at every question:
``fail``: verbs that end in an error; ``hang``: verbs that never answer; ``then``: what follows `go`: new, old or
nothing. What has become of it is kept in ``stands.json``, across restarts. The source's boot is blocked below its state
directory instead of /etc.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from livelift.errors import StateError

VERBS = (
    *("facts", "stale", "adapt", "install", "addresses", "settle", "unsettle", "arm", "disarm", "go", "standing"),
    *("back", "commit"),
)


class Play:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = threading.RLock()

    def read(self, name: str, default: dict[str, Any]) -> dict[str, Any]:
        try:
            return {**default, **json.loads((self.directory / name).read_text())}
        except FileNotFoundError:
            return default

    def stands(self) -> dict[str, Any]:
        start = {"system": "old", "phase": "idle", "attempt": "", "confirmed": False, "settled": False, "asked": []}
        return self.read("stands.json", start)

    def change(self, **more: Any) -> None:
        with self.lock:  # or a reboot that ends while a question is noted is forgotten
            fresh = self.directory / "stands.new"
            fresh.write_text(json.dumps({**self.stands(), **more}))
            os.replace(fresh, self.directory / "stands.json")

    def answer(self, verb: str, options: dict[str, Any]) -> dict[str, Any]:
        play = self.read("play.json", {"fail": [], "hang": [], "then": "new"})
        while verb in play["hang"]:
            time.sleep(0.05)
            play = self.read("play.json", {"fail": [], "hang": [], "then": "new"})
        with self.lock:
            self.change(asked=[*self.stands()["asked"], verb])
            if verb in play["fail"]:
                raise StateError(f"{verb} fails in this play")
            return self.act(verb, options, play["then"])

    def act(self, verb: str, options: dict[str, Any], then: str) -> dict[str, Any]:
        now = self.stands()
        if verb == "stale":
            return {"stale": "adapt" not in now["asked"]}
        if verb == "standing":
            shown = {key: now[key] for key in ("system", "phase", "attempt", "confirmed")}
            return shown | {"reason": now.get("reason", ""), "boot": {"kernel": 1.0}}
        if verb in ("settle", "unsettle"):
            self.change(settled=verb == "settle")
        elif verb == "arm":
            assert now["settled"]
            self.change(phase="armed", attempt=options["attempt"])
        elif verb == "disarm":
            self.change(phase="idle")
        elif verb == "go":
            assert now["attempt"] == options["attempt"]
            self.change(phase="going")
            threading.Thread(target=self.reboot, args=(then,), daemon=True).start()
        elif verb == "back":
            self.change(phase="going back")
            threading.Thread(target=self.reboot, args=("old",), daemon=True).start()
        elif verb == "commit":
            wrong = [{"id": id, "level": "warning", "diagnosis": "played", "remedy": ""} for id in options["ignore"]]
            return {"committed": True, "findings": wrong, "already": False}
        return {"moves": []} if verb == "addresses" else {"facts": {}} if verb == "facts" else {}

    def reboot(self, then: str) -> None:
        time.sleep(0.3)
        if then == "old":
            self.change(system="old", phase="returned", confirmed=False, reason="the new system did not come up")
        elif then == "new":
            self.change(system="new", phase="booted")
            time.sleep(0.5)
            self.change(phase="confirmed", confirmed=True)

    def greeted_with_rollback(self) -> None:
        with self.lock:
            self.change(settled=False, phase="idle" if self.stands()["phase"] == "armed" else self.stands()["phase"])


def play_target(directory: Path) -> None:
    from livelift.target import agent, stage

    play = Play(directory)
    made, standing_cut = agent.TargetAgent.__init__, agent.TargetAgent._standing_cut

    def init(self: Any, *arguments: Any, **more: Any) -> None:
        made(self, *arguments, **more)
        self.stage._verbs = {**self.stage._verbs, **{verb: partial(play.answer, verb) for verb in VERBS}}

    def greeted(self: Any, hello: Any) -> Any:
        if "rollback" in hello.features:
            play.greeted_with_rollback()
        return standing_cut(self, hello)

    agent.TargetAgent.__init__ = init  # type: ignore[method-assign]
    agent.TargetAgent._standing_cut = greeted  # type: ignore[method-assign]
    stage.QUICK = stage.QUICK | {"standing"}  # type: ignore[misc]


def play_source(directory: Path) -> None:
    from livelift.cli import wiring
    from livelift.cutover import systemd
    from livelift.cutover.server_fence import ServerFence

    (directory / "boot/etc/systemd/system").mkdir(parents=True, exist_ok=True)
    wiring.ServerFence = partial(ServerFence, root=str(directory / "boot"))  # type: ignore[misc,assignment]
    systemd.is_there = lambda: True
    systemd.active = lambda *kinds: ["ssh.service", "nginx.service"]  # type: ignore[assignment]


def main() -> int:
    words = sys.argv[sys.argv.index("livelift") + 1 :]
    directory = Path(words[words.index("--state") + 1])
    {"source": play_source, "target": play_target}[words[0]](directory)
    from livelift.cli.main import main as run

    return run(words)


if __name__ == "__main__":
    raise SystemExit(main())

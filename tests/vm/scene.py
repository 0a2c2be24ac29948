"""Where every scenario starts: both machines up, the source with a service and data, the clients' load ready."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.vm.conftest import Boot
from tests.vm.load import Load, door
from tests.vm.machine import Machine
from tests.vm.move import Move
from tests.vm.plant import plant, rotate, upgrade

HOOKS: Final = "/etc/livelift/hooks.d"


@dataclass
class Scene:
    """Both machines up, the source planted; nothing of Livelift on them yet."""

    source: Machine
    target: Machine
    token: str
    move: Move
    directory: Path
    first: int = 1
    """Of the clients' next commits: greater than all that the source holds."""

    def load(self) -> Load:
        doors = [door(self.source), door(self.target)]
        return Load(doors, self.token, self.directory / "answers.jsonl", first=self.first)

    def copy(self, busy: bool = True) -> None:
        """``migrate`` until "ready"; meanwhile (``busy``) all logs are rotated and a package is upgraded."""
        began = time.monotonic()
        going = self.move.started(*self.move.migrate_words())
        try:
            if busy:
                self.move.wait_copying(1800)
                rotate(self.source)
                upgrade(self.source)
            code = going.wait(3600)
        finally:
            going.kill()
            going.wait()
        assert code == 0, self.move.events("migrate")[-1]
        print(f"ready after {time.monotonic() - began:.0f} s")


def scene(boot: Boot, directory: Path, source: str, target: str, suite: str = "bookworm") -> Scene:
    began = time.monotonic()
    machines = boot(source, target, suite)
    token = plant(machines[0], directory)
    print(f"both machines up, the source planted after {time.monotonic() - began:.0f} s")
    return Scene(*machines, token, Move(machines[0].home, directory), directory)


def hook(machine: Machine, step: str, script: str) -> None:
    """An operator's program around a step (docs/internals/server-job.md)."""
    place = f"{HOOKS}/{step}.d"
    machine.ssh(f"mkdir -p {place} && cat >{place}/scenario && chmod 755 {place}/scenario", input=script.encode())

"""One copy for many tests: both machines are saved when the job is ready for its cutover; each test begins there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.vm.conftest import Boot
from tests.vm.machine import Machine, save_together
from tests.vm.move import Move
from tests.vm.scene import Scene, scene


def bring(boot: Boot, home: Path) -> Scene:
    """Both machines saved as "ready"; those of an earlier run if they are in this home (LIVELIFT_VM_KEEP)."""
    directory = home / "move"
    token = directory / "token"
    if token.exists():
        pair = Machine("source", home), Machine("target", home)
        return Scene(*pair, token.read_text(), Move(home, directory), directory)
    directory.mkdir()
    made = scene(boot, directory, "source", "target")
    made.copy(busy=False)
    save_together((made.source, made.target), "ready")
    token.write_text(made.token)
    return made


def begin(ready: Scene, directory: Path) -> Scene:
    """From there; what the clients are told goes to the directory."""
    together((ready.source, ready.target), "ready")
    ready.target.link(True)
    return replace(ready, directory=directory, first=first(ready.source))


def together(machines: Sequence[Machine], tag: str) -> None:
    """Both back to what was saved; neither hears what the other one says in what it did since."""
    for machine in machines:
        machine.down(hard=True)
    for machine in machines:
        machine.load(tag)


def first(source: Machine) -> int:
    """A number that no commit has."""
    return 1 + int(source.said("su postgres -c 'psql -Atc \"SELECT coalesce(max(number), 0) FROM ledger\" shop'"))

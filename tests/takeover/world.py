"""A machine in two directories: an old system that stands, a new one that is staged, GRUB's menus of both, and power.

    world.boot()      what GRUB would do with what is on disk, and the stage if it leads there

GRUB reads without the file system's journal. So beside what is on disk there is the oldest that GRUB could see after a
power cut: what stood there when the stage last brought everything into its place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from livelift.adapt.linux.grubenv import environment_block
from livelift.takeover import fit, switch
from livelift.takeover.records import INSTALLED, Config, Menu, Records, State, Volume
from livelift.takeover.site import Site
from livelift.takeover.stage import Outcome, Stage
from livelift.takeover.swap import place_for, standing_at
from tests.edits.snapshot import snapshot
from tests.takeover import grub

OURS = ("boot/grub", "boot/livelift-takeover", "grub", "livelift-takeover", "etc/systemd")
"""What the switch changes in a system's tree; everything else has to be as it was."""


STAYS = (".", ".livelift", "proc", "run", "dev", "lost+found", "hard links")


class Hands:
    """The machine that the stage works on. ``failing``: names of calls that are to fail."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.said: list[str] = []
        self.guarded = False
        self.failing: set[str] = set()

    def _do(self, name: str) -> None:
        if name in self.failing:
            raise OSError(5, f"{name} fails")

    def open(self) -> None:
        self._do("open")

    def settle(self, path: str) -> None:
        self._do("settle")
        os.fsync(0)  # counted: it is a call at which the power can go
        if path == self._world.places[self._world.config.boot]:
            self._world.remember()

    def guard(self, seconds: int, hardware: bool) -> None:
        self._do("guard")
        self.guarded = True

    def calm(self) -> None:
        self.guarded = False

    def say(self, text: str, urgent: bool = False) -> None:
        self.said.append(text)

    def now(self) -> int:
        return 1_700_000_000_000_000_000


class WorldSite(Site):
    def __init__(self, world: World) -> None:
        super().__init__(world.places["/"], lambda words: world.ran.append(words) or "")
        self._places = world.places

    def top(self, mountpoint: str = "/") -> str:
        return self._places[mountpoint]


class World:
    """``root``, ``boot``: empty directories, on the file systems that take part; without ``boot`` it is one."""

    def __init__(self, root: Path, boot: Path | None, scratch: Path, **options: Any) -> None:
        self.places = {"/": str(root)} | ({"/boot": str(boot)} if boot else {})
        self.scratch = scratch
        self.ran: list[tuple[str, ...]] = []
        inside = "" if boot else "boot/"
        self.config = Config(
            volumes=tuple(Volume(m, f"UUID={m}", "ext4") for m in self.places),
            boot="/boot" if boot else "/",
            directory=f"{inside}grub",
            kernels=inside.rstrip("/"),
            menu=Menu(f"/{inside}".rstrip("/"), "1", (), (), "root=UUID=1 ro panic=30 rd.shell=0 rd.emergency=reboot"),
            after_commit=(("update-grub",),),
            **options,
        )
        for side, system in (("old", self.places["/"]), ("new", place_for(self.places["/"]))):
            self._make_system(side, Path(system), place_for(str(boot)) if boot and side == "new" else boot)
        fit.put_images(self.top, self.config, b"image", b"kernel")
        fit.put_images(place_for(self.top), self.config, b"image", b"kernel")
        fit.fit_live(self.top, self.config)
        fit.fit_staged(place_for(self.top), self.config, self.top)
        os.makedirs(f"{self.places['/']}/.livelift/takeover")
        records = Records(self.places["/"])
        records.write_config(self.config)
        records.write_state(State(INSTALLED, shot="grubenv"))
        records.close()
        self.before = self.sides()
        self.stale: dict[str, bytes] | None = None

    @staticmethod
    def _make_system(side: str, top: Path, boot: Path | str | None) -> None:
        for name in ("etc", "usr", f"only-{side}"):
            (top / name).mkdir(parents=True)
            (top / name / "name").write_text(side)
        (top / "vmlinuz").symlink_to(f"boot/vmlinuz-{side}")
        for name in ("proc", "run", "dev"):
            (top / name).mkdir()
        at = Path(boot) if boot else top / "boot"
        (at / "grub/i386-pc").mkdir(parents=True)
        (at / "grub/i386-pc/normal.mod").write_text(f"of {side}")
        (at / f"vmlinuz-{side}").write_text(side)
        (at / "grub/grub.cfg").write_text(grub.STOCK.replace("SYSTEM", side))
        (at / "grub/grubenv").write_text(environment_block({}))

    @property
    def top(self) -> str:
        """Of the file system that GRUB reads."""
        return self.places[self.config.boot]

    def site(self) -> WorldSite:
        return WorldSite(self)

    def system(self) -> str:
        return standing_at(self.places["/"])

    def name(self) -> str:
        """Which system is in the live place, as itself says."""
        return Path(self.places["/"], "etc/name").read_text()

    def state(self) -> State:
        records = Records(self.places["/"])
        try:
            state = records.state()
        finally:
            records.close()
        assert state is not None
        return state

    def mode(self) -> str:
        return switch.mode_of(Path(self.top, self.config.directory, switch.MODE).read_text())

    # what is where

    def sides(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(live, staged), without what the switch changes and without the directories' own times."""
        found: list[dict[str, Any]] = []
        for of in (lambda top: Path(top), lambda top: Path(place_for(top))):
            shown: dict[str, Any] = {}
            for mountpoint, top in self.places.items():
                for path, value in snapshot(of(top)).items():
                    if path.split("/")[0] in STAYS or path == "boot" or path.startswith(OURS):
                        continue
                    shown[f"{mountpoint} {path}"] = value
            found.append(shown)
        return found[0], found[1]

    def check(self, system: str) -> None:
        """Exactly this system stands, the other is staged, whole."""
        old, new = self.before
        assert self.system() == system
        assert self.sides() == ((old, new) if system == "old" else (new, old))

    # power

    def _texts(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in Path(self.top, self.config.directory).iterdir() if p.is_file()}

    def remember(self) -> None:
        """What is in its place on disk now."""
        self.stale = self._texts()

    def leads_to(self, texts: dict[str, bytes] | None = None) -> str:
        """The wish of the stage's entry, or "own"; nothing is written."""
        copy = self.scratch / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name, raw in (texts or self._texts()).items():
            (copy / name).write_bytes(raw)
        return grub.Menu(copy).wish()

    def check_stale(self) -> None:
        """The oldest menu that GRUB could see starts no mixture, and no system that may not be started."""
        if self.stale is not None and self.leads_to(self.stale) == "own":
            assert self.system() == "old" or self.state().phase == "confirmed"

    def grub(self) -> str:
        """It reads the menu, and writes what the menu has it write. As `leads_to`."""
        return grub.Menu(Path(self.top, self.config.directory)).wish()

    def boot(self, hands: Hands | None = None) -> tuple[str, str]:
        """("own" or "stage", which system starts)."""
        self.check_stale()
        wish = self.grub()
        if wish == "own":
            assert self.system() != "mixed", "GRUB starts a mixture"
            return "own", self.system()
        return "stage", self.stage(wish, hands).system

    def stage(self, wish: str = "", hands: Hands | None = None) -> Outcome:
        records = Records(self.places["/"])
        try:
            return Stage(self.config, records, self.places, hands or Hands(self)).run(wish)
        finally:
            records.close()


def clear(*places: Path) -> None:
    for place in places:
        for path in place.iterdir():
            if path.name != "lost+found":
                subprocess.run(["rm", "-rf", str(path)], check=True)

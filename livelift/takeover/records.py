"""What the take-over keeps on the root's file system, in .livelift/takeover: what was installed, and how far it is.

That directory is never swapped, so the old system, the new one and the stage between them read the same files. JSON,
each written as a whole (`swap_journal.write_durably`). Nothing but the standard library: the stage loads it.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final, NamedTuple

from livelift.errors import CorruptError
from livelift.takeover.swap_journal import read_whole, write_durably

FORMAT: Final = 1
OWN: Final = ".livelift/takeover"
"""Below the root of the file system that is mounted at /."""
CONFIG: Final = "config.json"
STATE: Final = "state.json"
FAILING: Final = "unconfirmed"
"""What the last look of `livelift takeover confirm` was not content with, one line each."""
LOG: Final = "log"

INSTALLED: Final = "installed"
ARMED: Final = "armed"
TRYING: Final = "trying"
CONFIRMED: Final = "confirmed"
BACK: Final = "back"
RETURNED: Final = "returned"
COMMITTING: Final = "committing"
PHASES: Final = (INSTALLED, ARMED, TRYING, CONFIRMED, BACK, RETURNED, COMMITTING)
"""installed: nothing will happen. armed: the next stage takes over. trying: it has begun to. confirmed: the new system
said that it is well. back: the way back is under way, or wanted. returned: the old system stands again, see the reason.
committing: the new system is final, what is left of the take-over is being cleared."""


INTERRUPTED: Final = "the stage was interrupted before it moved anything"
"""Why the old system stands where the stage could not write that down."""


class Volume(NamedTuple):
    """A file system that takes part: where the system mounts it, and how the stage does (mount(2))."""

    mountpoint: str
    spec: str
    fstype: str
    data: str = ""


class Menu(NamedTuple):
    """What an entry of GRUB's needs. ``prefix``: how GRUB names the directory of the kernels. ``uuid``: of its file
    system. ``modules``: to read it. ``terminal``: lines of the target's own menu. ``command_line``: the kernel's."""

    prefix: str
    uuid: str
    modules: tuple[str, ...]
    terminal: tuple[str, ...]
    command_line: str


class Confirm(NamedTuple):
    """What the new system must show. ``services``: units that were running on the source. ``failed``: units that had
    failed there already. ``addresses``: that must be up; without any, one that is not link-local. ``route``: whether
    there must be a default route."""

    services: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    route: bool = False


class Config(NamedTuple):
    """``boot``: mount point of the file system that GRUB reads; ``directory``: GRUB's own, below that file system's
    top; ``kernels``: that of the kernels, likewise. ``attempts``: how often the stage may begin. ``starts``: how often
    the new system may start without having confirmed. ``tries``: how often a confirmed one may start without a sign of
    life. ``counting``: who counts those: grub, or the stage where GRUB cannot write. ``seconds``: of the watchdog.
    ``hardware``: whether /dev/watchdog is used too. ``esp``: where the ESP is mounted, empty without. ``after_commit``:
    programs that renew the boot loader's files. ``disks``: answer for the next upgrade of Debian's grub-pc."""

    volumes: tuple[Volume, ...]
    boot: str
    directory: str
    kernels: str
    menu: Menu
    confirm: Confirm = Confirm()
    attempts: int = 2
    starts: int = 1
    tries: int = 2
    counting: str = "grub"
    seconds: int = 600
    hardware: bool = True
    esp: str = ""
    after_commit: tuple[tuple[str, ...], ...] = ()
    disks: tuple[str, ...] = ()


class State(NamedTuple):
    """``attempts``: of the stage since it was armed. ``starts``: of the new system since it confirmed last. ``entered``
    and ``at``: ns since 1970; when the new system was started last, and when this was written. ``boot``: kernel's id of
    the boot that armed it. ``shot``: how it is armed, ``disk`` and ``part``: the ESP for that (`oneshot.Shot`)."""

    phase: str = INSTALLED
    attempts: int = 0
    starts: int = 0
    entered: int = 0
    at: int = 0
    reason: str = ""
    boot: str = ""
    shot: str = ""
    disk: str = ""
    part: int = 0


def render_config(config: Config) -> bytes:
    return _render(
        config._replace(
            volumes=[v._asdict() for v in config.volumes],  # type: ignore[arg-type]
            menu=config.menu._asdict(),  # type: ignore[arg-type]
            confirm=config.confirm._asdict(),  # type: ignore[arg-type]
        )._asdict()
    )


def parse_config(raw: bytes) -> Config:
    """CorruptError: damaged, or of another version."""
    found = _parse(raw, CONFIG)
    try:
        found["volumes"] = tuple(Volume(**volume) for volume in found["volumes"])
        found["menu"] = Menu(**_tuples(found["menu"]))
        found["confirm"] = Confirm(**_tuples(found["confirm"]))
        found["disks"] = tuple(found["disks"])
        found["after_commit"] = tuple(tuple(command) for command in found["after_commit"])
        return Config(**found)
    except (TypeError, KeyError) as error:
        raise CorruptError(f"{CONFIG}: {error}", remedy="install the take-over again") from error


def render_state(state: State) -> bytes:
    return _render(state._asdict())


def parse_state(raw: bytes) -> State:
    """CorruptError: damaged, or of another version."""
    found = _parse(raw, STATE)
    try:
        state = State(**found)
        if state.phase not in PHASES:
            raise ValueError(f"phase {state.phase!r}")
        return state
    except (TypeError, ValueError) as error:
        raise CorruptError(f"{STATE}: {error}", remedy="look at `livelift takeover status`") from error


def _render(fields: dict[str, Any]) -> bytes:
    return json.dumps({"format": FORMAT, **fields}, indent=1).encode() + b"\n"


def _parse(raw: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(raw)
        if found.pop("format") != FORMAT:
            raise ValueError("another format")
        return dict(found)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CorruptError(f"{what} of the take-over: {error}", remedy="install the take-over again") from error


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


class Records:
    """The directory, held open. ``root``: where the root's file system is mounted now. FileNotFoundError: nothing of a
    take-over is there."""

    def __init__(self, root: str) -> None:
        self.path = f"{root.rstrip('/')}/{OWN}"
        self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)

    def config(self) -> Config | None:
        raw = read_whole(self.fd, CONFIG)
        return None if raw is None else parse_config(raw)

    def state(self) -> State | None:
        raw = read_whole(self.fd, STATE)
        return None if raw is None else parse_state(raw)

    def write_config(self, config: Config) -> None:
        write_durably(self.fd, CONFIG, render_config(config))

    def write_state(self, state: State) -> None:
        write_durably(self.fd, STATE, render_state(state))

    def failing(self) -> str:
        raw = read_whole(self.fd, FAILING)
        return raw.decode("utf-8", "replace").strip() if raw else ""

    def log(self, text: str) -> None:
        """Durable; a line that cannot be written is no reason to stop."""
        try:
            fd = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
            try:
                os.write(fd, text.encode("utf-8", "backslashreplace") + b"\n")
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError:
            return

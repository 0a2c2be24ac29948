"""The controller's own file of a migration: who moves to whom, and how. No secret is in it, and nothing that the agents
know: what has been done already, they are asked."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from livelift.adapt.linux.agent_unit import NAME
from livelift.adapt.linux.layout import BASE
from livelift.control.lock import sole
from livelift.errors import LockedError, StoreError, UsageError

FILE = "migration.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Migration(msgspec.Struct, frozen=True):
    """``maps``, ``exclude``, ``include``: as on the command line. ``arguments``: further ones of the source agent.
    ``base``: the directory on both machines in which the state directories are. ``address``: where the source finds the
    target; empty: where ssh finds it. ``server``: a whole system moves; ``maps`` are then found by the facts of both,
    ``without`` are mount points of the target that take no part, ``policy`` and ``rules`` the texts of the operator's
    files, ``ignore`` inhibitors to go on in spite of."""

    name: str
    source: str
    target: str
    maps: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    base: str = "/var/lib/livelift"
    port: int = 4777
    address: str = ""
    ssh_options: tuple[str, ...] = ()
    ssh_config: str = ""
    sudo: bool = False
    server: bool = False
    without: tuple[str, ...] = ()
    policy: str = ""
    rules: str = ""
    ignore: tuple[str, ...] = ()

    def is_like(self, other: Migration) -> bool:
        """Whether this command line goes on with that job. Of a server job what the operator decides may be said
        anew: policy, rules, and what is ignored."""
        return self._identity() == other._identity()

    def _identity(self) -> Migration:
        if not self.server:
            return self
        words = tuple(word for word in self.arguments if not word.startswith("--ignore="))
        return msgspec.structs.replace(self, arguments=words, policy="", rules="", ignore=(), maps=())

    def state(self, side: str) -> str:
        """The agent's state directory on its machine: everything of this job there is below it, and of a server job
        beside it in `BASE`, where both systems of the target see it."""
        if self.server and side == "target":
            return f"{BASE}/target"
        return f"{self.base}/{self.name}.{side}"

    def agent(self, side: str) -> str:
        """The agent file on that machine."""
        return f"{BASE if self.server and side == 'target' else self.state(side)}/livelift-agent"

    def unit(self, side: str) -> str:
        return NAME if self.server and side == "target" else f"livelift-{self.name}-{side}.service"

    def destination(self, side: str) -> str:
        return self.source if side == "source" else self.target

    def directories(self, side: str) -> list[str]:
        """The mapped directories of one side that must be there before anything begins."""
        if self.server and side == "target":
            return []  # the agent makes them
        place = 0 if side == "source" else 2
        return [line.replace("==", "\0").partition("=")[place].replace("\0", "=") for line in self.maps]


def home() -> Path:
    """XDG Base Directory 0.8; LIVELIFT_JOBS names another place."""
    if named := os.environ.get("LIVELIFT_JOBS"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "livelift/jobs"


def check_name(name: str) -> str:
    """It becomes part of paths and of a unit's name. UsageError: it could not."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a job", remedy="letters, digits, dots and dashes: --job web-1"
        )
    return name


def name_for(source: str, target: str) -> str:
    """OLD-to-NEW, from what ssh was given."""
    short = [
        re.sub(r"[^A-Za-z0-9.]+", "-", re.sub(r"^(ssh://)?([^@]*@)?", "", text)).strip("-.")
        for text in (source, target)
    ]
    return check_name("-to-".join(short)[:63])


def load(name: str) -> Migration:
    """UsageError: there is no such job. StoreError: its file is damaged."""
    path = home() / check_name(name) / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Migration)
    except FileNotFoundError as error:
        known = ", ".join(names()) or "none"
        raise UsageError(f"this controller knows no job {name}", remedy=f"its jobs ({home()}): {known}") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreError(
            f"{path}: {error}", remedy="delete it and run livelift migrate with all options again"
        ) from error


def names() -> list[str]:
    return sorted(path.parent.name for path in home().glob(f"*/{FILE}"))


def save(job: Migration) -> None:
    """Whole or not at all; for this user only."""
    directory = home() / job.name
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = directory / f"{FILE}.new"
    with open(fresh, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(msgspec.json.format(msgspec.json.encode(job)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, directory / FILE)


def forget(name: str) -> None:
    shutil.rmtree(home() / check_name(name), ignore_errors=False)


@contextmanager
def held(name: str) -> Iterator[None]:
    """One controller at a time works on a job. LockedError: another one does."""
    directory = home() / check_name(name)
    try:
        with sole(os.fsencode(directory)):
            yield
    except LockedError as error:
        raise LockedError(f"another livelift works on job {name}", remedy="wait for it, or end it") from error

"""What a fence has taken from the source, and how all of it is given back: by the agent, by the fence keeper when the
agent is gone, or by the next agent. Each thing is written down, durably, before it is taken; giving back what was not
taken does no harm.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

import msgspec

from livelift.cutover import block
from livelift.cutover.addresses import Held, put_back
from livelift.cutover.block import Block
from livelift.errors import LiveliftError, StoreError
from livelift.platform.linux.cgroups import is_gone
from livelift.platform.linux.gather import let_go
from livelift.platform.linux.programs import run_program

log = logging.getLogger(__name__)

FILE: Final = b"fence.json"
SECONDS: Final = 10.0
"""Of one call of systemctl or journalctl: they ask a process that is not frozen."""


class Taken(msgspec.Struct, frozen=True):
    """``groups``: frozen cgroups, absolute. ``stopped``: units that were stopped. ``timers``: timers and path units
    that were stopped. ``watchdogs``: systemd's service watchdogs were switched off. ``journal``: it writes to memory.
    ``addresses``: taken off. ``block``: see `block`. ``keep``: units that the operator keeps alive; ``named``: nothing
    but the groups was to be frozen. Both are remembered only."""

    groups: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    timers: tuple[str, ...] = ()
    watchdogs: bool = False
    journal: bool = False
    addresses: tuple[Held, ...] = ()
    block: Block | None = None
    keep: tuple[str, ...] = ()
    named: bool = False


def load(directory: bytes) -> Taken | None:
    """None: nothing is taken. StoreError: the file is damaged."""
    path = os.path.join(directory, FILE)
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Taken)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreError(
            f"{os.fsdecode(path)}: {error}",
            remedy="see which cgroups are frozen (cgroup.freeze below /sys/fs/cgroup), thaw them by hand, delete it",
        ) from error


def save(directory: bytes, taken: Taken) -> None:
    """Whole or not at all, and durable."""
    path = os.path.join(directory, FILE)
    with open(path + b".new", "wb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write(msgspec.json.encode(taken))
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + b".new", path)
    _sync(directory)


class Returned(NamedTuple):
    """What could not be given back, in words. ``stuck``: the workload does not serve for it; ``left``: the rest."""

    stuck: list[str]
    left: list[str]


def give_back(directory: bytes) -> Returned:
    """Everything, the frozen first, whatever happens to the rest. What could not be given back stays written down, and
    this may be called again. StoreError: the file is damaged."""
    taken = load(directory)
    stuck: list[str] = []
    left: list[str] = []
    if taken is None:
        return Returned(stuck, left)
    for group in taken.groups:
        _try(stuck, f"thaw {group}", partial(let_go, os.fsencode(group)))
    if taken.addresses:
        _try(stuck, "addresses", partial(put_back, taken.addresses))
    if taken.stopped:
        _try(stuck, "start", partial(_systemctl, "start", "--no-block", *taken.stopped))
    if taken.block is not None:
        _try(stuck, "block of the boot", partial(_lift, taken.block))
    if taken.watchdogs:
        _try(left, "watchdogs", partial(_systemctl, "service-watchdogs", "yes"))
    if taken.timers:
        _try(left, "timers", partial(_systemctl, "start", "--no-block", *taken.timers))
    if taken.journal:
        _try(left, "journal", partial(_program, "journalctl", "--flush"))
    for problem in (*stuck, *left):
        log.error("not given back: %s", problem)
    if not stuck and not left:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, FILE))
        _sync(directory)
    return Returned(stuck, left)


def _lift(put: Block) -> None:
    """A machine that has booted into the block starts what it would have started."""
    block.lift(put)
    if _is_active(block.TARGET):
        _systemctl("daemon-reload")
        _systemctl("start", "--no-block", block.DEFAULT)


def _is_active(unit: str) -> bool:
    try:
        return _systemctl("is-active", unit).strip() == "active"
    except LiveliftError:
        return False  # is-active ends with 3 for one that is not


def _systemctl(*words: str) -> str:
    return _program("systemctl", *words)


def _program(*words: str) -> str:
    return run_program(words, SECONDS)


def _try(problems: list[str], what: str, act: Callable[[], object]) -> None:
    try:
        act()
    except OSError as error:
        if not is_gone(error):
            problems.append(f"{what}: {error}")
    except LiveliftError as error:
        problems.append(f"{what}: {error.args[0]}")


def _sync(directory: bytes) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

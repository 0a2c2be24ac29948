"""The work of an interrupted adaptation, kept beside its journal: a plan made anew from a half-changed tree would be
another one."""

from __future__ import annotations

import os
from typing import Final

import msgspec
from blake3 import blake3

from livelift.adapt.plan import Plan
from livelift.edits.journal import sync_directory
from livelift.errors import CorruptError

NAME: Final = "work"
_DIGEST: Final = 32


class Work(msgspec.Struct, frozen=True):
    """``command``: digest of what was asked for (`command_digest`). ``plan``: the file plan, merged hives included.
    ``boot_store``: the merged one, empty where there is none. ``hives``: name to size, to tell."""

    command: str
    plan: Plan
    boot_store: bytes
    hives: dict[str, int]


def command_digest(parts: object) -> str:
    """``parts``: everything that a plan follows from besides the trees."""
    return blake3(msgspec.msgpack.encode(parts)).hexdigest()


def keep(state: str, work: Work) -> None:
    """Durable on return: before the first step of the journal."""
    body = msgspec.msgpack.encode(work)
    path = os.path.join(state, NAME)
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        data = blake3(body).digest() + body
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)
    sync_directory(state)


def load(state: str) -> Work | None:
    """None: nothing was begun here. CorruptError: damaged; the journal still leads back."""
    try:
        with open(os.path.join(state, NAME), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    body = data[_DIGEST:]
    if blake3(body).digest() != data[:_DIGEST]:
        raise CorruptError(f"{state}/{NAME} is damaged", remedy="--undo puts everything back; then begin anew")
    try:
        return msgspec.msgpack.decode(body, type=Work)
    except msgspec.DecodeError as error:
        raise CorruptError(
            f"{state}/{NAME} is of another version: {error}", remedy="--undo puts everything back; then begin anew"
        ) from error


def forget(state: str) -> None:
    """When nothing leads on or back any more: the journal is empty."""
    for name in (NAME, f"{NAME}.new"):
        try:
            os.unlink(os.path.join(state, name))
        except FileNotFoundError:
            pass

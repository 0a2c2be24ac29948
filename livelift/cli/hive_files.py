"""Hive files on disk: the hive with the logs beside it, and writing one so that no crash leaves half of it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import suppress

from livelift.errors import HiveError, StateError, UsageError
from livelift.registry.base_block import BLOCK, MAX_BINS

LOGS = (".log1", ".log2", ".log")


def logs_beside(path: str) -> list[str]:
    """The transaction logs of the hive at ``path`` that have a byte in them, in the order LOG1, LOG2, LOG."""
    folder, name = os.path.split(os.path.realpath(path))
    wanted = {(name + suffix).casefold(): order for order, suffix in enumerate(LOGS)}
    found = [
        (wanted[entry.casefold()], os.path.join(folder, entry))
        for entry in os.listdir(folder)
        if entry.casefold() in wanted
    ]
    return [log for _, log in sorted(found) if os.path.isfile(log) and os.path.getsize(log)]


def lone_log(path: str, replayed: int) -> list[str]:
    """A word of warning where a log was needed and its twin is not there: nobody can tell what was in that one."""
    names = [os.path.splitext(log)[1].upper() for log in logs_beside(path)] if replayed else []
    if names in ([".LOG1"], [".LOG2"]):
        return [f"of its two logs only {names[0]} is there; if the other one was left behind, changes are missing"]
    return []


def load(path: str, with_logs: bool = True) -> tuple[bytes, list[bytes]]:
    """The hive's bytes and those of its logs."""
    data = load_file(path)
    try:
        names = logs_beside(path) if with_logs else []
    except OSError as error:
        raise HiveError(f"{path}: its logs cannot be listed: {error.strerror}", remedy="see --no-logs") from error
    return data, [load_file(name) for name in names]


def load_file(path: str) -> bytes:
    try:
        if os.path.getsize(path) > BLOCK + 2 * MAX_BINS:
            raise UsageError(f"{path} is bigger than a hive can be", remedy="name a registry hive")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", remedy="name a file that can be read") from error


def save(path: str, data: bytes, like: str = "") -> None:
    """Put ``data`` at ``path`` at once and durably: a new file beside it, synced, renamed over it. With the mode and,
    as far as allowed, the owner of the file ``like``; without one for the owner alone."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".livelift-", dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                if like:
                    shutil.copymode(like, temporary)
                    if sys.platform != "win32":
                        status = os.stat(like)
                        with suppress(PermissionError):
                            os.chown(temporary, status.st_uid, status.st_gid)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync(folder)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", remedy="write to a directory with room that is yours") from error


def replace(path: str, data: bytes) -> list[str]:
    """Put ``data`` in the place of the hive at ``path``. The old one and its logs stay under other names, which are
    returned. The logs go last: beside the new hive, which is clean and has a higher sequence number, they mean nothing;
    without them the old one would have lost what is only in them."""
    path = kept = os.path.realpath(path)
    try:
        suffix = _free_suffix(path)
        kept += suffix
        try:
            os.link(path, kept)
        except OSError:  # a file system without hard links
            shutil.copy2(path, kept)
        logs = logs_beside(path)
        save(path, data, path)
        for log in logs:
            os.rename(log, log + suffix)
        _sync(os.path.dirname(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", remedy=f"the hive as it was is in {kept}") from error
    return [kept, *(log + suffix for log in logs)]


def refuse_stale_logs(path: str) -> None:
    """Logs of another hive must not lie beside a new one: after the next crash Windows would look at them."""
    if stale := logs_beside(path):
        raise StateError(
            f"{', '.join(stale)} would lie beside the new hive", remedy="remove them, or write to another directory"
        )


def _free_suffix(path: str) -> str:
    """One that neither the hive nor any of its logs has a copy under, in any case."""
    folder, name = os.path.split(path)
    taken = {entry.casefold() for entry in os.listdir(folder)}
    number = 1
    while any((name + end + f".backup{number}").casefold() in taken for end in ("", *LOGS)):
        number += 1
    return f".backup{number}"


def _sync(folder: str) -> None:
    if sys.platform == "win32":
        return  # NTFS logs names itself, and a directory is not flushed by its path
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

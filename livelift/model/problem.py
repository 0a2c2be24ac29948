"""Trouble that does not stop anything: a value that is collected, shown and counted."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True, array_like=True):
    """One thing that went wrong with one path. ``code`` is stable, ``remedy`` says what to do next."""

    path: bytes
    code: str
    detail: str
    remedy: str = ""


class Skipped(msgspec.Struct, frozen=True, array_like=True):
    """A tree or file that is left out on purpose, and why: memory-only file system, exclusion, second mount."""

    path: bytes
    reason: str

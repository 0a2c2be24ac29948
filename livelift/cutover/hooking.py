"""The hooks of both machines around the steps of a cutover: those of the source here, those of the target through
it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from livelift.errors import UnreachableError
from livelift.hooks.hooks import SECONDS, Hooks


class Hooking:
    """``state``: of the job, now. ``ask``: a step of the target's (verb, deadline, options)."""

    def __init__(self, hooks: Hooks, state: Callable[[], str], ask: Callable[..., dict[str, Any]]) -> None:
        self._hooks = hooks
        self._state = state
        self._ask = ask
        self._there: dict[str, list[str]] | None = None

    def listing(self) -> dict[str, dict[str, list[str]]]:
        """By machine. UsageError: of either, as `livelift.hooks.hooks.Hooks.listing`."""
        return {"source": self._hooks.listing(), "target": self._target()}

    def __call__(self, step: str, when: str, error: str = "") -> None:
        """ProgramError, RemoteFailure: a hook has failed. With nothing fenced yet a link that is down is waited for by
        others; later it is an error."""
        if self._there is None:
            self._hooks.listing()
        self._hooks.run(step, when, self._state(), error)
        try:
            names = self._target().get(f"{step}.{when}", [])
        except UnreachableError:
            if step not in ("prepare", "abort"):
                raise
            return
        if names:
            limit = time.monotonic() + SECONDS * len(names) + 10
            # The key: behind an abort the link is renewed, and the question is asked again.
            key = secrets.token_hex(8)
            self._ask("hook", limit, key=key, step=step, when=when, state=self._state(), error=error)

    def _target(self) -> dict[str, list[str]]:
        if self._there is None:
            self._there = dict(self._ask("hook", time.monotonic() + 10).get("listing", {}))
        return self._there

"""A client that asks a service again and again, as many clients would, and keeps what it saw (`continuity`)."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from livelift.cutover.continuity import Report, Request, account
from livelift.errors import UsageError

PACE: Final = 0.1
PATIENCE: Final = 5.0
"""Seconds between the beginnings of two requests, and after which one is a failure."""


def parse(target: str) -> Callable[[], None]:
    """One request; what it raises is its failure. ``target``: http://..., https://... or tcp:HOST:PORT, which is
    content with a connection: a service that stands still is still connected to by the kernel. UsageError: another."""
    if target.startswith("tcp:"):
        host, separator, port = target.removeprefix("tcp:").rpartition(":")
        if separator and host and port.isdigit():
            return lambda: _connect(host.strip("[]"), int(port))
    url = urlsplit(target)
    if url.scheme in ("http", "https") and url.hostname:
        return lambda: _get(target)
    raise UsageError(f"{target!r} cannot be asked", remedy="name http://HOST/PATH, https://HOST/PATH or tcp:HOST:PORT")


class Watch:
    """Asks all ``targets`` from the beginning to the end of a ``with`` block, each in a thread of its own."""

    def __init__(self, targets: Sequence[str], pace: float = PACE) -> None:
        self._asks = {target: parse(target) for target in targets}
        self._pace = pace
        self._seen: dict[str, list[Request]] = {target: [] for target in targets}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._began = self._ended = 0.0

    def __enter__(self) -> Watch:
        self._began = time.monotonic()
        for target, ask in self._asks.items():
            thread = threading.Thread(target=self._run, args=(ask, self._seen[target]), name=target, daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = time.monotonic()
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE + 1)

    def wait(self, seconds: float | None) -> None:
        self._stop.wait(seconds)

    def until_answered(self, seconds: float = 30.0) -> None:
        """Until each of them has answered a request that began from now on: so the last gap is told to its end."""
        since = time.monotonic()
        while time.monotonic() - since < seconds and not all(
            any(r.began >= since and not r.failure for r in seen[-3:]) for seen in self._seen.values()
        ):
            self._stop.wait(self._pace)

    def reports(self) -> list[Report]:
        ended = self._ended or time.monotonic()
        return [
            account(target, [r for r in seen if r.ended <= ended], self._began, ended)
            for target, seen in self._seen.items()
        ]

    def _run(self, ask: Callable[[], None], seen: list[Request]) -> None:
        while not self._stop.is_set():
            began, failure = time.monotonic(), ""
            try:
                ask()
            except (OSError, http.client.HTTPException, ValueError) as error:
                failure = str(error) or type(error).__name__
            ended = time.monotonic()
            seen.append(Request(began, ended, failure))
            self._stop.wait(max(self._pace - (ended - began), 0.0))


def _connect(host: str, port: int) -> None:
    socket.create_connection((host, port), PATIENCE).close()


def _get(target: str) -> None:
    """ValueError: an answer that says that the service has failed (5xx, RFC 9110 15.6)."""
    url = urlsplit(target)
    assert url.hostname is not None
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=PATIENCE, context=context)
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
    try:
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        connection.request("GET", path, headers={"User-Agent": "livelift", "Connection": "close"})
        response = connection.getresponse()
        response.read(1 << 16)
        if response.status >= 500:
            raise ValueError(f"HTTP {response.status} {response.reason}")
    finally:
        connection.close()

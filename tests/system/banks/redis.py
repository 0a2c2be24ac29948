"""Redis with its append-only file: synced at each command, rewritten now and then."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.system.banks.bank import ACCOUNTS, PAUSE, Acknowledged, Bank, settled, transfer
from tests.system.test_workloads import run

REWRITE = 100
"""Transactions between two rewritings of the file: new files, renamed into place, old ones unlinked."""


class Wire:
    """RESP, as much of it as this needs."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def call(self, *words: str) -> list[str]:
        """The answer, flat. AssertionError: it is an error."""
        encoded = [word.encode() for word in words]
        parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(parts))
        return self._answer()

    def _answer(self) -> list[str]:
        line = self._file.readline()
        assert line, "redis-server is gone"
        kind, rest = line[:1], line[1:-2].decode()
        assert kind != b"-", rest
        if kind == b"$":
            return [] if rest == "-1" else [self._file.read(int(rest) + 2)[:-2].decode()]
        if kind == b"*":
            return [part for _ in range(int(rest)) for part in self._answer()]
        return [rest]


class Redis(Bank):
    name = "redis"

    def missing(self) -> str:
        return "" if shutil.which("redis-server") else "redis-server is not installed"

    @contextlib.contextmanager
    def _server(self) -> Iterator[Wire]:
        path = Path("/tmp") / f"bank-{os.getpid()}.sock"
        options = ["--port", "0", "--unixsocket", path, "--dir", self.directory, "--daemonize", "no"]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        options += ["--logfile", self.directory / "redis.log"]
        server = subprocess.Popen(list(map(str, ["redis-server", *options])), stdout=subprocess.DEVNULL)
        try:
            wire = self._connected(server, path)
            try:
                yield wire
            finally:
                wire.close()
        finally:
            server.kill()
            server.wait()
            path.unlink(missing_ok=True)

    @staticmethod
    def _connected(server: subprocess.Popen[bytes], path: Path) -> Wire:
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None and time.monotonic() < deadline, "redis-server did not start"
            with contextlib.suppress(OSError):
                wire = Wire(path)
                try:
                    if wire.call("PING") == ["PONG"]:
                        return wire
                except AssertionError:  # it is still loading
                    wire.close()
            time.sleep(0.1)

    def prepare(self) -> None:
        with self._server() as wire:
            for account in range(ACCOUNTS):
                wire.call("HSET", "account", str(account), "1000")

    def serve(self, acknowledged: Acknowledged, stop: threading.Event) -> None:
        with self._server() as wire:
            number = 0
            while not stop.wait(PAUSE):
                number += 1
                t = transfer(0, number)
                wire.call("MULTI")
                wire.call("HINCRBY", "account", str(t.giver), str(-t.amount))
                wire.call("HINCRBY", "account", str(t.taker), str(t.amount))
                wire.call("HSET", "ledger", str(number), t.filler)
                wire.call("EXEC")
                acknowledged.add(0, number)
                if number % REWRITE == 0:
                    wire.call("BGREWRITEAOF")

    def judge(self) -> dict[int, int]:
        # What a crash cuts off in the middle of a command is what its checker mends; Redis itself does so, too.
        run("redis-check-aof", "--fix", self.directory / "appendonlydir/appendonly.aof.manifest", input="y\n")
        with self._server() as wire:
            found, lines = wire.call("HGETALL", "account"), wire.call("HGETALL", "ledger")
        accounts = {int(a): int(b) for a, b in zip(found[::2], found[1::2], strict=True)}
        ledger = sorted((int(n), filler) for n, filler in zip(lines[::2], lines[1::2], strict=True))
        return {0: settled(0, accounts, ledger)}

"""The clients of the service that moves, outside both machines: they ask all the time and record every answer.

They know two doors, the old machine's and the new one's, and go to the other one when theirs does not answer in time,
as a client behind a DNS name or a proxy would. An answer counts only if it is the service's own: the database ``shop``
and the page with the token that `plant` puts there are on no other machine.
"""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg

from tests.vm.answers import Answer, Continuity, Held, continuity, held
from tests.vm.machine import Machine

PAGE: Final = "/who.txt"
PATIENCE: Final = 4.0
"""Seconds without an answer until a client that had one before tries the other door: emulated machines are slow."""
SEARCH: Final = 1.0
"""The same for a client that has none at the moment: this much too long may a gap be reported."""
SCHEMA: Final = """
CREATE TABLE ledger (client int, number int, amount int NOT NULL, note text NOT NULL,
                     at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (client, number));
CREATE INDEX ledger_at ON ledger (at);
CREATE TABLE total (client int PRIMARY KEY, amount bigint NOT NULL);
INSERT INTO total SELECT n, 0 FROM generate_series(0, 99) AS n;
"""
TORN: Final = """
SELECT count(*) FROM total LEFT JOIN (SELECT client, sum(amount) AS moved FROM ledger GROUP BY client) AS lines
USING (client) WHERE amount <> coalesce(moved, 0)
"""


class Door(NamedTuple):
    """One way to the service: ports of 127.0.0.1."""

    name: str
    database: int
    web: int


def door(machine: Machine) -> Door:
    return Door(machine.name, machine.port(5432), machine.port(80))


class Load:
    """``rate``: commits and requests a second, each, of all clients together. ``record``: a file that gets a line for
    every answer as soon as it is there. ``first``: number of the first commit; none has the number of one that was made
    before. Works while it is entered."""

    def __init__(
        self, doors: Sequence[Door], token: str, record: Path, clients: int = 2, rate: float = 4.0, first: int = 1
    ) -> None:
        self._doors = tuple(doors)
        self._token = token.encode()
        self._record = record.open("a", buffering=1, encoding="utf-8")
        self._pause = clients / rate
        self._first = first
        self._answers: list[Answer] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._began = time.time()
        self._threads = [
            threading.Thread(target=work, args=(client,), daemon=True, name=f"{work.__name__} {client}")
            for work in (self._commits, self._requests)
            for client in range(clients)
        ]

    def __enter__(self) -> Load:
        self._began = time.time()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        hanging = [thread.name for thread in self._threads if thread.is_alive()]
        self._record.close()
        assert not hanging, f"clients that do not end: {hanging}"

    # -- what they have seen, also while they work -------------------------------------------------------------------

    @property
    def answers(self) -> list[Answer]:
        with self._lock:
            return list(self._answers)

    def wait(self, kind: str, door: str, timeout: float, since: float = 0) -> Answer:
        """The first good answer of that door to what was asked after ``since``."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for answer in self.answers:
                if answer.kind == kind and not answer.error and answer.door == door and answer.asked >= since:
                    return answer
            time.sleep(0.05)
        last = [answer for answer in self.answers if answer.kind == kind][-3:]
        raise AssertionError(f"no {kind} served by the {door} within {timeout:.0f} s; the last ones: {last}")

    def report(self) -> Continuity:
        return continuity(self._began, self.answers)

    def held(self, door: Door, before: Sequence[Answer] = ()) -> Held:
        """What the database behind that door holds of what has been acknowledged until now, and ``before``."""
        answers = [*before, *self.answers]
        with connect(door.database, 30) as connection:
            rows = connection.execute("SELECT client, number FROM ledger").fetchall()
            (torn,) = connection.execute(TORN).fetchone() or (-1,)
        return held(answers, rows, torn)

    # -- the clients -------------------------------------------------------------------------------------------------

    def _note(self, kind: str, door: Door, client: int, number: int, asked: float, error: str) -> None:
        answer = Answer(kind, door.name, client, number, asked, time.time(), error)
        with self._lock:
            self._answers.append(answer)
            self._record.write(json.dumps(answer) + "\n")

    def _requests(self, client: int) -> None:
        at, patience = 0, PATIENCE
        for number in itertools.count(1):
            if self._stop.wait(self._pause):
                return
            door, asked, error = self._doors[at % len(self._doors)], time.time(), ""
            try:
                self._get(door, patience)
                patience = PATIENCE
            except (OSError, http.client.HTTPException, ValueError) as problem:
                error = f"{type(problem).__name__}: {problem}"
                at, patience = at + 1, SEARCH
            self._note("request", door, client, number, asked, error)

    def _get(self, door: Door, patience: float) -> None:
        line = http.client.HTTPConnection("127.0.0.1", door.web, timeout=patience)
        try:
            line.request("GET", PAGE)
            answer = line.getresponse()
            body = answer.read()
        finally:
            line.close()
        if answer.status != 200 or body.strip() != self._token:
            raise ValueError(f"{answer.status} {body[:40]!r}")

    def _commits(self, client: int) -> None:
        # never the same number again: whether one that failed was done is not known
        at, number = 0, itertools.count(self._first)
        while not self._stop.is_set():
            door, asked, now = self._doors[at % len(self._doors)], time.time(), next(number)
            try:
                greet(door.database, SEARCH)
                with connect(door.database, PATIENCE) as connection:
                    while not self._stop.wait(self._pause):
                        asked = time.time()
                        with within(connection, PATIENCE):
                            _commit(connection, client, now)
                        self._note("commit", door, client, now, asked, "")
                        now = next(number)
                    return
            except (OSError, psycopg.Error) as problem:
                self._note("commit", door, client, now, asked, f"{type(problem).__name__}: {problem}".strip())
                at += 1
                self._stop.wait(self._pause)


def connect(port: int, patience: float) -> psycopg.Connection[Any]:
    """libpq takes whole seconds, and 2 at least."""
    return psycopg.connect(
        host="127.0.0.1", port=port, user="postgres", dbname="shop", connect_timeout=max(2, round(patience)),
        sslmode="disable",
    )  # fmt: skip


def greet(port: int, patience: float) -> None:
    """OSError unless a PostgreSQL answers there in time (protocol 3.0, SSLRequest: one byte comes back)."""
    with socket.create_connection(("127.0.0.1", port), patience) as line:
        line.sendall(struct.pack("!ii", 8, 80877103))
        if line.recv(1) not in (b"S", b"N"):
            raise ConnectionError("closed without an answer")


def _commit(connection: psycopg.Connection[Any], client: int, number: int) -> None:
    amount = number % 97
    connection.execute(
        "INSERT INTO ledger (client, number, amount, note) VALUES (%s, %s, %s, %s)",
        (client, number, amount, f"commit {number} of client {client} " + "." * 200),
    )
    connection.execute("UPDATE total SET amount = amount + %s WHERE client = %s", (amount, client))
    connection.commit()


@contextmanager
def within(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Cuts the line if this takes longer: a frozen server keeps its connections and says nothing."""

    def cut() -> None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    with socket.socket(fileno=socket.dup(connection.fileno())) as line:
        timer = threading.Timer(seconds, cut)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

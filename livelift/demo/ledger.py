"""The clients of the PostgreSQL that moves: they commit all the time and record every commit acknowledged to them.

Each transaction moves an amount between two accounts and writes one line of the ledger, so beside "every acknowledged
line is there" there is a second thing to check: no transaction is there by half.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NamedTuple

import psycopg

from livelift.demo.postgres import Cluster

ACCOUNTS = 50_000
SCHEMA = f"""
CREATE TABLE ledger (client int, number int, debit int NOT NULL, credit int NOT NULL, amount bigint NOT NULL,
                     note text NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (client, number));
CREATE INDEX ledger_at ON ledger (at);
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL, filler text NOT NULL);
INSERT INTO account SELECT n, 0, repeat('x', 100) FROM generate_series(1, {ACCOUNTS}) AS n;
CREATE INDEX account_balance ON account (balance);
"""

Pair = tuple[int, int]  # client, number


class Finding(NamedTuple):
    """What the replica's database says about the acknowledged commits."""

    acknowledged: int
    found: int
    unacknowledged: int  # in the database though no client heard of it: in flight at the cut, allowed
    torn: int  # accounts whose balance is not what the ledger's lines add up to
    missing: tuple[Pair, ...]


class Ledger:
    """``clients`` connections, each in a thread, ``rate`` commits a second together; `stop` ends them.

    Every acknowledgement is written to ``record``, outside both trees, right after the commit returned.
    """

    def __init__(self, cluster: Cluster, record: Path, clients: int = 4, rate: float = 200) -> None:
        self._cluster = cluster
        self._pause = clients / rate
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._record = open(record, "w", encoding="ascii", buffering=1)  # noqa: SIM115  closed by `stop`
        self._acknowledged: list[Pair] = []
        self._last = 0.0
        self._slowest = 0.0
        self._threads = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(clients)]

    def start(self) -> None:
        with self._cluster.connect() as connection:
            connection.execute(SCHEMA)
        for thread in self._threads:
            thread.start()

    @property
    def acknowledged(self) -> int:
        return len(self._acknowledged)

    def silence(self) -> float:
        """Seconds since the last acknowledgement to any client."""
        return time.monotonic() - self._last

    def slowest(self) -> float:
        """The longest time that a client waited for a commit that was then acknowledged, seconds."""
        return self._slowest

    def stop(self) -> None:
        """End the clients; the server must be gone or answering, since a client waits for its answer."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(30)
        self._record.close()

    def _client(self, client: int) -> None:
        try:
            with self._cluster.connect() as connection:
                number = 0
                while not self._stop.wait(self._pause):
                    number += 1
                    began = time.monotonic()
                    self._transfer(connection, client, number)
                    ended = time.monotonic()
                    with self._lock:
                        self._acknowledged.append((client, number))
                        self._record.write(f"{client} {number}\n")
                        self._last, self._slowest = ended, max(self._slowest, ended - began)
        except psycopg.OperationalError:
            return  # the server went away; the commit under way was never acknowledged and is not counted

    def _transfer(self, connection: psycopg.Connection[tuple[object, ...]], client: int, number: int) -> None:
        amount = number % 97 + 1
        # in the order of their ids, so that two clients never wait for each other in a circle
        one, two = sorted(((client * 7919 + number * 104729) % ACCOUNTS + 1, (number * 15485863) % ACCOUNTS + 1))
        if one == two:
            two = one % ACCOUNTS + 1
            one, two = sorted((one, two))
        connection.execute("UPDATE account SET balance = balance - %s WHERE id = %s", (amount, one))
        connection.execute("UPDATE account SET balance = balance + %s WHERE id = %s", (amount, two))
        connection.execute(
            "INSERT INTO ledger (client, number, debit, credit, amount, note) VALUES (%s, %s, %s, %s, %s, %s)",
            (client, number, one, two, amount, f"transfer {number} of client {client}, " + "." * 80),
        )
        connection.commit()

    def check(self, replica: Cluster) -> Finding:
        """Compare what was acknowledged with what the replica's database holds."""
        with replica.connect() as connection:
            rows = connection.execute("SELECT client, number FROM ledger").fetchall()
            (torn,) = connection.execute(TORN).fetchone() or (None,)
        present = {(int(str(client)), int(str(number))) for client, number in rows}
        acknowledged = set(self._acknowledged)
        missing = tuple(sorted(acknowledged - present))
        return Finding(
            len(acknowledged), len(acknowledged) - len(missing), len(present - acknowledged), int(str(torn)), missing
        )


TORN = """
SELECT count(*) FROM account LEFT JOIN (
    SELECT id, sum(amount) AS moved FROM (
        SELECT debit AS id, -amount AS amount FROM ledger UNION ALL SELECT credit, amount FROM ledger) AS sides
    GROUP BY id) AS sums USING (id)
WHERE balance IS DISTINCT FROM coalesce(moved, 0)
"""



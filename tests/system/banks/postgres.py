"""PostgreSQL with checksums, checkpoints in quick succession, and several clients."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.system.banks.bank import ACCOUNTS, PAUSE, Acknowledged, Bank, clients, filling, settled, transfer
from tests.system.test_workloads import POSTGRES, run


class Postgres(Bank):
    name = "postgresql"
    clients = 4
    PORT = "54397"

    def missing(self) -> str:
        if not POSTGRES.is_dir():
            return f"no PostgreSQL in {POSTGRES}"
        try:
            import psycopg  # noqa: F401
        except ImportError:
            return "the Python package psycopg is not installed"
        return ""

    @property
    def _data(self) -> Path:
        return self.directory / "pg"

    def _pg(self, program: str, *arguments: str | Path, timeout: float = 600) -> str:
        return run("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", POSTGRES / program, *arguments,
                   timeout=timeout, cwd="/")  # fmt: skip

    def _let_in(self) -> None:
        """The server is not root."""
        shutil.chown(self.directory, "postgres", "postgres")
        for parent in (self.directory, *self.directory.parents):
            with contextlib.suppress(OSError):
                os.chmod(parent, os.stat(parent).st_mode | 0o055)

    @contextlib.contextmanager
    def _server(self) -> Iterator[str]:
        self._let_in()
        sockets = Path("/tmp") / f"bank-{os.getpid()}"
        sockets.mkdir(exist_ok=True)
        os.chmod(sockets, 0o777)
        options = f"-p {self.PORT} -k {sockets} -c listen_addresses= -c shared_buffers=8MB -c max_wal_size=64MB"
        options += " -c min_wal_size=32MB -c checkpoint_timeout=30s -c autovacuum_naptime=5s -c bgwriter_delay=20ms"
        control = ("pg_ctl", "-D", self._data, "-w", "-t", "500", "-o", options, "-l", self._data / "server.log")
        self._pg(*control, "start")  # type: ignore[arg-type]
        try:
            yield f"host={sockets} port={self.PORT} user=postgres dbname=postgres"
        finally:
            self._pg(*control, "stop", "-m", "immediate")  # type: ignore[arg-type]
            shutil.rmtree(sockets, ignore_errors=True)

    def prepare(self) -> None:
        import psycopg

        self._let_in()
        self._pg("initdb", "-D", self._data, "--no-sync", "-k")
        with self._server() as where, psycopg.connect(where, autocommit=True) as connection:
            connection.execute("create table account (c int, id int, balance int, filler text, primary key (c, id))")
            connection.execute("create table ledger (c int, n int, giver int, filler text, primary key (c, n))")
            connection.execute("create index ledger_giver on ledger (giver)")
            connection.execute("create extension amcheck")
            for client in range(self.clients):
                with connection.cursor() as cursor:
                    rows = [(client, a, filling(a)) for a in range(ACCOUNTS)]
                    cursor.executemany("insert into account values (%s, %s, 1000, %s)", rows)

    def serve(self, acknowledged: Acknowledged, stop: threading.Event) -> None:
        import psycopg

        with self._server() as where:

            def work(client: int, stop: threading.Event) -> None:
                with psycopg.connect(where) as connection:
                    number = 0
                    while not stop.wait(PAUSE):
                        number += 1
                        t = transfer(client, number)
                        change = "update account set balance = balance + %s where c = %s and id = %s"
                        connection.execute(change, (-t.amount, client, t.giver))
                        connection.execute(change, (t.amount, client, t.taker))
                        row = (client, number, t.giver, t.filler)
                        connection.execute("insert into ledger values (%s, %s, %s, %s)", row)
                        connection.commit()
                        acknowledged.add(client, number)

            clients(self.clients, work, stop)

    def judge(self) -> dict[int, int]:
        import psycopg

        (self._data / "postmaster.pid").unlink(missing_ok=True)
        with self._server() as where:
            with psycopg.connect(where) as connection:
                result = {}
                for client in range(self.clients):
                    found = connection.execute("select id, balance from account where c = %s", (client,)).fetchall()
                    lines = connection.execute("select n, filler from ledger where c = %s order by n", (client,))
                    result[client] = settled(client, dict(found), lines.fetchall())
            sockets = where.split()[0].removeprefix("host=")
            check = ("--heapallindexed", "--parent-check", "-d", "postgres")
            self._pg("pg_amcheck", "-h", sockets, "-p", self.PORT, *check)
        return result

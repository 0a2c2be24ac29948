"""SQLite, with a write-ahead log and with a rollback journal."""

from __future__ import annotations

import contextlib
import sqlite3
import threading

from tests.system.banks.bank import ACCOUNTS, PAUSE, Acknowledged, Bank, filling, settled, transfer


class Sqlite(Bank):
    """``journal``: of SQLite's journal modes."""

    journal = ""

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.directory / "bank.db", isolation_level=None, timeout=60)
        assert connection.execute(f"pragma journal_mode={self.journal}").fetchone() == (self.journal,)
        connection.execute("pragma wal_autocheckpoint=40")
        connection.execute("pragma synchronous=full")
        return connection

    def prepare(self) -> None:
        with contextlib.closing(self._open()) as connection:
            connection.executescript(
                "create table account (id integer primary key, balance integer, filler text);"
                "create table ledger (n integer primary key, giver integer, filler text);"
                "create index ledger_giver on ledger (giver);"
            )
            rows = [(a, 1000, filling(a)) for a in range(ACCOUNTS)]
            connection.execute("begin")
            connection.executemany("insert into account values (?,?,?)", rows)
            connection.execute("commit")

    def serve(self, acknowledged: Acknowledged, stop: threading.Event) -> None:
        with contextlib.closing(self._open()) as connection:
            number = 0
            while not stop.wait(PAUSE):
                number += 1
                t = transfer(0, number)
                connection.execute("begin immediate")
                connection.execute("update account set balance=balance-? where id=?", (t.amount, t.giver))
                connection.execute("update account set balance=balance+? where id=?", (t.amount, t.taker))
                connection.execute("insert into ledger values (?,?,?)", (number, t.giver, t.filler))
                connection.execute("commit")
                acknowledged.add(0, number)

    def judge(self) -> dict[int, int]:
        with contextlib.closing(sqlite3.connect(self.directory / "bank.db")) as connection:
            assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
            accounts = dict(connection.execute("select id, balance from account"))
            ledger = connection.execute("select n, filler from ledger order by n").fetchall()
        return {0: settled(0, accounts, ledger)}


class SqliteWal(Sqlite):
    name = "sqlite-wal"
    journal = "wal"


class SqliteRollback(Sqlite):
    name = "sqlite-rollback"
    journal = "delete"

"""Databases as banks: every transaction is known beforehand, so what a copy holds says exactly which ones it has.

Transaction ``n`` of client ``c`` moves an amount between two of the client's accounts and adds a line to its ledger;
all of it follows from (c, n). A recovered database must hold, for each client, the lines 1..k and the balances that
follow from them. A bank is `prepare`d in the source directory, `serve`s in a process of its own
(``python -m tests.system.banks NAME DIRECTORY ACKNOWLEDGED``), which writes a line for each transaction that was
acknowledged, and `judge`s a copy, which recovers it and runs the database's own checker.
"""

from __future__ import annotations

from tests.system.banks.bank import Acknowledged, Bank
from tests.system.banks.lmdb import Lmdb, LmdbWritemap
from tests.system.banks.mariadb import MariaDb
from tests.system.banks.postgres import Postgres
from tests.system.banks.redis import Redis
from tests.system.banks.sqlite import SqliteRollback, SqliteWal

BANKS: dict[str, type[Bank]] = {
    bank.name: bank for bank in (SqliteWal, SqliteRollback, Lmdb, LmdbWritemap, Redis, Postgres, MariaDb)
}

__all__ = ["BANKS", "Acknowledged", "Bank"]

"""LMDB: pages by write and a mapping that is only read, or all stores through the mapping."""

from __future__ import annotations

import shutil
import threading

from tests.system.banks.bank import ACCOUNTS, PAUSE, Acknowledged, Bank, filling, settled, transfer
from tests.system.test_workloads import run


class Lmdb(Bank):
    """``writemap``: all stores go through the mapping."""

    name = "lmdb"
    writemap = False

    def missing(self) -> str:
        try:
            import lmdb  # noqa: F401
        except ImportError:
            return "the Python package lmdb is not installed"
        return "" if shutil.which("mdb_stat") else "needs the Debian package lmdb-utils"

    def _open(self, **options: object):  # type: ignore[no-untyped-def]
        import lmdb

        return lmdb.open(str(self.directory / "bank"), map_size=64 << 20, writemap=self.writemap, max_dbs=2, **options)

    def prepare(self) -> None:
        with self._open() as environment:
            accounts, _ledger = environment.open_db(b"account"), environment.open_db(b"ledger")
            with environment.begin(write=True) as transaction:
                for account in range(ACCOUNTS):
                    value = f"1000 {filling(account)}".encode()
                    transaction.put(b"%d" % account, value, db=accounts)

    def serve(self, acknowledged: Acknowledged, stop: threading.Event) -> None:
        with self._open() as environment:
            accounts, ledger = environment.open_db(b"account"), environment.open_db(b"ledger")
            number = 0
            while not stop.wait(PAUSE):
                number += 1
                t = transfer(0, number)
                with environment.begin(write=True) as transaction:
                    for account, change in ((t.giver, -t.amount), (t.taker, t.amount)):
                        key = b"%d" % account
                        balance, filler = transaction.get(key, db=accounts).split()
                        transaction.put(key, b"%d %b" % (int(balance) + change, filler), db=accounts)
                    transaction.put(b"%09d" % number, t.filler.encode(), db=ledger)
                acknowledged.add(0, number)

    def judge(self) -> dict[int, int]:
        # mdb_stat walks every page of every tree by way of the free list and the counts.
        run("mdb_stat", "-a", "-e", "-f", self.directory / "bank")
        with self._open() as environment:
            with environment.begin(db=environment.open_db(b"account")) as transaction:
                accounts = {int(key): int(value.split()[0]) for key, value in transaction.cursor()}
            with environment.begin(db=environment.open_db(b"ledger")) as transaction:
                lines = [(int(key), value.decode()) for key, value in transaction.cursor()]
        return {0: settled(0, accounts, lines)}


class LmdbWritemap(Lmdb):
    name = "lmdb-writemap"
    writemap = True

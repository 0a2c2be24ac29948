"""MariaDB's InnoDB, with two clients."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.system.banks.bank import ACCOUNTS, PAUSE, Acknowledged, Bank, clients, filling, settled, transfer
from tests.system.test_workloads import run

SMALL = (
    "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M", "--aria-log-file-size=8M",
    "--innodb-undo-tablespaces=0",
)  # fmt: skip
SERVER = (
    *SMALL, "--skip-networking", "--skip-grant-tables", "--skip-performance-schema",
    "--innodb-flush-log-at-trx-commit=1", "--innodb-max-dirty-pages-pct=5", "--innodb-io-capacity=400",
    "--aria-pagecache-buffer-size=4M", "--key-buffer-size=1M",
)  # fmt: skip
"""Small files, and pages that are written soon after the log."""

SCHEMA = (
    "create table account (c int, id int, balance int, filler varchar(500), primary key (c, id)) engine=innodb;"
    "create table ledger (c int, n int, giver int, filler varchar(2000), primary key (c, n), key (giver))"
    " engine=innodb;"
)


class MariaDb(Bank):
    name = "mariadb"
    clients = 2

    def missing(self) -> str:
        needed = ("mariadbd", "mariadb-install-db", "mariadb", "mariadb-check")
        return "" if all(shutil.which(tool) for tool in needed) else "mariadb-server is not installed"

    @property
    def _data(self) -> Path:
        return self.directory / "mysql"

    @contextlib.contextmanager
    def _server(self) -> Iterator[Path]:
        path = Path("/tmp") / f"bank-{os.getpid()}.sock"
        command = ["mariadbd", "--no-defaults", "--user=root", *SERVER, f"--datadir={self._data}", f"--socket={path}"]
        with open(f"{path}.log", "ab") as log:
            server = subprocess.Popen([*command, f"--pid-file={self._data}/pid"], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 600
            while self._ask(path, "select 1", "mysql", check=False) != "1":
                assert server.poll() is None and time.monotonic() < deadline, "mariadbd did not start"
                time.sleep(0.3)
            yield path
        finally:
            server.kill()
            server.wait()
            path.unlink(missing_ok=True)

    @staticmethod
    def _client(path: Path, database: str) -> list[str]:
        return ["mariadb", "--no-defaults", f"--socket={path}", "-uroot", "-N", "-B", "--unbuffered", database]

    def _ask(self, path: Path, question: str, database: str = "bank", check: bool = True) -> str:
        done = subprocess.run(
            self._client(path, database), input=question, capture_output=True, text=True, check=False, timeout=300
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def prepare(self) -> None:
        options = ["--no-defaults", "--user=root", f"--datadir={self._data}", "--skip-test-db", *SMALL]
        run("mariadb-install-db", *options, "--auth-root-authentication-method=normal", timeout=900)
        with self._server() as path:
            self._ask(path, "create database bank", "mysql")
            rows = ",".join(f"({c},{a},1000,'{filling(a)}')" for c in range(self.clients) for a in range(ACCOUNTS))
            self._ask(path, f"{SCHEMA} insert into account values {rows};")

    def serve(self, acknowledged: Acknowledged, stop: threading.Event) -> None:
        with self._server() as path:

            def work(client: int, stop: threading.Event) -> None:
                command = self._client(path, "bank")
                with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
                    assert shell.stdin is not None and shell.stdout is not None
                    number = 0
                    while not stop.wait(PAUSE):
                        number += 1
                        t = transfer(client, number)
                        shell.stdin.write(
                            "begin;"
                            f"update account set balance=balance-{t.amount} where c={client} and id={t.giver};"
                            f"update account set balance=balance+{t.amount} where c={client} and id={t.taker};"
                            f"insert into ledger values ({client},{number},{t.giver},'{t.filler}');"
                            f"commit; select {number};\n"
                        )
                        shell.stdin.flush()
                        assert shell.stdout.readline() == f"{number}\n"
                        acknowledged.add(client, number)
                    shell.stdin.close()

            clients(self.clients, work, stop)

    def judge(self) -> dict[int, int]:
        with self._server() as path:
            result = {}
            for client in range(self.clients):
                found = self._ask(path, f"select id, balance from account where c={client}").splitlines()
                lines = self._ask(path, f"select n, filler from ledger where c={client} order by n").splitlines()
                accounts = {int(a): int(b) for a, b in (line.split("\t") for line in found)}
                ledger = [(int(n), filler) for n, filler in (line.split("\t") for line in lines)]
                result[client] = settled(client, accounts, ledger)
            options = ["--no-defaults", f"--socket={path}", "-uroot", "--check", "--extended", "--all-databases"]
            said = run("mariadb-check", *options, timeout=600)
        wrong = [line for line in said.splitlines() if not line.rstrip().endswith("OK")]
        assert not wrong, wrong
        return result

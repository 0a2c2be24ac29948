"""What all banks share: the transactions, which are known beforehand, and how far a copy has come."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ACCOUNTS = 200
"""Of each client. With a filler of a few hundred bytes they lie on many pages."""

PAUSE = float(os.environ.get("LIVELIFT_BANK_PAUSE", "0.02"))
"""Seconds between two transactions of a client."""


class Transfer(NamedTuple):
    giver: int
    taker: int
    amount: int
    filler: str


def transfer(client: int, number: int) -> Transfer:
    rng = random.Random(f"{client}:{number}")
    giver, taker = rng.sample(range(ACCOUNTS), 2)
    return Transfer(giver, taker, rng.randrange(1, 100), f"{rng.getrandbits(64):016x}" * rng.randrange(1, 100))


def balances(client: int, count: int) -> dict[int, int]:
    """After the first ``count`` transactions."""
    result = dict.fromkeys(range(ACCOUNTS), 1000)
    for number in range(1, count + 1):
        t = transfer(client, number)
        result[t.giver] -= t.amount
        result[t.taker] += t.amount
    return result


def filling(account: int) -> str:
    return f"{account:08d}" * 40


class Acknowledged:
    """One line for each acknowledged transaction: client and number. The last that was begun may be one more."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def add(self, client: int, number: int) -> None:
        os.write(self._fd, b"%d %d\n" % (client, number))

    @staticmethod
    def read(path: Path) -> dict[int, int]:
        found: dict[int, int] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            client, number = map(int, line.split())
            found[client] = number
        return found


def settled(client: int, accounts: dict[int, int], ledger: list[tuple[int, str]]) -> int:
    """How many transactions; AssertionError if it is not exactly the first so many, whole."""
    numbers = [number for number, _ in ledger]
    assert numbers == list(range(1, len(numbers) + 1)), f"client {client}: the ledger has holes: {numbers[-20:]}"
    for number, filler in ledger[-200:]:
        assert filler == transfer(client, number).filler, f"client {client}: line {number} is not what was written"
    wrong = {a for a, amount in balances(client, len(numbers)).items() if accounts.get(a) != amount}
    assert not wrong, f"client {client}: {len(wrong)} balances are not those after {len(numbers)} transactions"
    return len(numbers)


class Bank:
    """``clients``: how many work at the same time."""

    name = ""
    clients = 1

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def missing(self) -> str:
        """Why it cannot be had here, or an empty string."""
        return ""

    def prepare(self) -> None:
        raise NotImplementedError

    def serve(self, acknowledged: Acknowledged, stop: threading.Event) -> None:
        raise NotImplementedError

    def judge(self) -> dict[int, int]:
        """On a copy: client -> number of transactions. AssertionError, or an error of the database: it is broken."""
        raise NotImplementedError


def clients(count: int, work: Callable[[int, threading.Event], None], stop: threading.Event) -> None:
    """Each in a thread; the first error ends all of them."""
    failures: list[BaseException] = []

    def body(client: int) -> None:
        try:
            work(client, stop)
        except BaseException as error:
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=body, args=(client,)) for client in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]

"""The new system stays reachable under the target's old addresses until the commit, beside those that moved to it
(policy take-source): else the source, and the operator, would lose it at the moment when they ask how it is. The
neighbours of those that moved are told whose they are now."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from livelift.errors import ProgramError
from livelift.facts import network
from livelift.facts.host import Host
from livelift.model.facts import Interface, ServerFacts
from livelift.platform.linux.announce import announce
from livelift.platform.linux.programs import run_program

log = logging.getLogger(__name__)

AGAIN: Final = 2.0
TRIES: Final = 60
"""The network of the new system may come up later than the agent, and may take off what it did not put there."""
TOLD: Final = 5
"""Times that a moved address is announced: the first ones may be lost while a switch's port comes up."""
Run = Callable[[list[str]], str]


def missing(before: ServerFacts, now: Iterable[Interface]) -> list[tuple[str, str]]:
    """(address with prefix, card): static ones of the target that no card has now, on the card of the same name."""
    cards = {nic.name: nic for nic in now}
    have = {address.partition("/")[0] for nic in cards.values() for address in nic.addresses}
    return [
        (address, nic.name)
        for nic in before.interfaces
        if nic.kind == "physical" and nic.name in cards
        for address in nic.static
        if address.partition("/")[0] not in have
    ]


def put(before: ServerFacts, host: Host, run: Run) -> list[str]:
    """What was added now."""
    added = []
    for address, card in missing(before, network.interfaces(host)):
        try:
            run(["ip", "address", "add", address, "dev", card])
        except ProgramError as error:
            log.warning("%s: %s", address, error)
        else:
            log.info("the target's address %s stays on %s until the commit", address, card)
            added.append(address)
    return added


class Telling:
    """Announces each of these addresses (with prefix length) a few times from when it is up."""

    def __init__(self, moved: Sequence[str], tell: Callable[[str, str], None] = announce) -> None:
        self._left = {address.partition("/")[0]: TOLD for address in moved}
        self._tell = tell

    def look(self, now: Iterable[Interface]) -> None:
        for nic in now:
            for address in (address.partition("/")[0] for address in nic.addresses if nic.up):
                if self._left.get(address):
                    self._left[address] -= 1
                    try:
                        self._tell(nic.name, address)
                    except ProgramError as error:
                        log.warning("%s", error)


def keep(before: ServerFacts, moved: Sequence[str], stop: threading.Event) -> None:
    """``moved``: addresses of the source that are this machine's now. For two minutes, as often as it takes; returns at
    once."""
    telling = Telling(moved)

    def work() -> None:
        host = Host()
        try:
            for _ in range(TRIES):
                put(before, host, lambda words: run_program(words, 5))
                telling.look(network.interfaces(host))
                if stop.wait(AGAIN):
                    return
        finally:
            host.close()

    threading.Thread(target=work, name="reach", daemon=True).start()

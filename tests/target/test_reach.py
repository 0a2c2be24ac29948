from __future__ import annotations

from livelift.errors import ProgramError
from livelift.facts.host import Host
from livelift.model.facts import Interface
from livelift.target import reach
from tests.machines import change, debian_target


def cards(*nics: tuple[str, tuple[str, ...]]) -> list[Interface]:
    return [Interface(name=name, addresses=addresses) for name, addresses in nics]


def test_what_moved_in_does_not_push_the_targets_own_out() -> None:
    before = debian_target()
    now = cards(("lo", ("127.0.0.1/8",)), ("enp0s3", ("192.0.2.10/24",)))
    assert reach.missing(before, now) == [("192.0.2.20/24", "enp0s3")]
    assert reach.missing(before, cards(("enp0s3", ("192.0.2.20/24", "192.0.2.10/24")))) == []
    assert reach.missing(before, cards(("enp0s3", ()), ("bond0", ("192.0.2.20/16",)))) == [], "under another card"


def test_what_was_never_there_or_comes_by_itself_is_left_alone() -> None:
    before = debian_target()
    dynamic = change(before, interfaces=tuple(change(nic, leased=nic.addresses) for nic in before.interfaces))
    assert reach.missing(dynamic, cards(("enp0s3", ()))) == []
    assert reach.missing(before, cards(("eth0", ()))) == []


def test_it_is_put_by_ip(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "sys/class/net/enp0s3").mkdir(parents=True)
    host = Host(str(tmp_path), lambda command: "" if command[0] == "ip" else None)
    ran: list[list[str]] = []

    def run(words: list[str]) -> str:
        ran.append(words)
        return ""

    assert reach.put(debian_target(), host, run) == ["192.0.2.20/24"]
    assert ran == [["ip", "address", "add", "192.0.2.20/24", "dev", "enp0s3"]]
    host.close()


def test_the_neighbours_of_what_moved_are_told_once_it_is_up() -> None:
    told: list[tuple[str, str]] = []

    def tell(card: str, address: str) -> None:
        told.append((card, address))
        raise ProgramError("nobody hears it")

    telling = reach.Telling(["192.0.2.10/24", "192.0.2.11/24"], tell)
    addresses = ("192.0.2.20/24", "192.0.2.10/24")
    telling.look([Interface(name="enp0s3", addresses=addresses, up=False)])
    assert told == []
    for _ in range(reach.TOLD + 2):
        telling.look([Interface(name="enp0s3", addresses=addresses, up=True)])
    assert told == [("enp0s3", "192.0.2.10")] * reach.TOLD

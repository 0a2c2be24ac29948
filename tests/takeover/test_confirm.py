"""What the new system has to show, from what its programs say; and what is expected of it, from a system as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from livelift.facts.host import Host
from livelift.model.facts import Interface, Route
from livelift.takeover import confirm
from livelift.takeover.records import Confirm
from tests.facts.tree import plant, programs

UNITS = """\
  nginx.service loaded active running A web server
  postgresql.service loaded active exited PostgreSQL RDBMS
● mdmonitor.service loaded failed failed MD array monitor
● certbot.service not-found inactive dead certbot.service
  mnt-data.mount loaded failed failed /mnt/data
  late.service loaded activating start-pre Late
  getty@tty1.service loaded active running Getty on tty1
  user@0.service loaded active running User Manager for UID 0
  ssh.socket loaded active listening OpenBSD Secure Shell server socket
"""
UP = Interface(name="eth0", up=True, addresses=("192.0.2.1/24", "fe80::1/64"))


def test_services() -> None:
    states = confirm.parse_all_units(UNITS)
    assert confirm.missing_services(states, ("nginx.service", "postgresql.service", "ssh.socket")) == []
    assert confirm.missing_services(states, ("late.service", "certbot.service", "mdmonitor.service")) == [
        "late.service is start-pre",
        "certbot.service is not running",
        "mdmonitor.service is failed",
    ]
    assert confirm.newly_failed(states, ()) == ["mdmonitor.service has failed", "mnt-data.mount has failed"]
    assert confirm.newly_failed(states, ("mdmonitor.service", "mnt-data.mount")) == []
    assert confirm.newly_failed({confirm.UNIT: "failed"}, ()) == [], "it is what is looking"


def test_what_is_expected_of_it() -> None:
    running, failed = confirm.expected(UNITS)
    assert running == ("nginx.service",) and failed == ("mdmonitor.service", "mnt-data.mount")


@pytest.mark.parametrize(
    ("interfaces", "addresses", "missing"),
    [
        ((UP,), (), 0),
        ((UP,), ("192.0.2.1",), 0),
        ((UP,), ("192.0.2.1/24", "192.0.2.9"), 1),
        ((), (), 1),
        ((Interface(name="eth0", up=True, addresses=("fe80::1/64", "169.254.3.4/16")),), (), 1),
        ((Interface(name="eth0", up=False, addresses=("192.0.2.1/24",)),), (), 1),
        ((Interface(name="lo", kind="loopback", up=True, addresses=("127.0.0.1/8",)),), (), 1),
    ],
)
def test_addresses(interfaces: tuple[Interface, ...], addresses: tuple[str, ...], missing: int) -> None:
    assert len(confirm.missing_addresses(interfaces, addresses)) == missing


def test_the_route() -> None:
    assert confirm.missing_route((), False) == [] == confirm.missing_route((Route(destination="default"),), True)
    assert len(confirm.missing_route((Route(destination="192.0.2.0/24"),), True)) == 1


def test_all_of_it_on_a_machine(tmp_path: Path) -> None:
    answers = {
        "systemctl list-units": UNITS,
        "systemctl show --property=SystemState": "starting\n",
        "ip -j": "[]",
        "ip -6 -j": "[]",
    }
    host = Host(str(plant(tmp_path, {"/sys/class/net": None})), programs(answers))
    try:
        missing = confirm.look(host, Confirm(("nginx.service", "late.service"), ("mnt-data.mount",), (), True))
        assert missing == [
            "no network card has an address",
            "there is no default route",
            "the system is still starting",
            "late.service is start-pre",
            "mdmonitor.service has failed",
        ]
        assert confirm.look_at_network(host, Confirm(route=True)) == missing[:2]
    finally:
        host.close()


def test_the_unit() -> None:
    text = confirm.unit_text("/.livelift/livelift-agent")
    assert "ExecStart=/bin/sh /.livelift/livelift-agent takeover confirm" in text
    assert "Environment=LIVELIFT_CACHE=/.livelift/cache\n" in text and "WantedBy=multi-user.target" in text

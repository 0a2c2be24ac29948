"""Addresses in a network namespace of the test's own: real interfaces, real routes, nothing of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from livelift.cutover.addresses import Held, address_words, check_path, is_here, look, put_back, route_words, take_off
from livelift.errors import PreflightError, ProgramError

SPACE = f"livelift-test-{os.getpid()}"


def ip(*words: str) -> str:
    done = subprocess.run(["ip", "-n", SPACE, *words], capture_output=True, text=True)
    if done.returncode:
        raise ProgramError(f"ip {' '.join(words)}: {done.stderr}")
    return done.stdout


def state() -> tuple[object, object]:
    """Everything that ip shows, but for what counts down, the order, and the kernel's own table."""
    addresses = json.loads(ip("-j", "address", "show", "dev", "svc"))[0]["addr_info"]
    routes = [json.loads(ip("-j", family, "route", "show", "table", "all")) for family in ("-4", "-6")]
    keep = [{k: v for k, v in a.items() if not k.endswith("life_time") and k != "secondary"} for a in addresses]
    own = [[r for r in family if r.get("table") != "local"] for family in routes]
    return sorted(map(str, keep)), [sorted(map(str, family)) for family in own]


@pytest.fixture
def space() -> Iterator[None]:
    if not shutil.which("ip"):
        pytest.skip("needs ip(8)")
    subprocess.run(["ip", "netns", "add", SPACE], check=True)
    try:
        for name in ("svc", "mgmt"):
            ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-peer")
            # The kernel's own address would come, and pass its duplicate detection, in the middle of a test.
            ip("link", "set", name, "addrgenmode", "none")
            ip("link", "set", f"{name}-peer", "up")
            ip("link", "set", name, "up")
        for address in ("192.0.2.7/24", "192.0.2.8/24", "2001:db8::7/64", "203.0.113.1/32"):
            words = ["nodad"] if ":" in address else []
            ip("address", "add", address, "dev", "svc", *words)
        ip("address", "add", "198.51.100.5/24", "dev", "mgmt")
        ip("route", "add", "default", "via", "192.0.2.1", "dev", "svc")
        ip("route", "add", "10.9.0.0/16", "via", "192.0.2.254", "dev", "svc", "src", "192.0.2.7", "metric", "50")
        ip("route", "add", "10.8.0.0/16", "via", "192.0.2.254", "dev", "svc", "table", "77")
        ip("-6", "route", "add", "default", "via", "2001:db8::1", "dev", "svc")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", SPACE], check=True)


def moves(*addresses: str) -> list[dict[str, str]]:
    return [{"address": a, "interface": "svc"} for a in addresses]


def there() -> set[str]:
    shown = json.loads(ip("-j", "address", "show", "dev", "svc"))[0]["addr_info"]
    return {f"{a['local']}/{a['prefixlen']}" for a in shown if a["scope"] != "link"}


@pytest.mark.root
def test_the_primary_goes_and_its_neighbours_stay(space):
    before = state()
    held = look(moves("192.0.2.7/24", "2001:db8::7/64"), ip)
    take_off(held, ip)
    assert there() == {"192.0.2.8/24", "203.0.113.1/32"}
    default = json.loads(ip("-j", "route", "show", "default"))
    assert [r["gateway"] for r in default] == ["192.0.2.1"], "the gateway can be reached from the address that stays"
    assert not json.loads(ip("-j", "route", "show", "10.9.0.0/16")), "its source address is gone"
    assert json.loads(ip("-j", "route", "show", "table", "77"))
    take_off(held, ip)  # once more: nothing left to do
    put_back(held, ip)
    assert state() == before
    put_back(held, ip)
    assert state() == before


@pytest.mark.root
def test_all_of_them_go_and_come_back_with_every_route(space):
    before = state()
    held = look(moves("192.0.2.7/24", "192.0.2.8/24", "2001:db8::7/64", "203.0.113.1/32"), ip)
    take_off(held, ip)
    assert there() == set()
    assert not json.loads(ip("-j", "route", "show", "default"))
    put_back(held, ip)
    assert state() == before


@pytest.mark.root
def test_an_address_that_is_not_there_is_no_trouble_and_an_interface_is(space):
    assert look(moves("192.0.2.99/24"), ip) == ()
    with pytest.raises(ProgramError, match="nic9"):
        look([{"address": "192.0.2.7/24", "interface": "nic9"}], ip)


@pytest.mark.root
def test_the_way_to_the_target_never_goes(space):
    first = look(moves("192.0.2.7/24"), ip)
    check_path(first, "198.51.100.77", ip)  # over the other interface
    with pytest.raises(PreflightError, match=r"192\.0\.2\.7 moves to the target, but the source reaches the target"):
        check_path(first, "192.0.2.50", ip)
    with pytest.raises(PreflightError, match=r"192\.0\.2\.7 moves"):
        check_path(first, "203.0.114.9", ip)  # by the default gateway
    second = look(moves("192.0.2.8/24"), ip)
    check_path(second, "192.0.2.50", ip)
    check_path(second, "203.0.114.9", ip)


def test_the_subnet_of_the_gateway_may_not_go_either():
    """The source address is chosen by the route (src), but its subnet's route goes with the other address."""
    shown = {"family": "inet", "prefixlen": 24, "scope": "global"}
    held = Held("svc", ("192.0.2.7/24",), ({**shown, "local": "192.0.2.7"}, {**shown, "local": "10.0.0.1"}), ())
    told = json.dumps([{"dst": "203.0.113.9", "gateway": "192.0.2.1", "dev": "svc", "prefsrc": "10.0.0.1"}])
    with pytest.raises(PreflightError, match=r"by 192\.0\.2\.1\) goes with 192\.0\.2\.7/24"):
        check_path([held], "203.0.113.9", lambda *_: told)


def test_what_goes_wrong_with_one_does_not_stop_the_others():
    done: list[tuple[str, ...]] = []
    told: list[str] = []

    def run(*words: str) -> str:
        done.append(words)
        if "add" in words and "192.0.2.7/24" in words:
            raise ProgramError("no")
        return "[]"

    shown = [{"family": "inet", "local": f"192.0.2.{n}", "prefixlen": 24, "scope": "global"} for n in (7, 8)]
    with pytest.raises(ProgramError, match="no"):
        put_back([Held("svc", (), tuple(shown), ())], run, lambda card, address: told.append(address))
    assert ("address", "add", "192.0.2.8/24", "dev", "svc", "scope", "global") in done
    assert told == ["192.0.2.8"], "the neighbours hear of what is back"


def test_words():
    shown = {"local": "192.0.2.7", "prefixlen": 24, "broadcast": "192.0.2.255", "label": "svc:1", "scope": "global",
             "valid_life_time": 3000, "preferred_life_time": 2000, "noprefixroute": True}  # fmt: skip
    assert " ".join(address_words(shown, "svc")) == (
        "address add 192.0.2.7/24 dev svc broadcast 192.0.2.255 label svc:1 scope global "
        "valid_lft 3000 preferred_lft 2000 noprefixroute"
    )
    route = {"family": "-6", "dst": "default", "gateway": "fe80::1", "protocol": "ra", "metric": 100, "table": "9",
             "flags": ["onlink"]}  # fmt: skip
    assert " ".join(route_words(route, "svc")) == (
        "-6 route replace default via fe80::1 dev svc proto ra metric 100 table 9 onlink"
    )


def test_whether_an_address_is_here():
    assert is_here("127.0.0.1/8")
    assert is_here("::1")
    assert not is_here("192.0.2.199/24")
    assert not is_here("2001:db8::199/64")

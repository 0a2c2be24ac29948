"""Addresses that move with the server: taken off the source's interface at the hand-over, put back with their routes.

What ip(8) shows before is kept as it is shown; putting back compares with what is there then, so it may be done again.
Taking an address off takes more with it: secondary addresses of its subnet (unless promote_secondaries is set), and
the routes that need it; what is not to move is put back at once.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import logging
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec

from livelift.errors import PreflightError, ProgramError
from livelift.platform.linux.announce import announce
from livelift.platform.linux.programs import run_program

log = logging.getLogger(__name__)

SECONDS: Final = 15.0
"""Of one call: right after everything was let go the machine is busy with that."""
FOREVER: Final = 4294967295
"""valid_life_time of a static address as ip -json shows it."""
SECOND: Final = (
    "give the source a second address in that subnet, with an end, for those without one move too (ip address add "
    "ADDRESS/LENGTH dev CARD valid_lft 604800 preferred_lft 604800), and let it reach the target by that (ip route "
    "replace TARGET dev CARD src ADDRESS)"
)
Ip = Callable[..., str]
Shown = dict[str, Any]


class Held(msgspec.Struct, frozen=True):
    """One interface. ``moves``: addresses with prefix length. ``addresses``, ``routes``: as ip -json showed them."""

    interface: str
    moves: tuple[str, ...]
    addresses: tuple[Shown, ...]
    routes: tuple[Shown, ...]


def ip(*words: str) -> str:
    return run_program(["ip", *words], SECONDS)


def look(moves: Sequence[dict[str, str]], run: Ip = ip) -> tuple[Held, ...]:
    """``moves``: the target's answer, ``{"address": "192.0.2.7/24", "interface": "eth0"}`` each. An address that is not
    there (any more) is left out; ProgramError: an interface that does not exist."""
    wanted: dict[str, list[str]] = {}
    for move in moves:
        wanted.setdefault(move["interface"], []).append(move["address"])
    found = []
    for interface, addresses in wanted.items():
        shown = shown_addresses(interface, run)
        there = tuple(a for a in addresses if _same(a, shown))
        if there:
            found.append(Held(interface, there, tuple(shown), tuple(shown_routes(interface, run))))
    return tuple(found)


def check_path(held: Sequence[Held], target: str, run: Ip = ip) -> None:
    """PreflightError: without the addresses that move the source could not reach the target any more: it would never
    learn what became of it. ``target``: its address, no name."""
    (route,) = json.loads(run("-j", "route", "get", target))
    own, hop = route.get("prefsrc", ""), ipaddress.ip_address(route.get("gateway", route["dst"]))
    for one in held:
        gone = {a.partition("/")[0] for a in one.moves}
        if own in gone:
            raise PreflightError(
                f"{own} moves to the target, but the source reaches the target ({target}) from it",
                remedy=f"{SECOND}; or reach the target over another network (livelift source "
                "OTHER-TARGET-ADDRESS:PORT); or move the address another way (keep-target)",
            )
        if route.get("dev") != one.interface:
            continue
        left = [a for a in one.addresses if a["local"] not in gone and _family(a) == hop.version]
        if not any(hop in ipaddress.ip_network(f"{a['local']}/{a['prefixlen']}", strict=False) for a in left):
            raise PreflightError(
                f"the way from the source to the target ({target}, by {hop}) goes with {', '.join(one.moves)}",
                remedy=f"{SECOND}; or another way to the target",
            )


def is_here(address: str) -> bool:
    """Whether this machine has the address (with or without a prefix length): whether it can be bound. With the sysctl
    ip_nonlocal_bind everything can: then it is true always."""
    local = address.partition("/")[0]
    family = socket.AF_INET6 if ":" in local else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((local, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def take_off(held: Sequence[Held], run: Ip = ip) -> None:
    """ProgramError: one could not be taken off; the others are."""
    errors: list[ProgramError] = []
    for one in held:
        for address in one.moves:
            if _same(address, shown_addresses(one.interface, run)):
                _try(errors, run, "address", "del", address, "dev", one.interface)
        _put(one, errors, run, leave=one.moves)
    if errors:
        raise errors[0]


def put_back(held: Sequence[Held], run: Ip = ip, tell: Callable[[str, str], None] = announce) -> None:
    """Every address and every route that is missing, and the neighbours are told (`tell`). ProgramError: the first that
    could not be put back; the others are."""
    errors: list[ProgramError] = []
    for one in held:
        for address in _put(one, errors, run, leave=()):
            try:
                tell(one.interface, address)
            except ProgramError as error:  # they find out by themselves, later
                log.warning("%s", error)
    if errors:
        raise errors[0]


def _put(one: Held, errors: list[ProgramError], run: Ip, leave: Collection[str]) -> list[str]:
    """The addresses that were missing."""
    gone, added = {a.partition("/")[0] for a in leave}, []
    now = shown_addresses(one.interface, run)
    for shown in one.addresses:
        if shown["local"] in gone or _same(f"{shown['local']}/{shown['prefixlen']}", now):
            continue
        if _try(errors, run, *address_words(shown, one.interface)):
            added.append(shown["local"])
    there = [_key(route) for route in shown_routes(one.interface, run)]
    for route in sorted(one.routes, key=lambda r: "gateway" in r):  # a gateway needs its subnet's route
        if _key(route) in there or route.get("prefsrc") in gone:
            continue
        if leave and "gateway" in route and not _reachable(route, one, gone):
            continue
        _try(errors, run, *route_words(route, one.interface))
    return added


def shown_addresses(interface: str, run: Ip = ip) -> list[Shown]:
    """Those that are configuration: link-local ones are the kernel's own."""
    shown: list[Shown] = json.loads(run("-j", "address", "show", "dev", interface))
    return [a for entry in shown for a in entry.get("addr_info", ()) if a.get("scope") != "link" and "local" in a]


def shown_routes(interface: str, run: Ip = ip) -> list[Shown]:
    """Of both families and all tables but local, which the kernel keeps."""
    found: list[Shown] = []
    for family in ("-4", "-6"):
        shown = json.loads(run("-j", family, "route", "show", "table", "all", "dev", interface) or "[]")
        for route in shown:
            ordinary = route.get("table") != "local" and route.get("type", "unicast") == "unicast"
            if ordinary and not str(route["dst"]).startswith(("fe80:", "ff")):
                found.append({**route, "family": family})
    return found


def address_words(shown: Shown, interface: str) -> list[str]:
    words = ["address", "add", f"{shown['local']}/{shown['prefixlen']}", "dev", interface]
    for key in ("broadcast", "label", "scope"):
        if shown.get(key) and not (key == "label" and shown[key] == interface):
            words += [key, str(shown[key])]
    if shown.get("valid_life_time", FOREVER) != FOREVER:
        words += ["valid_lft", str(shown["valid_life_time"]), "preferred_lft", str(shown["preferred_life_time"])]
    words += [flag for flag in ("noprefixroute", "home", "nodad") if shown.get(flag)]
    return words


def route_words(shown: Shown, interface: str) -> list[str]:
    words = [shown["family"], "route", "replace", str(shown["dst"])]
    words += ["via", str(shown["gateway"])] if "gateway" in shown else []
    words += ["dev", interface]
    for key, word in (("protocol", "proto"), ("scope", "scope"), ("prefsrc", "src"), ("metric", "metric")):
        if key in shown:
            words += [word, str(shown[key])]
    words += ["table", str(shown["table"])] if "table" in shown else []
    return words + (["onlink"] if "onlink" in shown.get("flags", ()) else [])


def _key(route: Shown) -> tuple[object, ...]:
    return tuple(route.get(key) for key in ("family", "dst", "gateway", "table", "metric", "prefsrc"))


def _reachable(route: Shown, one: Held, gone: Collection[str]) -> bool:
    """Whether its gateway is in a subnet of an address that stays (or it says onlink)."""
    hop = ipaddress.ip_address(route["gateway"])
    left = [a for a in one.addresses if a["local"] not in gone and _family(a) == hop.version]
    nets = [ipaddress.ip_network(f"{a['local']}/{a['prefixlen']}", strict=False) for a in left]
    return "onlink" in route.get("flags", ()) or any(hop in net for net in nets)


def _same(address: str, shown: Sequence[Shown]) -> bool:
    local, _, length = address.partition("/")
    return any(a["local"] == local and str(a["prefixlen"]) == length for a in shown)


def _family(shown: Shown) -> int:
    return 6 if shown.get("family") == "inet6" else 4


def _try(errors: list[ProgramError], run: Ip, *words: str) -> bool:
    try:
        run(*words)
    except ProgramError as error:
        errors.append(error)
        return False
    return True

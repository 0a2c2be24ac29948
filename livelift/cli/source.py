"""livelift source"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from livelift.checks.findings import Findings
from livelift.cli.common import (
    add_state,
    add_verb,
    host_port,
    on_signals,
    parse_maps,
    print_json,
    raise_limits,
    set_up_logging,
    size,
    tune_interpreter,
)
from livelift.cli.wiring import Whereabouts, make_cutover
from livelift.control.lock import sole
from livelift.cutover.fence import account, give_back
from livelift.errors import UsageError
from livelift.identity import ca
from livelift.identity.pairing import pair
from livelift.identity.trust import Trust
from livelift.model.job import Map
from livelift.platform.linux.cgroups import cgroup_of_unit
from livelift.source.agent import SourceAgent
from livelift.source.checks import preflight
from livelift.source.config import FILE, SourceConfig, load
from livelift.source.journal import set_aside
from livelift.source.server import check_lines, facts_of, leave_out
from livelift.source.service import SourceService
from livelift.transport.channel import Options
from livelift.transport.client import connect
from livelift.transport.limiter import Limiter, parse_schedule

log = logging.getLogger(__name__)

TEXT = """Run the source agent: walk the mapped trees, capture every change, keep the target's replica identical.

The first start pairs with the target (--pair CODE HOST:PORT, code from "livelift target"); a later start in the same
state directory goes on with that job without a new full copy. Options given then replace those of the job; the mapping
stays. --pair CODE in a job's state directory renews its certificates.

examples:
  livelift source --pair K3M9X-7QWTP new-server:4777 --map /srv=/srv
  livelift source --pair ... --map /var/lib/postgresql=/var/lib/postgresql --fence-unit postgresql@15-main
  livelift source --bandwidth 08:00-18:00=20M,100M      # 20 MB/s in office hours, else 100 MB/s
  livelift source --resync                              # after "corrupt: segment ..." """

TUNABLE = {
    "capture": "capture",
    "readers": "readers",
    "lanes": "lanes",
    "bandwidth": "bandwidth",
    "spool_cap": "spool_cap",
    "memory": "spool_memory",
    "pressure_limit": "pressure_limit",
    "cpu_limit": "cpu_limit",
    "idle_priority": "idle_priority",
    "ntfs_target": "ntfs_target",
}
"""Option to field of `SourceConfig`, which has the default. None: not given, so it stays as it is."""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "source", "run the source agent (on the machine that moves)", TEXT, run)
    parser.add_argument(
        "--pair",
        metavar="CODE",
        help="the target's pairing code (first start, or to renew certificates); -: read it from standard input",
    )
    parser.add_argument("--pair-only", action="store_true", help="make the job or renew its certificates, then end")
    parser.add_argument(
        "address", nargs="?", metavar="HOST:PORT", help="the target (first start, or when it has moved)"
    )
    parser.add_argument(
        "--map", action="append", default=[], metavar="SOURCE=TARGET", help="source directory = target directory"
    )
    parser.add_argument(
        "--server", action="store_true", help="the whole system moves; without --map the target says what goes where"
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="leave out (as rsync's --exclude)"
    )
    parser.add_argument("--include", action="append", default=[], metavar="PATTERN", help="take back from an exclusion")
    parser.add_argument(
        "--capture",
        metavar="MODE",
        help="auto, fanotify, inotify; ebpf and ebpf-syscall only when named (default auto: the best that works)",
    )
    parser.add_argument(
        "--fence-cgroup", action="append", default=[], metavar="DIR", help="cgroup that the cutover freezes"
    )
    parser.add_argument(
        "--fence-unit", action="append", default=[], metavar="UNIT", help="systemd unit that the cutover freezes"
    )
    parser.add_argument(
        "--stop-unit", action="append", default=[], metavar="UNIT", help="systemd unit that the cutover stops"
    )
    parser.add_argument(
        "--hooks", metavar="DIR", help="directory of the cutover's hooks here (default /etc/livelift/hooks.d)"
    )
    parser.add_argument(
        "--readers",
        type=int,
        metavar="N",
        choices=range(1, 65),
        help="threads that read cold small files (default 8)",
    )
    parser.add_argument(
        "--lanes", type=int, metavar="N", choices=range(1, 33), help="TLS connections for data (default 2)"
    )
    parser.add_argument(
        "--bandwidth", metavar="RATE|SCHEDULE", help="bytes/s, e.g. 20M or 08:00-18:00=5M,50M; off: no limit"
    )
    parser.add_argument(
        "--spool-cap", type=size, metavar="SIZE", help="disk for the change log (default 1G)"
    )
    parser.add_argument(
        "--memory", type=size, metavar="SIZE", help="memory for content in flight (default 64M)"
    )
    parser.add_argument(
        "--pressure-limit",
        type=float,
        metavar="PERCENT",
        help="read slower while tasks stall more than this (PSI, 10 s average)",
    )
    parser.add_argument("--cpu-limit", type=float, metavar="PERCENT", help="of one core, for reading")
    parser.add_argument(
        "--idle-priority", action=argparse.BooleanOptionalAction, help="lowest CPU and I/O priority (default on)"
    )
    parser.add_argument(
        "--ntfs-target",
        action=argparse.BooleanOptionalAction,
        help="from Windows: the target volumes are NTFS, mounted by ntfs-3g (default off)",
    )
    parser.add_argument(
        "--resync", action="store_true", help="set a damaged log aside, keep the replica, compare everything again"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="preflight only: what would be moved, how, and what stands in the way"
    )
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="ID", help="go on in spite of this preflight inhibitor"
    )
    parser.add_argument("--verbose", "-v", action="store_true")
    add_state(parser, "/var/lib/livelift/source")


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def run(options: argparse.Namespace) -> int:
    set_up_logging(options.verbose)
    raise_limits()
    tune_interpreter()
    directory = os.fsencode(os.path.abspath(options.state))
    if options.dry_run:
        return _dry_run(options, directory)
    if os.path.exists(os.path.join(directory, b"job.json")):
        raise UsageError(f"{options.state} is the state directory of a target agent", remedy="give another --state")
    if options.pair == "-":  # arguments are seen by every user of the machine
        options.pair = sys.stdin.readline().strip()
    parse_schedule(options.bandwidth or "")  # what is wrong with it is better said before anything is made
    if os.path.exists(os.path.join(directory, os.fsencode(FILE))):
        with sole(directory):
            return _begin(options, _again(options, directory))
    new = _new_job(options, directory)
    with sole(directory):
        grant = pair(new.host, new.port, options.pair, "source", _identity(directory))
        config = msgspec.structs.replace(new, job=grant.peer.job)
        if not config.maps:
            config = _with_lines(config, grant.maps)
        config.save()
        return _begin(options, config)


def _begin(options: argparse.Namespace, config: SourceConfig) -> int:
    if not options.pair_only:
        return _serve(options, config)
    print_json({"event": "paired", "job": config.job}) if options.json else print(f"job {config.job}: paired")
    return 0


def _dry_run(options: argparse.Namespace, directory: bytes) -> int:
    maps = parse_maps(options.map, options.exclude, options.include)
    server = options.server
    if not maps:
        known = load(directory)
        maps, server = known.maps, known.server
    findings = _preflight(SourceConfig(directory, "", "", 0, maps, server=server), options, options.capture or "auto")
    print_json(findings.to_dict()) if options.json else print(findings.to_text())
    return findings.exit_code


def _identity(directory: bytes) -> Path:
    return Path(os.fsdecode(directory)) / "identity"


def _serve(options: argparse.Namespace, config: SourceConfig) -> int:
    trust = Trust(_identity(config.directory), now)
    limiter = Limiter(parse_schedule(config.bandwidth), time.monotonic, _second) if config.bandwidth else None
    channel_options = Options(limiter=limiter)
    whereabouts = Whereabouts(config)
    agent = SourceAgent(
        config,
        lambda: connect(whereabouts.next(), config.port, trust, config.lanes, channel_options),
        lambda: give_back(config.directory, config.fence),
    )
    agent.trust = trust
    service: SourceService | None = None
    on_signals(agent.stop)
    try:
        service = SourceService(agent, make_cutover, lambda: account(config.directory))
        agent.start()
        service.moving.start()
        if options.json:
            print_json({"event": "started", "job": config.job, "capture_mode": agent.choice.name})
        else:
            print(
                f"job {config.job}: capture by {agent.choice.name} ({agent.choice.promise}); {agent.choice.why}",
                flush=True,
            )
            for mode, why in agent.choice.rejected:
                print(f"  not {mode}: {why}", flush=True)
        while not agent.stop_event.wait(0.5):
            agent.check()
        agent.check()
    finally:
        if service is not None:
            service.close()
        agent.close()
    return 0


def _second() -> int:
    local = time.localtime()
    return local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec


def _new_job(options: argparse.Namespace, directory: bytes) -> SourceConfig:
    """Everything that can be told without the target is checked here: nothing has been made, no try is lost."""
    if not options.pair:
        return load(directory)  # raises: there is no job, and what to do about it
    if not options.address or not (options.map or options.server):
        raise UsageError(
            "--pair needs the target's HOST:PORT and at least one --map, or --server",
            remedy="livelift source --pair CODE HOST:PORT --map /srv=/srv",
        )
    maps = parse_maps(options.map, options.exclude, options.include)
    host, port = host_port(options.address, 4777)
    config = SourceConfig(directory, "", host, port, maps, ignored=tuple(options.ignore), server=options.server)
    config = msgspec.structs.replace(config, **_given(options))
    if maps:
        config = _leaving_out(config)
        _preflight(config, options, config.capture).raise_inhibitors()
    return config


def _with_lines(config: SourceConfig, maps: tuple[Map, ...]) -> SourceConfig:
    """A server job with the lines that the target has told. A line whose directory is not here stands in the way."""
    if not maps:
        raise UsageError(
            "the target has told no lines: it serves no server job", remedy="there: livelift target --server"
        )
    config = _leaving_out(msgspec.structs.replace(config, maps=maps))
    more = check_lines(config.maps)
    preflight(
        config.maps, config.directory, config.capture, config.ignored, config.left, config.hollow, more
    ).raise_inhibitors()
    return config


def _leaving_out(config: SourceConfig) -> SourceConfig:
    if not config.server:
        return config
    left, hollow = leave_out(config.maps, facts_of())
    return msgspec.structs.replace(config, left=left, hollow=hollow)


def _preflight(config: SourceConfig, options: argparse.Namespace, capture: str) -> Findings:
    config = _leaving_out(config)
    more = check_lines(config.maps) if config.server else []
    return preflight(
        config.maps, config.directory, capture, tuple(options.ignore), config.left, config.hollow, more
    )


def _again(options: argparse.Namespace, directory: bytes) -> SourceConfig:
    """The job of this state directory, with what the command line says otherwise."""
    config = load(directory)
    if options.map and parse_maps(options.map, options.exclude, options.include) != config.maps:
        raise UsageError(
            f"{options.state} holds a job with another directory mapping or other exclusions",
            remedy="leave --map out to go on with that job, or give another --state, or: livelift remove",
        )
    if not options.map and (options.exclude or options.include):
        raise UsageError("the exclusions of a job cannot be changed", remedy="begin a new job with another --state")
    changed = _given(options)
    if options.address:
        changed["host"], changed["port"] = host_port(options.address, config.port)
    if options.ignore:
        changed["ignored"] = tuple(options.ignore)
    config = msgspec.structs.replace(config, **changed)
    if options.pair:
        _pair_again(options.pair, config)
    if changed:
        config.save()
    if options.resync:
        aside = set_aside(config.directory)
        if aside:
            log.warning("the log was set aside in %s; everything is compared again", os.fsdecode(aside))
    return config


def _given(options: argparse.Namespace) -> dict[str, Any]:
    given = {field: getattr(options, name) for name, field in TUNABLE.items() if getattr(options, name) is not None}
    fences = [os.fsencode(os.path.abspath(g)) for g in options.fence_cgroup]
    fences += [cgroup_of_unit(unit) for unit in options.fence_unit]
    if fences:
        given["fence"] = tuple(fences)
    if options.stop_unit:
        given["stop"] = tuple(options.stop_unit)
    if options.hooks:
        given["hooks"] = os.path.abspath(options.hooks)
    return given


def _pair_again(code: str, config: SourceConfig) -> None:
    """New certificates for the same job; those in use stay until the new ones are there."""
    identity = _identity(config.directory)
    fresh = identity.with_name("identity.new")
    try:
        peer = pair(config.host, config.port, code, "source", fresh).peer
        if peer.job != config.job:
            raise UsageError(
                f"the target serves job {peer.job}, this state directory holds job {config.job}",
                remedy="give the address of this job's target, or another --state for the new job",
            )
        for name in (ca.CA_CERTIFICATE, ca.LEAF):
            os.replace(fresh / name, identity / name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)

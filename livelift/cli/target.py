"""livelift target"""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from typing import Any

from livelift.adapt.linux.layout import layout
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
    tune_interpreter,
)
from livelift.control.lock import sole
from livelift.errors import UsageError
from livelift.hooks.hooks import DEFAULT
from livelift.model.facts import ServerFacts
from livelift.model.job import Map
from livelift.target.agent import TargetAgent, check_new
from livelift.target.server import facts_of, make_places

TEXT = """Run the target agent: receive one source's trees, store them where the map says, replay its changes.

The first start makes the job and prints a one-time pairing code (valid 15 minutes, 5 tries); a later start in the
same state directory goes on with that job. The directories after "=" must exist and belong to nobody else.

examples:
  livelift target --listen 0.0.0.0:4777 --map /srv=/srv --map /home=/data/home
  ./livelift-agent target --server --install              # a whole server, without ssh between the two"""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "target", "run the target agent (on the new machine)", TEXT, run)
    parser.add_argument(
        "--listen", metavar="HOST:PORT", default="0.0.0.0:4777", help="address to listen on (default %(default)s)"
    )
    parser.add_argument(
        "--map", action="append", default=[], metavar="SOURCE=TARGET", help="source directory = target directory"
    )
    parser.add_argument(
        "--server",
        action="store_true",
        help="a whole system is to move here; without --map every disk file system takes part",
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="DIR", help="with --server: this file system takes no part"
    )
    parser.add_argument(
        "--install",
        action="store_true",
        help="with --server: put the agent file and a unit in their places, start that, print the pairing code",
    )
    parser.add_argument("--new-code", action="store_true", help="make a new pairing code for an existing job")
    parser.add_argument(
        "--code-file", metavar="FILE", help="write the pairing code there (mode 0600) and do not print it"
    )
    parser.add_argument(
        "--hooks", metavar="DIR", default=DEFAULT, help="directory of the cutover's hooks here (default %(default)s)"
    )
    parser.add_argument("--verbose", "-v", action="store_true")
    add_state(parser, "/var/lib/livelift/target")


def run(options: argparse.Namespace) -> int:
    set_up_logging(options.verbose)
    raise_limits()
    tune_interpreter()
    host, port = host_port(options.listen, 4777)
    if options.install:
        return _install(options, port)
    maps = parse_maps(options.map, [], [])
    directory = os.fsencode(os.path.abspath(options.state))
    if options.server and not maps and not os.path.exists(os.path.join(directory, b"job.json")):
        maps = lines_here(options.without)
    if options.server:
        make_places(maps)
    check_new(directory, maps)
    with sole(directory):
        agent = TargetAgent(directory, maps, options.new_code, options.server, options.hooks)
        return _serve(options, agent, host, port)


def _install(options: argparse.Namespace, port: int) -> int:
    if not options.server:
        raise UsageError("--install is for a whole server", remedy="livelift target --server --install")
    from livelift.bootstrap.here import install_target  # here: an agent that only runs starts sooner without them
    from livelift.cli.migrate import agent_file

    words = [f"--listen={options.listen}", *(f"--map={line}" for line in options.map)]
    told = install_target(agent_file(None), [*words, *(f"--without={name}" for name in options.without)])
    if options.json:
        print_json({"event": "pairing", "code": told["code"], "port": port, "job": told["status"]["job"]})
    elif told["code"]:
        print(f"pairing code: {told['code']}")
        print(f"on the source run: livelift source --server --pair {told['code']} THIS-HOST:{port}")
    else:
        print("the agent runs, and is paired")
    return 0


def lines_here(without: list[str]) -> tuple[Map, ...]:
    """The lines of a server job, by this machine's facts. PreflightError: a file system that cannot take part."""
    found = layout(ServerFacts(), facts_of(), without=without)
    Findings(found.findings).raise_inhibitors()
    return found.maps


def _serve(options: argparse.Namespace, agent: TargetAgent, host: str, port: int) -> int:
    on_signals(agent.stop)
    try:
        port = agent.start(host, port)
        if options.code_file:
            _write_code(options.code_file, agent.desk.code if agent.desk is not None else "")
        if agent.desk is not None and not options.code_file:
            if options.json:
                print_json({"event": "pairing", "code": agent.desk.code, "port": port, "job": agent.job_id})
            else:
                print(
                    f"job {agent.job_id}, listening on {host}:{port}\npairing code: {agent.desk.code}\n"
                    f"on the source run: livelift source --pair {agent.desk.code} THIS-HOST:{port} "
                    + ("--server" if agent.server else _shown(agent.maps)),
                    flush=True,
                )
        elif options.json:
            print_json({"event": "listening", "port": port, "job": agent.job_id})
        agent.wait()
    finally:
        agent.close()
    return 0


def _shown(maps: tuple[Map, ...]) -> str:
    return " ".join(f"--map {os.fsdecode(m.source)}={os.fsdecode(m.target)}" for m in maps)


def _write_code(path: str, code: str) -> None:
    """Whole or not there, and private before the code is in it. No code: a stale one goes."""
    if not code:
        with suppress(FileNotFoundError):
            os.unlink(path)
        return
    fresh = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(fresh)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(f"{code}\n")
    os.replace(fresh, path)

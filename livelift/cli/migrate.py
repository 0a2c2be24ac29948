"""livelift migrate"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

import livelift
from livelift.adapt import rules
from livelift.adapt.linux.case import parse_policy
from livelift.bootstrap import jobs
from livelift.bootstrap.front import FILE
from livelift.bootstrap.jobs import Migration
from livelift.bootstrap.preview import preview
from livelift.bootstrap.ssh import Remote
from livelift.bootstrap.steps import Move
from livelift.cli.common import add_verb, parse_maps, print_json
from livelift.cli.staged import text_of
from livelift.cli.status import line_of
from livelift.errors import UsageError

TEXT = """Bring two machines to a verified replica that follows, over ssh: place the agent file on both, pair them,
start them, wait until everything is copied and compared. Then it stops; "livelift cutover --job NAME" is yours to say.

Without --map the whole system moves: both machines are compared first, every disk file system of the target gets its
part of the source's tree beside its own system, and the moved system is made to fit the target, beside the replica.

Run the same command (or "livelift migrate --job NAME") again after any interruption: each step looks first whether it
has been done. The agents need neither this machine nor the ssh connection once they run.

examples:
  livelift migrate root@old root@new                            # the whole server
  livelift migrate root@old root@new --map /srv=/srv --map /home=/home
  livelift migrate root@old root@new --map /srv=/srv --fence-unit postgresql@15-main --dry-run
  livelift migrate --job old-to-new"""

PASSED_ON = (
    *("capture", "bandwidth", "fence_unit", "fence_cgroup", "stop_unit", "hooks"),
    *("ignore", "lanes", "spool_cap", "memory"),
)
"""Options that go to the source agent as they are."""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "migrate", "from one command to a verified replica, over ssh", TEXT, run)
    parser.add_argument("old", nargs="?", metavar="USER@OLD", help="the machine that moves, as for ssh")
    parser.add_argument("new", nargs="?", metavar="USER@NEW", help="the machine it moves to")
    parser.add_argument("--job", metavar="NAME", help="name of the job on this machine (default OLD-to-NEW)")
    parser.add_argument(
        "--map", action="append", default=[], metavar="SOURCE=TARGET", help="source directory = target directory"
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="DIR", help="whole server: this target file system stays"
    )
    parser.add_argument("--policy", metavar="FILE", help="whole server: as livelift plan")
    parser.add_argument("--rules", metavar="FILE", help="whole server: as livelift plan")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="leave out (as rsync's --exclude)"
    )
    parser.add_argument("--include", action="append", default=[], metavar="PATTERN", help="take back from an exclusion")
    parser.add_argument(
        "--address", default="", metavar="HOST", help="the target, as the source finds it (default as ssh)"
    )
    parser.add_argument("--port", type=int, default=4777, help="the target agent listens there (default 4777)")
    parser.add_argument(
        "--base",
        default="/var/lib/livelift",
        metavar="DIR",
        help="directory on both machines for all that is ours there (default /var/lib/livelift)",
    )
    parser.add_argument("--ssh-option", action="append", default=[], metavar="OPTION", help="as ssh -o, e.g. Port=2222")
    parser.add_argument("--ssh-config", default="", metavar="FILE", help="as ssh -F")
    parser.add_argument("--sudo", action="store_true", help="become root by sudo, which must ask for no password")
    parser.add_argument(
        "--agent", metavar="FILE", help="the agent file (default: the one that runs, or dist/livelift-agent)"
    )
    for option, metavar, text in (
        ("--capture", "MODE", "auto, fanotify or inotify"),
        ("--bandwidth", "RATE|SCHEDULE", "bytes/s, e.g. 20M or 08:00-18:00=5M,50M"),
        ("--lanes", "N", "TLS connections for data"),
        ("--spool-cap", "SIZE", "disk for the change log on the source"),
        ("--memory", "SIZE", "memory for content in flight on the source"),
        ("--hooks", "DIR", "directory of the cutover's hooks on the source"),
    ):
        parser.add_argument(option, metavar=metavar, help=f"{text} (as livelift source)")
    for option, metavar, text in (
        ("--fence-unit", "UNIT", "systemd unit that the cutover freezes"),
        ("--fence-cgroup", "DIR", "cgroup that the cutover freezes"),
        ("--stop-unit", "UNIT", "systemd unit that the cutover stops"),
        ("--ignore", "ID", "go on in spite of this preflight inhibitor"),
    ):
        parser.add_argument(option, action="append", default=[], metavar=metavar, help=f"{text} (as livelift source)")
    parser.add_argument(
        "--renew", action="store_true", help="replace agents of this job that run another agent file than this one"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="look on both machines, say what would be done, do nothing"
    )


def run(options: argparse.Namespace) -> int:
    job = _job(options)
    agent = agent_file(options.agent)
    tell = print_json if options.json else _print
    if options.dry_run:
        with connected(job) as remotes:
            move = Move(job, remotes, agent, tell, renew=options.renew)
            move.run(dry_run=True)
            return preview(move) if job.server and not move.looks["source"]["job"] else 0
    with jobs.held(job.name):
        jobs.save(job)
        with connected(job) as remotes:
            move = Move(job, remotes, agent, tell, jobs.save, options.renew)
            move.run()
    verbs = ("status", *(("plan",) if job.server else ()), "cutover", "rollback", "remove")
    follows = [f"livelift {verb} --job {job.name}" for verb in verbs]
    tell({"event": "ready", "job": job.name, "status": move.looks["source"]["status"], "next": follows})
    return 0


def _job(options: argparse.Namespace) -> Migration:
    """The job of the command line, or the one that was begun under this name. They may not differ."""
    if not options.old:
        if not options.job:
            raise UsageError("no machines", remedy="livelift migrate root@old root@new --map /srv=/srv")
        return jobs.load(options.job)
    if not options.new:
        raise UsageError("two machines are needed", remedy="livelift migrate root@old root@new")
    server = not options.map
    if server and (options.exclude or options.include):
        raise UsageError(
            "a whole server moves without exclusions", remedy="--map /srv=/srv --exclude ... moves data alone"
        )
    if not server and (options.without or options.policy or options.rules):
        raise UsageError("--without, --policy and --rules are for a whole server", remedy="leave --map out")
    said = {name: text_of(path) for name in ("policy", "rules") if (path := getattr(options, name))}
    parse_maps(options.map, options.exclude, options.include)
    if not os.path.isabs(options.base):
        raise UsageError(f"--base {options.base}: not an absolute path", remedy="e.g. --base /var/lib/livelift")
    job = Migration(
        jobs.check_name(options.job) if options.job else jobs.name_for(options.old, options.new),
        options.old,
        options.new,
        tuple(options.map),
        tuple(options.exclude),
        tuple(options.include),
        tuple(_passed_on(options)),
        os.path.normpath(options.base),
        options.port,
        options.address,
        tuple(options.ssh_option),
        os.path.abspath(options.ssh_config) if options.ssh_config else "",
        options.sudo,
        server,
        tuple(options.without),
        said.get("policy", ""),
        said.get("rules", ""),
        tuple(options.ignore) if server else (),
    )
    if "policy" in said:
        parse_policy(said["policy"])
    if "rules" in said:
        rules.parse(said["rules"])
    return _known(job)


def _known(job: Migration) -> Migration:
    """With what is remembered of a job of this name. UsageError: that one is between other machines or directories."""
    if job.name not in jobs.names():
        return job
    known = jobs.load(job.name)
    if not job.is_like(known):
        raise UsageError(
            f"job {job.name} was begun with other options",
            remedy=f"livelift migrate --job {job.name} goes on with it; --job OTHER begins another one",
        )
    return msgspec.structs.replace(job, maps=known.maps) if job.server else job


def _passed_on(options: argparse.Namespace) -> Iterator[str]:
    for name in PASSED_ON:
        value = getattr(options, name)
        for word in value if isinstance(value, list) else [value] if value is not None else []:
            yield f"--{name.replace('_', '-')}={word}"


def agent_file(named: str | None) -> Path:
    """UsageError: there is none."""
    package = Path(livelift.__file__).resolve().parent
    found = Path(named or os.environ.get(FILE) or package.parent / "dist/livelift-agent")
    if not found.is_file():
        raise UsageError(f"no agent file {found}", remedy="make agent builds it (or name it: --agent FILE)")
    return found


@contextmanager
def connected(job: Migration) -> Iterator[dict[str, Remote]]:
    """Both machines, by side; the connections are made when they are first used."""
    control = Path(tempfile.mkdtemp(prefix="livelift-ssh-"))  # short: it holds sockets (unix(7), 107 bytes)
    remotes = {
        side: Remote(
            side,
            job.destination(side),
            job.state(side),
            control,
            job.ssh_options,
            job.ssh_config,
            job.sudo,
            job.agent(side),
        )
        for side in ("source", "target")
    }
    try:
        yield remotes
    finally:
        for remote in remotes.values():
            remote.close()
        shutil.rmtree(control)


def _print(event: dict[str, Any]) -> None:
    kind = event["event"]
    if kind == "machine":
        print(f"{event['side']} {event['host']}: Python {event['python']}, {event['platform']}", flush=True)
    elif kind == "step" and event["state"] != "done":
        state = "" if event["state"] == "begins" else f" ({event['state']})"
        print(f"==> {event['text']}{state}", flush=True)
    elif kind == "finding" and event["level"] != "note":
        print(f"    {event['level']} {event['id']}: {event['diagnosis']}", flush=True)
    elif kind == "layout":
        for line in event["maps"]:
            print(f"    {line}", flush=True)
    elif kind == "plan":
        print(event["text"], flush=True)
    elif kind == "adapted":
        done = "stand already" if event["already"] else f"made in {event['seconds'] + event['install_seconds']:.0f} s"
        print(f"    {event['edits']} edits and the take-over {done} ({event['mode']})", flush=True)
    elif kind == "progress":
        print(f"    {line_of(event['status'])}", flush=True)
    elif kind == "ready":
        print("ready: the replica is identical and follows. Nothing has been cut over. Next:")
        print("\n".join(f"    {line}" for line in event["next"]), flush=True)

"""The verbs of a job that "livelift migrate" began: from the controller, on the machine that they concern."""

from __future__ import annotations

import argparse
import json

from livelift.bootstrap import jobs
from livelift.bootstrap.jobs import Migration
from livelift.bootstrap.ssh import Remote
from livelift.bootstrap.steps import failure
from livelift.cli.common import print_json
from livelift.cli.main import build_parser
from livelift.cli.migrate import connected
from livelift.cli.probe_service import show
from livelift.cli.staged import said
from livelift.cutover.client import Watch
from livelift.errors import StateError, UsageError

STAGED = ("plan", "adapt", "check")
"""Verbs that take the operator's files."""
FILES = {"--policy", "--rules", "--ignore"}
"""Those, and what goes with them."""
CONTROLLER = {"--job", "--side", "--probe"}
"""Options that only the controller understands."""


def forward(options: argparse.Namespace, arguments: list[str]) -> int:
    """Run ``arguments`` (a verb and its options) for the job that ``options`` name. The exit code is the verb's."""
    if getattr(options, "report", None):
        raise UsageError("a report is written on the machine that signs it", remedy="run livelift verify there")
    job = jobs.load(options.job)
    if options.verb == "remove":
        with jobs.held(job.name), connected(job) as remotes:
            code = _remove(job, remotes, options)
        if code == 0 and not options.dry_run:
            jobs.forget(job.name)
        return code
    told = said(options) if options.verb in STAGED else {}
    words = [*_plain(arguments, _valued(options.verb)), *(["--said", "-"] if told else [])]
    with Watch(getattr(options, "probe", [])) as watch, connected(job) as remotes:
        code = remotes[options.side].forward(words, json.dumps(told) if told else "")
        watch.until_answered()
    show(watch, options.json)
    return code


def _plain(arguments: list[str], valued: frozenset[str]) -> list[str]:
    """Without what only the controller understands. ``valued``: the verb's options that take a value, which may stand
    in a word of its own."""
    verb, *words = arguments
    ours = CONTROLLER | (FILES if verb in STAGED else set())
    kept = [verb]
    waiting = iter(words)
    for word in waiting:
        option, equals, _ = word.partition("=")
        if not word.startswith("-"):
            continue  # the job: no other verb of a job takes a bare word
        both = [word] + ([next(waiting, "")] if option in valued and not equals else [])
        if option not in ours:
            kept += both
    return kept


def _valued(verb: str) -> frozenset[str]:
    """Options of a verb that take a value."""
    verbs = build_parser(verb)._subparsers
    assert verbs is not None
    (parser,) = verbs._group_actions[0].choices.values()  # type: ignore[union-attr]
    return frozenset(o for action in parser._actions if action.nargs != 0 for o in action.option_strings)


def _remove(job: Migration, remotes: dict[str, Remote], options: argparse.Namespace) -> int:
    """Both agents, the source's first: a fenced source is refused, and then nothing has been removed yet."""
    looks = {side: remote.ask("look", directories=[], hash=False) for side, remote in remotes.items()}
    for side, remote in remotes.items():
        if looks[side]["job"]:
            words = ["remove", "--json", *(["--keep-fence"] if options.keep_fence else [])]
            done = remote.run([*words, *(["--dry-run"] if options.dry_run else [])])
            if done.returncode:
                raise failure(done.stdout, done.stderr)
            _say(options, {"side": side, **json.loads(done.stdout.splitlines()[-1])})
        if options.dry_run:
            continue
        left = remote.ask("sweep")["left"]
        if left:
            raise StateError(
                f"{remote}: not Livelift's, so not removed: {', '.join(left)}", remedy="look at it, remove it by hand"
            )
    if not options.dry_run:
        _say(options, {"removed": str(jobs.home() / job.name)})
    return 0


def _say(options: argparse.Namespace, event: dict[str, object]) -> None:
    if options.json:
        print_json(event)
    else:
        print(", ".join(f"{key} {' '.join(v) if isinstance(v, list) else v}" for key, v in event.items()))

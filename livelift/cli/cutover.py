"""livelift cutover"""

from __future__ import annotations

import argparse
import os
from typing import Any

from livelift.cli.common import add_job, add_state, add_verb, print_json
from livelift.cli.probe_service import show
from livelift.control.client import call
from livelift.cutover.client import Watch
from livelift.errors import UnfinishedError
from livelift.platform.linux.unit_tree import cgroup_of

TEXT = """Move the service. Of data: fence the workload (freeze its cgroups), drain, verify, cut. Of a whole server
after that: settle, arm, hand over; the target reboots and takes over, and this waits until it says what stands.

Any failure before the cut (of a whole server: before the hand-over) takes the fence down at once and changes nothing.
After it the source stays fenced; "livelift rollback" lets it serve again. Interrupting this command after the hand-over
changes nothing; run it again to look on, or see "livelift status".

The fence of a whole server freezes everything but what must live (--dry-run lists it, with reasons). --fence-unit and
--fence-cgroup name what is frozen instead, --keep-unit what lives besides, --stop-unit what is stopped before; they
replace what was said when the job began.

examples:
  livelift cutover --dry-run
  livelift cutover old-to-new --mode reboot --probe http://www.example.com/
  livelift cutover old-to-new --stop-unit postgresql@15-main"""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "cutover", "fence, drain, verify, cut; of a whole server also hand over", TEXT, run)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    parser.add_argument(
        "--mode", choices=("cut", "reboot"), help="how it ends (default by the job: cut for data, reboot for a server)"
    )
    parser.add_argument("--label", default="cutover", help="a name for this cut, kept in the log")
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="give up (and unfence) after this long (600; a server: 3600)"
    )
    parser.add_argument(
        "--fence-timeout", type=float, metavar="SECONDS", help="of a server: of that, behind the fence (300)"
    )
    for name, metavar, text in (
        ("fence-unit", "UNIT", "freeze this unit, and nothing that is not named"),
        ("fence-cgroup", "DIR", "the same with a cgroup"),
        ("keep-unit", "UNIT", "of a server: do not freeze this (a pattern may be given)"),
        ("stop-unit", "UNIT", "stop this before the rest is frozen; started again if it comes to that"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=text)
    parser.add_argument(
        "--probe", action="append", default=[], metavar="URL|tcp:HOST:PORT",
        help="ask this meanwhile, from here, and tell at the end what a client saw",
    )  # fmt: skip
    add_job(parser)
    add_state(parser, "/var/lib/livelift/source")


def run(options: argparse.Namespace) -> int:
    with Watch(options.probe) as watch:
        try:
            return _cut_over(options)
        finally:
            watch.until_answered()
            show(watch, options.json)


def _cut_over(options: argparse.Namespace) -> int:
    answer: dict[str, Any] = {}
    show = Progress(options.json)
    for answer in call(
        os.fsencode(os.path.abspath(options.state)),
        "cutover",
        None,
        label=options.label,
        timeout=options.timeout,
        fence_timeout=options.fence_timeout,
        dry_run=options.dry_run,
        mode=options.mode,
        fence_unit=options.fence_unit,
        fence_cgroup=[os.path.abspath(path) for path in options.fence_cgroup],
        keep_unit=options.keep_unit,
        stop_unit=options.stop_unit,
        operator=os.fsdecode(cgroup_of("self")),
    ):
        show.line(answer)
    if not options.json:
        print(_preview(answer) if answer.get("dry_run") else result_text(answer))
    if answer.get("outcome") == "back":
        raise UnfinishedError(
            f"the old system stands on the target: {answer['reason']}",
            remedy="this machine serves again and is followed; mend that, then try the cutover again",
        )
    return 0


class Progress:
    """One line for each step with what the last one took; while the target reboots, one for each new word of it."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._last = ""
        self._told = ""

    def line(self, answer: dict[str, Any]) -> None:
        if self._json:
            if answer.get("step") or answer.get("done"):  # the result comes once more, as the last line
                print_json(answer)
            return
        step = answer.get("step")
        if not step:
            return
        if step != self._last:
            took = (answer.get("took") or {}).get(self._last)
            if took is not None:
                print(f"    {self._last} took {took} s", flush=True)
            print(f"==> {step}", flush=True)
            self._last = step
        if text := answer.get("text"):
            told = " ".join(word for word in text.split() if not word.isdigit())
            if told != self._told:
                print(f"    {text}", flush=True)
                self._told = told


def _preview(answer: dict[str, Any]) -> str:
    lines = [f"would {', '.join(answer['would'])}; open gaps {answer['gaps']}", f"fence: {answer['fence']}"]
    for unit in answer.get("units", []):
        lines.append(f"  {'freeze' if unit['freeze'] else 'keep  '} {unit['unit']}: {unit['reason']}")
    for held in answer.get("addresses", []):
        lines.append(f"addresses that move from {held['interface']}: {', '.join(held['moves'])}")
    for why in answer.get("stale", []):
        lines.append(f"would adapt again: {why}")
    if busy := answer.get("busy"):
        lines.append(f"{busy}: not known yet are the addresses that move, and whether it is adapted again")
    for side, hooks in (answer.get("hooks") or {}).items():
        lines += [f"hooks of the {side}, {when}: {', '.join(names)}" for when, names in hooks.items()]
    return "\n".join(lines)


def result_text(answer: dict[str, Any]) -> str:
    lines = []
    if "cut_lsn" in answer:
        lines.append(
            f"cut at LSN {answer['cut_lsn']}: {answer['differences']} differences; fenced {answer['fence_seconds']} s "
            f"(drain {answer['drain_seconds']} s, verify {answer['verify_seconds']} s), fence: {answer['fence']}"
        )
    if answer.get("outcome") == "served":
        split = ", ".join(f"{name} {took:.1f}" for name, took in answer["split"].items())
        lines.append(f"the new system serves; outage {answer['outage_seconds']:.1f} s: {split}")
        if answer["boot"]:
            parts = ", ".join(f"{name} {took:.1f} s" for name, took in answer["boot"].items())
            lines.append(f"the target's boot: {parts}")
        lines.append("this machine stays fenced. Next: livelift commit, or livelift rollback")
    elif answer.get("state") == "handed":
        lines.append(answer.get("text", ""))
    lines += [f"note: {note}" for note in answer.get("notes") or []]
    return "\n".join(lines)

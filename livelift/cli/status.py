"""livelift status"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from livelift.cli.common import add_job, add_state, add_verb, human, print_json
from livelift.control.client import ask
from livelift.cutover.keeper import report
from livelift.errors import UnreachableError

TEXT = """Show where a job stands: initial copy, lag, backlog, gaps, problems, capture mode and its promise.

Works on either side: --state names the agent. With --watch a line every two seconds until interrupted."""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "status", "where the job stands", TEXT, run)
    parser.add_argument("--watch", action="store_true", help="again every two seconds")
    add_job(parser)
    add_state(parser, "/var/lib/livelift/source")


def run(options: argparse.Namespace) -> int:
    directory = os.fsencode(os.path.abspath(options.state))
    while True:
        try:
            found = ask(directory, "status", 30)
        except UnreachableError as error:
            kept = report(directory)
            if kept is None:
                raise
            raise UnreachableError(f"{error.args[0]}. {keeper_line(kept)}", remedy=error.remedy) from error
        if options.json:
            print_json(found)
        elif options.watch:
            print(line_of(found), flush=True)
        else:
            print(text_of(found))
        if not options.watch:
            return 0
        time.sleep(2)


def line_of(s: dict[str, Any]) -> str:
    """One line of progress: the five words that operators look for."""
    if s.get("role") == "target":
        return f"target: connected {s['connected']}  applied LSN {s.get('applied_lsn')}  durable {s.get('durable_lsn')}"
    eta = f"{s['eta']:.0f} s" if s.get("eta") else "-"
    stalled = f"  stalled({s['stalled']})" if s.get("stalled") else ""
    gaps = f"  gaps {s['gaps']}" if s.get("gaps") else ""
    return (
        f"{s['state']}  initial {s['initial_percent']:.0f} %  files {s['files']}  {human(s['bytes'])}  "
        f"{human(s['rate'])}/s  lag {s['lag']:.2f} s  backlog {human(s['backlog'])}  eta {eta}{gaps}{stalled}"
    )


def text_of(s: dict[str, Any]) -> str:
    lines = [line_of(s)]
    if s.get("role") == "source":
        lines.append(
            f"  capture {s['capture_mode']}: {s['promise']}; blind to: {', '.join(s['blind_to']) or 'nothing'}"
        )
        lines.append(
            f"  lag p50 {s['lag_p50'] * 1000:.0f} ms, p99 {s['lag_p99'] * 1000:.0f} ms; LSN {s['last_lsn']}, "
            f"durable on the target {s['durable_lsn']}; source impact: {s['impact']}"
        )
        verified = s.get("verified") or {}
        if verified:
            lines.append(f"  last verification: {verified['differences']} differences in {verified['seconds']} s")
        if text := (s.get("handover") or {}).get("text"):
            lines.append(f"  {text}")
        lines += fence_lines(s.get("fence") or {})
        lines += [f"  skipped {path}: {reason}" for path, reason in s.get("skipped", [])[:20]]
        lines += [f"  gap {g['path']}: {g['reason']} {g['detail']}" for g in s.get("gap_list", [])]
        lines += [f"  problem {p['path']}: {p['detail']} ({p['remedy']})" for p in s.get("problems", [])]
    else:
        lines += [f"  {source} -> {to}" for source, to in s.get("maps", [])]
        lines += [f"  problem: {p}" for p in s.get("problems", [])]
    return "\n".join(lines)


def fence_lines(fence: dict[str, Any]) -> list[str]:
    """What the fence has taken from this machine, and what a fence keeper did."""
    lines = []
    if taken := fence.get("taken"):
        parts = [f"{len(taken['groups'])} cgroups frozen"] if taken["groups"] else []
        parts += [f"stopped: {', '.join(taken['stopped'])}"] if taken["stopped"] else []
        moved = [address for held in taken["addresses"] for address in held["moves"]]
        parts += [f"addresses taken off: {', '.join(moved)}"] if moved else []
        parts += ["after a reboot nothing but network, ssh and the agent starts"] if taken["block"] else []
        lines.append(f"  fence: {'; '.join(parts)}")
    if kept := fence.get("keeper"):
        lines.append(f"  {keeper_line(kept)}")
    return lines


def keeper_line(kept: dict[str, Any]) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(kept["time"]))
    if kept["done"] == "held":
        return f"fence keeper: the agent was gone at {at}; the cutover stands ({kept['note']}), so the fence stays up"
    text = f"fence keeper: the agent was gone at {at}; the fence came down within {kept['seconds']} s"
    return text + (f", but for: {'; '.join(kept['problems'])}" if kept["problems"] else "")

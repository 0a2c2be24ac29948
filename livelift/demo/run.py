"""``livelift demo``: set the scene, move it while it lives, cut, and prove on the other side that nothing is gone."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from livelift.demo.agents import LIVELIFT, Agents, Answer
from livelift.demo.compare import compare
from livelift.demo.display import Display, number
from livelift.demo.result import Result, percentile
from livelift.demo.scene import Scene, build
from livelift.errors import LiveliftError, MismatchError, UsageError

POLL = 0.5
"""Seconds between two looks at the status (`livelift status --watch` prints a line every two)."""

LAG_FOR_CUT = 3.0
"""Seconds of lag at most before the cut is asked for: a fence should be short."""

WEAKER = (
    "Not root, so this is the weaker mode: plain directories on one file system, --capture inotify, one network,\n"
    "services stopped one by one by SIGSTOP; no devices, no owners, no trusted attributes, and no promise about\n"
    "stores into mapped files.\n"
    "As root the same command uses ext4 disks, two network namespaces and a cgroup fence."
)


@dataclass
class Samples:
    """What the status said while the target followed."""

    lags: list[float] = field(default_factory=list)
    last: Answer = field(default_factory=dict)
    initial_seconds: float = 0.0

    def lag(self, share: float, key: str) -> float:
        """The agents' own percentile if they tell one, else the one of the samples."""
        return number(self.last, key) if self.last.get(key) is not None else percentile(self.lags, share)


class Demo:
    """One run. ``command``: the words that start Livelift."""

    def __init__(self, options: argparse.Namespace, display: Display, command: Sequence[str] = LIVELIFT) -> None:
        self._options = options
        self._display = display
        self._command = command
        self._samples = Samples()

    def run(self, undo: contextlib.ExitStack, directory: Path) -> Result:
        display = self._display
        display.step("set the scene: a copy of this system, with a PostgreSQL that commits all the time")
        scene = build(undo, directory, lambda text: display.say(f"    {text}"))
        agents = Agents(scene.hosts, directory, self._command)
        capture = self._options.capture or ("" if scene.as_root else "inotify")

        display.step("move it: two agents, mutual TLS between them")
        began = time.monotonic()
        agents.start(undo, scene.tree, scene.replica, capture, scene.group.path if scene.group else None)
        self._follow(scene, agents, began)

        display.step("cut: fence, drain, verify")
        cut = self._cut(scene, agents)
        seconds = time.monotonic() - began

        display.step("judge: compare the two trees with code of the demo's own")
        verdict = compare(scene.tree, scene.replica)
        for line in verdict.differences[:10]:
            display.say(f"    {line}")

        display.step("start PostgreSQL from the replica, on the target")
        replica = scene.replica_cluster()
        start_seconds = scene.start_replica(undo, replica)
        finding = scene.ledger.check(replica)
        complaints = replica.amcheck()

        status = self._samples.last
        return Result(
            as_root=scene.as_root,
            capture_mode=str(cut.get("capture_mode") or status.get("capture_mode") or capture),
            files=verdict.paths,
            bytes=verdict.size,
            seconds=seconds,
            initial_seconds=self._samples.initial_seconds,
            fence_seconds=float(cut["fence_seconds"]),
            lag_p50=self._samples.lag(0.5, "lag_p50"),
            lag_p99=self._samples.lag(0.99, "lag_p99"),
            commits_acknowledged=finding.acknowledged,
            commits_found=finding.found,
            commits_unheard=finding.unacknowledged,
            accounts_torn=finding.torn,
            differences=len(verdict.differences),
            differences_verified=count(cut["differences"]),
            gaps=count(cut.get("gaps", status.get("gaps", 0))),
            amcheck=complaints,
            slowest_commit=scene.ledger.slowest(),
            postgres_start_seconds=start_seconds,
            operations=scene.operations(),
            examples=verdict.differences[:20],
        )

    def _poll(self, scene: Scene, agents: Agents) -> Answer:
        status = agents.status()
        if status is not None:
            self._samples.last = status
        self._display.update(self._samples.last, scene.ledger.acknowledged)
        return self._samples.last

    def _follow(self, scene: Scene, agents: Agents, began: float) -> None:
        """Until the target follows, has followed for a while, and is near enough for a short fence."""
        following_since = 0.0
        while True:
            agents.require_alive()
            scene.require_alive()
            now = time.monotonic()
            status = self._poll(scene, agents)
            if status.get("state") == "following":
                if not following_since:
                    following_since = now
                    self._samples.initial_seconds = now - began
                    self._display.say(f"    the target follows after {now - began:.1f} s; the source goes on changing")
                self._samples.lags.append(number(status, "lag"))
                near = number(status, "lag") <= LAG_FOR_CUT and not count(status.get("gaps", 0))
                if near and now - following_since >= self._options.follow:
                    return
            if now - began > self._options.timeout:
                raise LiveliftError(f"not ready for a cut after {now - began:.0f} s; {summary(status)}")
            time.sleep(max(0.0, POLL - (time.monotonic() - now)))

    def _cut(self, scene: Scene, agents: Agents) -> Answer:
        """Fence and cut. As root the agent freezes the services; otherwise they are stopped here before it is asked."""
        fenced = time.monotonic()
        if not scene.as_root:
            scene.stop_services()
        cut = agents.verb("cutover", timeout=self._options.timeout, meanwhile=lambda: self._poll(scene, agents))
        if not scene.as_root:
            cut["fence_seconds"] = time.monotonic() - fenced
        return cut


def summary(status: Answer) -> str:
    """What of a status explains why nothing goes on, in a few lines."""
    fields = ("state", "initial_percent", "lag", "backlog", "dirty", "directories_to_walk", "gaps", "stalled")
    lines = [", ".join(f"{name} {status[name]}" for name in fields if name in status) or "no status yet"]
    for gap in list(status.get("gap_list", []))[:3]:
        lines.append(f"gap: {gap.get('reason')}: ...{str(gap.get('path'))[-100:]}")
    return "\n  ".join(lines)


def count(value: object) -> int:
    """A number, or the length of a list."""
    return len(value) if isinstance(value, list) else int(str(value))


@contextlib.contextmanager
def undo_stack() -> Iterator[contextlib.ExitStack]:
    """A LIFO of what takes away what was made. Signals end the run in order, and cannot interrupt the taking away."""

    def ended(signum: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + signum)

    before = {number: signal.signal(number, ended) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with contextlib.ExitStack() as stack:
            try:
                yield stack
            finally:
                for signum in before:
                    signal.signal(signum, signal.SIG_IGN)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def make_directory(undo: contextlib.ExitStack, parent: Path) -> Path:
    """The demo's directory, readable by the account that PostgreSQL runs as. Only its logs stay if the run fails."""
    directory = parent / f"livelift-demo-{os.getpid()}"
    directory.mkdir(mode=0o711)
    (directory / "logs").mkdir()

    def leave(kind: object, error: BaseException | None, trace: object) -> bool:
        keep = {"logs"} if isinstance(error, Exception) else set()
        for child in directory.iterdir():
            if os.path.ismount(child):
                continue  # it could not be unmounted, which is an error of its own; never delete into it
            if child.name not in keep:
                shutil.rmtree(child) if child.is_dir() else child.unlink()
        if keep:
            print(f"the logs of this run: {directory}/logs", file=sys.stderr)
        else:
            directory.rmdir()
        return False

    undo.push(leave)
    return directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--dir", type=Path, default=Path("/var/tmp"), help="where the disks are made (3 GB, %(default)s)")
    add("--capture", default="", help="capture mode of the source agent (default: the best one here)")
    add("--follow", type=float, default=20, help="seconds of following before the cut (%(default)s)")
    add("--timeout", type=float, default=600, help="seconds after which a step has failed (%(default)s)")


def run(options: argparse.Namespace, command: Sequence[str] = LIVELIFT) -> int:
    """Run the demo and print its result. Exit code 0 only if nothing was lost and nothing differs, else 5."""
    if not options.dir.is_dir():
        raise UsageError(f"--dir: {options.dir} is no directory")
    stream = sys.stderr if options.json else sys.stdout
    with Display(stream) as display:
        if os.geteuid() != 0:
            display.say(WEAKER)
        with undo_stack() as undo:
            result = Demo(options, display, command).run(undo, make_directory(undo, options.dir.resolve()))
            display.step("take everything away")
    display.table("Livelift demo", result.rows())
    display.say("Nothing was lost and nothing differs." if result.good else "FAILED: see the table.")
    if options.json:
        print(json.dumps(result.as_json()), flush=True)
    return 0 if result.good else MismatchError.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="livelift demo", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on the last line")
    try:
        return run(parser.parse_args(arguments))
    except LiveliftError as error:
        print(f"livelift demo: {error}", file=sys.stderr)
        return error.exit_code

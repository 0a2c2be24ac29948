"""The steps from two machines with ssh to a verified replica. Each looks first whether it has been done; so the same
command after any interruption goes on where the last one ended.

What comes after (adaptation, take-over) is appended to `STEPS`: a step is a name, the side it works on, a line for the
operator, a question and an act.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from livelift.adapt.linux.agent_unit import render
from livelift.bootstrap.jobs import Migration
from livelift.bootstrap.needs import check
from livelift.bootstrap.ssh import LOST, Remote
from livelift.checks.findings import Finding, Findings, Level
from livelift.control.client import RemoteFailure
from livelift.errors import (
    CommandError,
    LiveliftError,
    MismatchError,
    PreflightError,
    StateError,
    TrustError,
    UnreachableError,
)

Tell = Callable[[dict[str, Any]], None]


class Move:
    """One migration being carried out. ``remotes``: by side. ``agent``: the agent file here. ``tell``: progress.
    ``keep``: what has been found out about the job is to be remembered. ``renew``: agents that run another agent file
    are replaced."""

    def __init__(
        self,
        job: Migration,
        remotes: dict[str, Remote],
        agent: Path,
        tell: Tell,
        keep: Callable[[Migration], None] = lambda job: None,
        renew: bool = False,
    ) -> None:
        self.job = job
        self.keep = keep
        self.renew = renew
        self.remotes = remotes
        self.agent = agent
        self.tell = tell
        self.digest = hashlib.sha256(agent.read_bytes()).hexdigest()
        self.looks: dict[str, dict[str, Any]] = {}
        self.verdict: dict[str, Any] = {}

    def look(self, side: str) -> dict[str, Any]:
        """What is on that machine now; kept in ``looks``. The digest of its agent file is made once: 10 s where the
        processor is emulated, and after that only this process places one."""
        known = self.looks.get(side, {}).get("agent")
        found = self.remotes[side].ask("look", directories=self.job.directories(side), hash=known is None)
        self.looks[side] = found if known is None else {**found, "agent": known}
        return self.looks[side]

    def run(self, dry_run: bool = False, after: Callable[[str], None] = lambda name: None) -> None:
        """All steps. ``after``: told the name of each step that has been done or was done already."""
        for side in self.remotes:
            look = self.look(side)
            self.tell({"event": "machine", "side": side, **{k: v for k, v in look.items() if k != "status"}})
        check(self.job, self.looks, self.agent, self.digest)
        if self.older() and not self.renew:
            self.tell({"event": "finding", **Findings([older(self.older())]).to_dict()["findings"][0]})
        for step in self.steps:
            line = {"event": "step", "step": step.name, "text": step.text}
            if step.done(self):
                self.tell(line | {"state": "done already"})
            elif dry_run:
                self.tell(line | {"state": "would be done"})
                continue
            else:
                self.tell(line | {"state": "begins"})
                step.act(self)
                self.tell(line | {"state": "done"})
            after(step.name)

    @property
    def steps(self) -> tuple[Step, ...]:
        before = (RENEW,) if self.renew else ()
        if not self.job.server:
            return before + STEPS
        from livelift.bootstrap.server import SERVER_STEPS  # which is made of these steps and more

        return before + SERVER_STEPS

    # -- steps -------------------------------------------------------------------------------------------------------

    def is_placed(self, side: str) -> bool:
        """What runs stays as it is, unless it is to be renewed."""
        look = self.looks[side]
        return look["agent"] == self.digest or (look["running"] and not self.renew)

    def place(self, side: str) -> None:
        """Copy the agent file; compared by digest on arrival."""
        size = self.agent.stat().st_size
        self.remotes[side].ask("place", self.agent, size=size, digest=self.digest)
        self.looks[side]["agent"] = self.digest
        self.look(side)

    def older(self) -> list[str]:
        """The sides whose agent runs another agent file than this one's."""
        looks = self.looks.items()
        return [side for side, look in looks if look["running"] and look["agent"] and look["agent"] != self.digest]

    def end_older(self) -> None:
        """In order, by their own verb. What they know is in their state directories; the steps behind this one place
        the new file and start them. StateError: not at this moment."""
        state = (self.looks["source"]["status"] or {}).get("state", "following")
        if state not in ("connecting", "initial", "following"):
            raise StateError(f"agents are not replaced while the job is {state}", remedy="wait for the cutover to end")
        for side in self.older():
            self.remotes[side].ask("stop")
            self.look(side)

    def preflight(self) -> None:
        """The source agent's own: capture mode, room, what cannot be moved. PreflightError with the inhibitors."""
        words = ["source", "--dry-run", "--json", *self.mapping(), *self.job.arguments]
        done = self.remotes["source"].run(words)
        try:
            found = json.loads(done.stdout)["findings"]
        except (ValueError, KeyError):
            raise CommandError(f"preflight: {(done.stderr or done.stdout).strip()[-600:]}") from None
        self.found(found)

    def found(self, findings: list[dict[str, str]]) -> None:
        """Tell what stands in the way. PreflightError with the inhibitors among them."""
        for finding in findings:
            self.tell({"event": "finding", **finding})
        bad = [finding for finding in findings if finding["level"] == "inhibitor"]
        if bad:
            raise PreflightError(
                "; ".join(f"{f['diagnosis']} [{f['id']}]" for f in bad),
                remedy="; ".join(dict.fromkeys(f["remedy"] for f in bad if f["remedy"])),
            )

    def start_target(self, *more: str) -> None:
        """On every address of the machine: nothing is accepted before mutual TLS."""
        words = [*self.target_words(), *more]
        self._start("target", words, self.unit_text(words) if self.job.server else "")

    def target_words(self) -> list[str]:
        listen = f"0.0.0.0:{self.job.port}"
        words = ["--listen", listen, "--code-file", f"{self.job.state('target')}/code"]
        return [*words, *(["--server"] if self.job.server else []), *(f"--map={line}" for line in self.job.maps)]

    def unit_text(self, words: list[str]) -> str:
        return render((self.job.agent("target"), "target", "--state", self.job.state("target"), *words))

    def start_source(self) -> None:
        self._start("source", list(self.job.arguments))

    def _start(self, side: str, words: list[str], unit_text: str = "") -> None:
        systemd = self.looks[side]["systemd"]
        unit = self.job.unit(side)
        self.remotes[side].ask("start", arguments=words, systemd=systemd, unit=unit, unit_text=unit_text)
        self.look(side)

    def pair(self) -> None:
        """The code goes from the target's file to the source's standard input, through this process only. A code that
        was used by an attempt that broke off, or is too old, is replaced once."""
        try:
            self._pair()
        except LiveliftError as error:
            if error.code != TrustError.code:
                raise
            self.remotes["target"].ask("stop")
            self.start_target("--new-code")
            self._pair()
            if self.job.server:  # its later starts are to make no code
                text = self.unit_text(self.target_words())
                self.remotes["target"].ask("unit", unit=self.job.unit("target"), unit_text=text)
        self.look("source")
        self.look("target")

    def _pair(self) -> None:
        code = self.remotes["target"].ask("code")["code"]
        if not code:
            raise TrustError("the target has no pairing code any more")
        host = self.job.address or self.remotes["target"].hostname()
        where = f"[{host}]:{self.job.port}" if ":" in host else f"{host}:{self.job.port}"
        words = ["source", "--json", "--pair", "-", "--pair-only", where, *self.mapping(), *self.job.arguments]
        done = self.remotes["source"].run(words, code + "\n")
        if done.returncode:
            raise failure(done.stdout, done.stderr)

    def mapping(self) -> list[str]:
        options = (("--map", self.job.maps), ("--exclude", self.job.exclude), ("--include", self.job.include))
        words = [f"{option}={value}" for option, values in options for value in values]
        return [*(["--server"] if self.job.server else []), *words]

    def follow(self) -> None:
        """Until the source is following and no gap is open. However long that takes: the agents need nobody."""
        process = self.remotes["source"].stream(["status", "--json", "--watch"])
        assert process.stdout is not None
        try:
            for line in process.stdout:
                status = json.loads(line)
                self.looks["source"]["status"] = status
                self.tell({"event": "progress", "status": status})
                if is_following(status):
                    return
                if status["state"] == "failed":
                    break
        finally:
            process.kill()
            code = process.wait()
            process.stdout.close()
        look = self.look("source")
        if code == LOST or look["running"]:
            raise UnreachableError("the source any more", remedy="the agents go on; run the same command again")
        raise StateError("the source agent has ended", remedy=f"its log on the source tells why: {self.log('source')}")

    def log(self, side: str) -> str:
        """Where the agent's words are."""
        if self.looks[side]["systemd"]:
            return f"journalctl -u {self.job.unit(side)}"
        return f"{self.job.state(side)}/agent.log"

    def verify(self) -> None:
        """Every path and every byte of both trees, while they change. MismatchError: they differ."""
        done = self.remotes["source"].run(["verify", "--json"])
        try:
            self.verdict = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            raise CommandError(f"verify: {(done.stderr or done.stdout).strip()[-600:]}") from None
        if "error" in self.verdict:
            raise failure(done.stdout, done.stderr)
        if self.verdict["differences"]:
            raise MismatchError(
                f"{self.verdict['differences']} differences: {'; '.join(self.verdict['listing'][:5])}",
                remedy=f"livelift verify --job {self.job.name} lists them; they are read again by themselves",
            )
        self.look("source")


def is_following(status: dict[str, Any] | None) -> bool:
    return status is not None and status.get("state") == "following" and not status.get("gaps")


def is_verified(status: dict[str, Any] | None) -> bool:
    verified = (status or {}).get("verified") or {}
    return bool(verified) and verified["differences"] == 0


def failure(stdout: str, stderr: str) -> LiveliftError:
    """The error that the agent's command line has told with --json, as one of ours."""
    for line in reversed(stdout.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and "error" in found:
            return RemoteFailure(str(found["text"]), str(found["error"]), int(found.get("exit", 1)), found)
    return CommandError(stderr.strip()[-600:] or "it said nothing")


def older(sides: list[str]) -> Finding:
    text = f"another agent file than this one runs on the {' and the '.join(sides)}"
    remedy = "--renew replaces it; the source then looks at everything again, and a whole server is adapted anew"
    return Finding("agent-file", Level.WARNING, text, remedy)


class Step(NamedTuple):
    """``done``: asked first, of what `Move.look` has seen; a step that is done is passed by."""

    name: str
    text: str
    done: Callable[[Move], bool]
    act: Callable[[Move], None]


RENEW: Final = Step(
    "renew", "end the agents that run another agent file", lambda move: not move.older(), Move.end_older
)
STEPS: Final = (
    Step(
        "place-target",
        "copy the agent file to the target",
        lambda move: move.is_placed("target"),
        lambda move: move.place("target"),
    ),
    Step(
        "place-source",
        "copy the agent file to the source",
        lambda move: move.is_placed("source"),
        lambda move: move.place("source"),
    ),
    Step(
        "preflight",
        "look on the source what would be moved, how, and what stands in the way",
        lambda move: bool(move.looks["source"]["job"]),
        Move.preflight,
    ),
    Step(
        "start-target",
        "start the target agent",
        lambda move: move.looks["target"]["running"],
        Move.start_target,
    ),
    Step(
        "pair",
        "pair the two: certificates of this job, by a one-time code",
        lambda move: bool(move.looks["source"]["job"]),
        Move.pair,
    ),
    Step(
        "start-source",
        "start the source agent",
        lambda move: move.looks["source"]["running"],
        Move.start_source,
    ),
    Step(
        "follow",
        "copy everything, then follow every change",
        lambda move: is_following(move.looks["source"]["status"]),
        Move.follow,
    ),
    Step(
        "verify",
        "compare both trees, every path and every byte",
        lambda move: is_following(move.looks["source"]["status"]) and is_verified(move.looks["source"]["status"]),
        Move.verify,
    ),
)

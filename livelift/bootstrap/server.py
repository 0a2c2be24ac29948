"""The steps of a whole server's move over ssh: those of a data job, and before them facts, check and layout, behind
them the adaptation."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from livelift.adapt.linux.layout import Layout, layout
from livelift.bootstrap.steps import STEPS, Move, Step, failure
from livelift.checks.findings import Finding, Findings
from livelift.checks.server import check_servers
from livelift.errors import CommandError
from livelift.model.facts import ServerFacts


def facts_of(move: Move, side: str) -> ServerFacts:
    """Collected there now. CommandError: it says something else."""
    done = move.remotes[side].run(["facts", "--json"], stateless=True)
    try:
        return msgspec.json.decode(done.stdout.encode(), type=ServerFacts)
    except msgspec.DecodeError as error:
        raise CommandError(
            f"facts of the {side}: {(done.stderr or done.stdout).strip()[-600:] or error}",
            remedy="run livelift facts --json there by hand",
        ) from error


def check(move: Move) -> None:
    """Do the two machines correspond, and what goes where? PreflightError: an inhibitor."""
    facts = {side: facts_of(move, side) for side in ("source", "target")}
    found = lay_out(move, facts["source"], facts["target"])
    mounts = [f"--mount={mountpoint}" for mountpoint in found.mountpoints]
    done = move.remotes["target"].run(["takeover", "install", "--dry-run", "--json", *mounts], stateless=True)
    try:
        takeover = takeover_findings(json.loads(done.stdout))
    except ValueError:
        raise failure(done.stdout, done.stderr) from None
    findings = [*check_servers(facts["source"], facts["target"]).findings, *found.findings, *takeover]
    move.found(Findings(findings, move.job.ignore).to_dict()["findings"])
    keep_lines(move, found)


NOT_YET: Final = ("takeover-staged", "takeover-init", "takeover-agent")
"""What the take-over misses as long as nothing has been copied."""


def takeover_findings(told: dict[str, Any]) -> list[Finding]:
    return [finding for finding in Findings.from_dict(told).findings if finding.id not in NOT_YET]


def lay_out(move: Move, source: ServerFacts, target: ServerFacts) -> Layout:
    places = [fs.mountpoint for fs in target.file_systems]
    missing = move.remotes["source"].ask("look", directories=places, hash=False)["missing"]
    return layout(source, target, missing, move.job.without)


def keep_lines(move: Move, found: Layout) -> None:
    """The lines are a part of the job from now on. A target whose file systems have changed since is another job."""
    lines = tuple(f"{_told(line.source)}={_told(line.target)}" for line in found.maps)
    if lines != move.job.maps:
        move.job = msgspec.structs.replace(move.job, maps=lines)
        move.keep(move.job)
    move.tell({"event": "layout", "maps": list(lines), "left": list(found.left), "hollow": list(found.hollow)})


def _told(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape").replace("=", "==")


def adapt(move: Move) -> None:
    """On the target, beside the replica. It looks itself whether it has been done and is still right."""
    said = {"policy": move.job.policy, "rules": move.job.rules, "ignore": list(move.job.ignore)}
    done = move.remotes["target"].run(["adapt", "--json", "--said", "-"], json.dumps(said))
    if done.returncode:
        raise failure(done.stdout, done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for finding in answer["findings"]:
        move.tell({"event": "finding", **finding})
    told = {key: answer[key] for key in ("mode", "edits", "seconds", "install_seconds", "already")}
    move.tell({"event": "adapted", **told})
    move.look("target")


def _begun(move: Move) -> bool:
    return bool(move.looks["source"]["job"] and move.looks["target"]["job"] and move.job.maps)


_CHECK: Final = Step("check", "compare the two machines: can this system run there?", _begun, check)
_ADAPT: Final = Step(
    "adapt",
    "make the moved system fit the target, beside the replica; install the take-over, not armed",
    lambda move: False,  # what the source has changed since, only the target can tell: it answers at once if nothing
    adapt,
)
_PLACED: Final = STEPS[:2]
SERVER_STEPS: Final = (*_PLACED, _CHECK, *STEPS[2:], _ADAPT)

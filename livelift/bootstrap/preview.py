"""What `livelift migrate --dry-run` can say of a whole server: checks, layout, and the plan as a diff. Nothing is
changed on either machine: an agent file that is not there yet runs from a directory that is gone afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from livelift.adapt import rules
from livelift.adapt.linux.agent_unit import with_agent
from livelift.adapt.linux.case import Policy, parse_policy
from livelift.adapt.linux.plan import make_plan
from livelift.adapt.linux.trees import Tree
from livelift.adapt.plan import Plan
from livelift.adapt.render import to_dict, to_text
from livelift.bootstrap.server import lay_out, takeover_findings
from livelift.bootstrap.steps import Move
from livelift.checks.findings import Findings
from livelift.checks.server import check_servers
from livelift.errors import CommandError
from livelift.model.facts import ServerFacts


def look(move: Move, side: str, more: Sequence[list[str]] = ()) -> list[str]:
    """What the agent's command line says there, for ``facts``, ``facts --files`` and ``more``."""
    arguments = [["facts", "--json"], ["facts", "--files"], *more]
    if move.looks[side]["agent"] == move.digest:
        done = [move.remotes[side].run(words, stateless=True) for words in arguments]
        return [one.stdout for one in done]
    size = move.agent.stat().st_size
    answer = move.remotes[side].ask("attempt", move.agent, size=size, digest=move.digest, arguments=arguments)
    for one in answer["said"]:
        if not one["stdout"]:
            raise CommandError(f"{side}: {one['stderr'].strip()[-600:]}", remedy="run livelift facts there by hand")
    return [str(one["stdout"]) for one in answer["said"]]


def preview(move: Move) -> int:
    """Told by ``move.tell``: findings, layout, plan. The exit code: 3 with an inhibitor."""
    there = look(move, "target", [["takeover", "install", "--dry-run", "--json"]])
    here = look(move, "source")
    source, target = (_facts(text[0]) for text in (here, there))
    old, new = (_tree(text[1]) for text in (here, there))
    found = lay_out(move, source, target)
    findings = Findings(
        [
            *check_servers(source, target).findings,
            *found.findings,
            *takeover_findings(json.loads(there[2])),
        ],
        move.job.ignore,
    )
    lines = [f"{m.source.decode(errors='replace')}={m.target.decode(errors='replace')}" for m in found.maps]
    move.tell({"event": "layout", "maps": lines, "left": list(found.left), "hollow": list(found.hollow)})
    for finding in findings.to_dict()["findings"]:
        move.tell({"event": "finding", **finding})
    plan = plan_of(move, source, target, old, new)
    shown = Findings(plan.findings, move.job.ignore)
    event: dict[str, Any] = {"event": "plan", "plan": to_dict(plan) | shown.to_dict(), "text": to_text(plan)}
    move.tell(event)
    return findings.exit_code or shown.exit_code


def plan_of(move: Move, source: ServerFacts, target: ServerFacts, old: Tree, new: Tree) -> Plan:
    policy = parse_policy(move.job.policy) if move.job.policy else Policy()
    plan = make_plan(source, target, old, new, policy)
    plan = with_agent(plan, move.unit_text(move.target_words()).encode())
    return rules.override(plan, rules.parse(move.job.rules)) if move.job.rules else plan


def _facts(text: str) -> ServerFacts:
    return msgspec.json.decode(text.encode(), type=ServerFacts)


def _tree(text: str) -> Tree:
    return Tree.from_json(text.encode())

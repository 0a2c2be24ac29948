"""The target's steps of a server job (docs/internals/server-job.md): what the source asks for by StageAsk, and the
operator at the control socket. Each looks first whether it has been done."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from livelift.adapt import rules
from livelift.adapt.linux.case import Policy, parse_policy
from livelift.adapt.linux.layout import layout
from livelift.adapt.render import to_dict, to_text
from livelift.checks.findings import Finding, Findings, Level
from livelift.checks.server import check_servers
from livelift.edits.overlay import Part
from livelift.errors import StateError, UsageError
from livelift.facts.collect import collect
from livelift.facts.host import Host
from livelift.model.facts import ServerFacts
from livelift.model.job import Map
from livelift.takeover.server import TakeOver
from livelift.target import reach
from livelift.target.adapting import Adapting
from livelift.target.expected import options_for, preview
from livelift.target.handover import Handover, reboot
from livelift.target.memory import LAYERS, Adapted, Memory, Stage
from livelift.target.stage import Verb

log = logging.getLogger(__name__)

_STALE = "adapt again (livelift adapt --job NAME), then try the cutover again"


def facts_of(root: str = "/") -> ServerFacts:
    host = Host(root)
    try:
        return collect(host)
    finally:
        host.close()


def make_places(maps: Sequence[Map]) -> None:
    """The staged places of a server job, on their file systems; what is there already stays. UsageError: a mount point
    is not there."""
    for line in maps:
        place = os.path.dirname(line.target)
        if not os.path.isdir(os.path.dirname(place)):
            raise UsageError(f"{os.fsdecode(os.path.dirname(place))} is no directory here", remedy="correct --map")
        for path in (place, line.target):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass


class ServerTarget:
    """``directory``: the agent's state directory. ``is_cut``: whether a cut stands, so that nothing is applied to the
    replica. ``root``: where the target's own system is, and ``collected`` its facts (for tests)."""

    def __init__(
        self,
        directory: str,
        maps: Sequence[Map],
        is_cut: Callable[[], bool],
        root: str = "/",
        collected: Callable[[], ServerFacts] = facts_of,
        adapting: Adapting | None = None,
        takeover: TakeOver | None = None,
        restart: Callable[[], None] = reboot,
    ) -> None:
        self._memory = Memory(directory)
        self._takeover = takeover or TakeOver()
        self.handover = Handover(self._memory, self._takeover, restart)
        self._is_cut = is_cut
        self._collected = collected
        self._parts = parts(maps)
        base = next((p.place for p in self._parts if p.mountpoint == "/"), None)
        if base is None:
            raise UsageError("a server job without a line for /", remedy="--map /=/.livelift/new, and the others")
        self._root = root
        self._adapting = adapting or Adapting(self._parts, base, root)

    def verbs(self) -> dict[str, Verb]:
        return {
            "facts": self.facts,
            "check": self.check,
            "plan": self.plan,
            "adapt": self.adapt,
            "stale": self.stale,
            "probe": self.probe,
            "settle": self.settle,
            "unsettle": self.unsettle,
            "addresses": self.addresses,
            "drop": self.drop,
            "install": self.install,
            "arm": self.handover.arm,
            "disarm": self.handover.disarm,
            "go": self.handover.go,
            "standing": self.handover.standing,
            "back": self.handover.back,
            "commit": self.handover.commit,
        }

    def begin(self, stop: threading.Event) -> None:
        """At the start of the agent, in whichever system: what an earlier one had begun, and what this one needs."""
        self.handover.resume()
        stage = self._memory.stage
        if stage.target is not None and not stage.committed and self._takeover.standing().system == "new":
            moved = [address for address, _ in stage.adapted.moves] if stage.adapted is not None else []
            reach.keep(stage.target, moved, stop)

    @property
    def committed(self) -> bool:
        return self._memory.stage.committed

    def status(self) -> dict[str, Any]:
        """For the agent's status; reads nothing but memory."""
        stage = self._memory.stage
        adapted = stage.adapted
        return {
            "facts": stage.source is not None,
            "mountpoints": [part.mountpoint for part in self._parts],
            "adapted": bool(adapted),
            "mode": adapted.mode if adapted else "",
            "edits": len(adapted.edits) if adapted else 0,
            "adapt_seconds": adapted.seconds if adapted else None,
            "made": adapted.made if adapted else None,
            "settled": stage.settled,
            "installed": stage.installed,
            "attempt": stage.going or stage.attempt,
            "committed": stage.committed,
            "findings": list(adapted.findings) if adapted else [],
        }

    # facts, check, plan

    def facts(self, options: dict[str, Any]) -> dict[str, Any]:
        """``facts``: the source's. Both are kept; the target's are taken anew and answered."""
        told = options.get("facts")
        ours = self._collected()
        try:
            source = msgspec.convert(told, ServerFacts) if told is not None else self._memory.stage.source
        except msgspec.ValidationError as error:
            raise UsageError(f"facts: {error}", remedy="use the same Livelift release everywhere") from error
        self._memory.change(source=source, target=ours)
        return {"facts": msgspec.to_builtins(ours)}

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """``ignore``: ids, kept from now on. The findings of both machines' facts, and of the layout."""
        ignored = self._memory.ignore(options)
        source, target = self._memory.facts()
        taking_part = {part.mountpoint for part in self._parts}
        others = [fs.mountpoint for fs in target.file_systems if fs.mountpoint not in taking_part]
        found = [*check_servers(source, target).findings, *layout(source, target, others).findings]
        found = [finding for finding in found if finding.id != "port-taken"]  # by this agent
        if not self._memory.stage.settled:
            found += preview(self._root, target, [part.mountpoint for part in self._parts])
        why = "" if self._memory.stage.settled else self._adapting.why_not_layers()
        if why:
            text = f"the adaptation cannot be made beside the replica ({why}): it is made behind the fence"
            found.append(Finding("adapt-in-place", Level.WARNING, text, "expect a longer fence: minutes"))
        return Findings(found, ignored).to_dict()

    def plan(self, options: dict[str, Any]) -> dict[str, Any]:
        """``policy``, ``rules``: as text, kept from now on. Made from the replica as it is; changes nothing."""
        self._refuse_settled("plan")
        self._keep(options)
        source, target = self._memory.facts()
        stage = self._memory.stage
        plan = self._adapting.see(lambda at: self._adapting.plan(stage, source, target, at))
        shown = Findings(plan.findings, stage.ignored).to_dict()
        return {"text": to_text(plan), **({} if options.get("brief") else {"plan": to_dict(plan) | shown})}

    # adapt

    def adapt(self, options: dict[str, Any]) -> dict[str, Any]:
        """``policy``, ``rules``, ``ignore``: kept from now on. ``again``: also when nothing has changed since."""
        self._refuse_settled("adapt")
        self._keep(options)
        source, target = self._memory.facts()
        before = self._memory.stage.adapted
        if before and not options.get("again") and not self._adapting.stale(self._memory.stage, source, target):
            return self._told(before) | {"already": True}
        self._memory.change(adapted=None, installed=False)
        made = self._adapting.adapt(self._memory.stage, source, target, lambda id: log.info("edit %s", id))
        self._memory.change(adapted=made.adapted)
        return self._told(made.adapted) | {"already": False}

    @staticmethod
    def _told(adapted: Adapted) -> dict[str, Any]:
        return {
            "mode": adapted.mode,
            "edits": len(adapted.edits),
            "findings": list(adapted.findings),
            "seconds": adapted.seconds,
        }

    def install(self, options: dict[str, Any]) -> dict[str, Any]:
        """The take-over into both boot directories, the staged one's in the layers; nothing leads to it yet. After it
        the layers are sealed. PreflightError: an inhibitor, with ids as the take-over gives them."""
        self._refuse_settled("install")
        self._memory.ignore(options)
        source, _ = self._memory.facts()
        stage = self._memory.stage
        if stage.adapted is None:
            raise StateError("nothing has been adapted yet", remedy=_STALE)
        if stage.installed and not options.get("again"):
            return {"findings": [], "seconds": 0.0, "already": True}
        began = time.monotonic()
        target = self._collected()
        self._memory.change(target=target)
        in_place = stage.adapted.mode != LAYERS
        findings = self._install(stage, source, target, in_place)
        if not in_place:
            self._adapting.seal()
        self._memory.change(installed=True)
        seconds = round(time.monotonic() - began, 3)
        return {"findings": findings.to_dict()["findings"], "seconds": seconds, "already": False}

    def _install(self, stage: Stage, source: ServerFacts, target: ServerFacts, dry: bool) -> Findings:
        """``dry``: of an adaptation that is made in place only what stands in the way is told; the rest is done when it
        is settled."""
        policy = parse_policy(stage.policy) if stage.policy else Policy()
        mounts = [part.mountpoint for part in self._parts]

        def work(at: str) -> Findings:
            return Findings(
                self._takeover.install(target, mounts, options_for(source, target, policy, at), dry), stage.ignored
            )

        if dry:
            findings = self._adapting.see(work)
        else:
            findings = self._adapting.see(work, layered=stage.adapted is not None and stage.adapted.mode == LAYERS)
        findings.raise_inhibitors()
        return findings

    def stale(self, options: dict[str, Any]) -> dict[str, Any]:
        source, target = self._memory.facts()
        if self._memory.stage.settled:
            return {"stale": False, "why": []}
        why = self._adapting.stale(self._memory.stage, source, target)
        return {"stale": bool(why), "why": why[:50]}

    def probe(self, options: dict[str, Any]) -> dict[str, Any]:
        """What the probe found in the adapted system when it was made; behind a cut, of what is settled now."""
        stage = self._memory.stage
        if stage.adapted is None:
            raise StateError("nothing has been adapted yet", remedy="livelift adapt --job NAME")
        if not stage.settled:
            kept = [f for f in stage.adapted.findings if f["id"].startswith("probe-")]
            return {"findings": kept, "inhibitors": 0, "ignored": list(stage.ignored), "made": stage.adapted.made}
        _, target = self._memory.facts()
        return Findings(self._adapting.probe(stage, target), stage.ignored).to_dict() | {"made": time.time()}

    def addresses(self, options: dict[str, Any]) -> dict[str, Any]:
        adapted = self._memory.stage.adapted
        if adapted is None:
            raise StateError("nothing has been adapted yet", remedy="livelift adapt --job NAME")
        return {"moves": [{"address": address, "interface": name} for address, name in adapted.moves]}

    # behind the fence

    def settle(self, options: dict[str, Any]) -> dict[str, Any]:
        """The adaptation into the replica. Whatever fails is taken back."""
        if not self._is_cut():
            raise StateError("nothing is settled before the cut", remedy="livelift cutover")
        source, target = self._memory.facts()
        stage, began = self._memory.stage, time.monotonic()
        if stage.settled:
            return {"entries": 0, "findings": [], "seconds": 0.0, "already": True}
        if stage.adapted is None:
            raise StateError("nothing has been adapted yet", remedy=_STALE)
        if stage.adapted.mode == LAYERS and (why := self._adapting.stale(stage, source, target)):
            text = f"the source has changed what the adaptation was made from: {'; '.join(why[:5])}"
            raise StateError(text, remedy=_STALE)
        self._memory.change(settled=True)  # before: after a crash it is known that there may be something to take back
        try:
            entries = self._adapting.settle(stage, source, target, lambda id: log.info("edit %s", id))
            if stage.adapted.mode != LAYERS and stage.installed:
                self._install(stage, source, target, False)
            settled = time.monotonic()
            findings = Findings(self._adapting.probe(stage, target), stage.ignored)
            findings.raise_inhibitors()
        except BaseException:
            self.unsettle({})
            raise
        seconds = {"seconds": round(settled - began, 3), "probe_seconds": round(time.monotonic() - settled, 3)}
        return {"entries": entries, "findings": findings.to_dict()["findings"], **seconds, "already": False}

    def unsettle(self, options: dict[str, Any]) -> dict[str, Any]:
        stage = self._memory.stage
        if not stage.settled:
            return {"entries": 0}
        if (system := self._takeover.standing().system) != "old" or stage.committed:
            raise StateError(f"the {system} system stands", remedy="livelift rollback leads back from it first")
        if stage.adapted is not None and stage.adapted.mode != LAYERS and stage.installed:
            self._takeover.uninstall()
        entries = self._adapting.unsettle(stage, stage.used)
        more = {"adapted": None, "installed": False} if stage.used else {}
        self._memory.change(settled=False, used=False, **more)
        return {"entries": entries}

    def undo(self) -> None:
        """The source serves again: nothing of an attempt is left. StateError: the new system stands."""
        self.handover.disarm({})
        self.unsettle({})

    def drop(self, options: dict[str, Any]) -> dict[str, Any]:
        """The undo of `adapt` and `install`. StateError: it is settled, a cut stands."""
        self._refuse_settled("drop")
        self._memory.change(adapted=None, installed=False)
        self._adapting.drop()
        self._takeover.uninstall()
        return {"dropped": True}

    # what the operator said

    def _keep(self, options: dict[str, Any]) -> None:
        """UsageError: a policy or rules that are none; nothing is kept then."""
        said = {name: str(options[name]) for name in ("policy", "rules") if options.get(name) is not None}
        if said.get("policy"):
            parse_policy(said["policy"])
        if said.get("rules"):
            rules.parse(said["rules"])
        if said:
            self._memory.change(**said)
        self._memory.ignore(options)

    def _refuse_settled(self, verb: str) -> None:
        if self._memory.stage.settled:
            raise StateError(
                f"no {verb}: the adaptation is settled in the replica, a cut stands",
                remedy="livelift rollback leads back to the source",
            )


def parts(maps: Sequence[Map]) -> list[Part]:
    """The file systems of a server job's lines, in the order in which they are mounted."""
    found = [Part(os.fsdecode(line.source), os.path.dirname(os.fsdecode(line.target))) for line in maps]
    return sorted(found, key=lambda part: (part.mountpoint.count("/"), len(part.mountpoint)))

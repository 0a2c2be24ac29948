"""The source agent as a service: its status, its verbs, its cutover; what the control socket and the command line
talk to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from livelift.control.server import ControlServer, Reply
from livelift.errors import StateError
from livelift.lifecycle.states import State
from livelift.platform.system import os
from livelift.source.agent import SourceAgent
from livelift.source.cutting import Cutting, gap_list
from livelift.source.edge import lost_parts
from livelift.source.moving import Moving
from livelift.verify.render import render


class SourceService:
    """``make_cutover``: see `Moving`. ``fence``: what is taken from this machine, and what a fence keeper did."""

    def __init__(
        self,
        agent: SourceAgent,
        make_cutover: Callable[[Cutting, dict[str, Any]], Any],
        fence: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self.agent = agent
        self.moving = Moving(agent, make_cutover)
        self._fence = fence
        self._last_bytes = (time.monotonic(), 0)
        self._rate = 0.0
        self._control = ControlServer(
            agent.config.directory,
            {
                "status": self._status,
                "verify": self._verify,
                "cutover": self.moving.cut_over,
                "cut": agent.cuts.run,
                "commit": self.moving.commit,
                "rollback": self.moving.roll_back,
                "stop": self._stop,
                "ranges": self._gaps,
                "stage": self._stage,
            },
        )

    def close(self) -> None:
        self._control.close()
        self.moving.close()

    # -- status ------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """``durable``: all that happened before this call is on the target and would survive a power cut there."""
        agent = self.agent
        following = agent.state is State.FOLLOWING
        heard = following and agent.follower.sync(agent.capture, 0.3)  # what is still in the kernel's queue counts
        sender, spool, walker = agent.sender, agent.journal.spool, agent.walker
        now = time.monotonic()
        done = walker.readers.bytes + agent.changes.bytes_read
        at, before = self._last_bytes
        if now - at >= 0.5:
            self._rate = (done - before) / (now - at)
            self._last_bytes = (now, done)
        p50, p95, p99 = sender.lag.percentiles()
        oldest = [t for t in (agent.dirty.oldest(), sender.lag.oldest()) if t]
        backlog = spool.backlog_bytes(sender.applied_lsn)
        percent = self._percent()
        problems = [*walker.problems.values(), *agent.changes.problems.values(), *lost_parts()]
        return {
            "role": "source",
            "job": agent.config.job,
            "state": str(agent.state),
            "connected": sender.connected.is_set(),
            "capture_mode": agent.choice.name,
            "promise": agent.choice.promise,
            "blind_to": list(agent.choice.blind_to),
            "capture_why": agent.choice.why,
            "capture_rejected": [list(r) for r in agent.choice.rejected],
            "initial_percent": round(percent, 1),
            "files": agent.journal.index.count,
            "bytes": done,
            "rate": round(self._rate),
            "lag": round(max(time.time_ns() - min(oldest), 0) / 1e9, 3) if oldest else 0.0,
            "lag_p50": round(p50, 4),
            "lag_p95": round(p95, 4),
            "lag_p99": round(p99, 4),
            "backlog": backlog,
            "dirty": len(agent.dirty) + len(agent.bulk),
            "directories_to_walk": len(walker.queue),
            "eta": self._eta(percent),
            "durable": heard and agent.drain.is_settled() and sender.durable_lsn >= spool.last_lsn,
            "last_lsn": spool.last_lsn,
            "sent_lsn": sender.sent_lsn,
            "applied_lsn": sender.applied_lsn,
            "durable_lsn": sender.durable_lsn,
            "spool_bytes": spool.disk_bytes,
            "events": agent.follower.events,
            "gaps": len(agent.gaps),
            "gaps_total": agent.gaps.total,
            "gap_list": gap_list(agent, 20),
            "problems": [
                {"path": os.fsdecode(p.path), "code": p.code, "detail": p.detail, "remedy": p.remedy}
                for p in problems[:50]
            ],
            "problem_count": len(problems),
            "skipped": [[os.fsdecode(s.path), s.reason] for s in agent.volumes.skipped],
            "stalled": sender.stalled or ("" if sender.connected.is_set() else sender.last_error or "not connected"),
            "paused": agent.pause.is_set(),
            "reconnects": sender.reconnects,
            "verified": agent.verifier.last,
            "warm": round(agent.verifier.warm, 3),
            "impact": agent.governor.describe(),
            "duty": round(agent.governor.duty, 2),
            "wire_bytes": sender.wire_bytes(),
            "target_free": sender.target_free,
            "target": agent.target_facts,
            "cut": self.moving.result,
            "handover": self.moving.handover(),
            "kind": "server" if agent.config.server else "data",
            "note": agent.note.state,
            "fence": self._fence(),
            "uptime": round(now - agent.began, 1),
            "base_bytes": walker.readers.bytes,
            "initial_seconds": round(agent.initial_done - agent.began, 3) if agent.initial_done else None,
        }

    def _percent(self) -> float:
        agent = self.agent
        if agent.state not in (State.CONNECTING, State.INITIAL):
            return 100.0
        known = agent.journal.index.count
        total = 0
        for m in agent.config.maps:
            st = os.statvfs(m.source)
            whole = os.path.ismount(m.source) and st.f_files
            total += st.f_files - st.f_ffree if whole else 0
        if total <= 0:  # part of a file system: by directories
            walked = agent.walker.directories
            return 99.0 * walked / max(walked + len(agent.walker.queue), 1)
        return min(100.0 * known / total, 99.0)

    def _eta(self, percent: float) -> float | None:
        if percent >= 100:
            return 0.0
        elapsed = time.monotonic() - self.agent.began
        return round(elapsed * (100 - percent) / percent, 1) if percent > 1 else None

    # -- verbs -------------------------------------------------------------------------------------------------------

    def _status(self, _: dict[str, Any]) -> Iterator[Reply]:
        yield self.status()

    def _gaps(self, request: dict[str, Any]) -> Iterator[Reply]:
        yield {"gaps": gap_list(self.agent, int(request.get("limit", 1000)))}

    def _stop(self, _: dict[str, Any]) -> Iterator[Reply]:
        self.agent.stop()
        yield {"stopping": True}

    def _stage(self, request: dict[str, Any]) -> Iterator[Reply]:
        """A step of the target's, asked for at this machine: ``step``, ``options``, ``timeout`` in seconds."""
        deadline = time.monotonic() + float(request.get("timeout") or 3600)
        if request.get("step") == "facts" and self.agent.server is not None:
            yield {"facts": self.agent.server.tell(deadline)}
            return
        yield self.agent.stage.ask(str(request.get("step")), deadline, **(request.get("options") or {}))

    def _verify(self, request: dict[str, Any]) -> Iterator[Reply]:
        fraction = float(request.get("sample") or 1.0)
        deadline = time.monotonic() + float(request.get("timeout") or 3600)
        began = time.monotonic()
        agent = self.agent
        if agent.state is State.CUT:
            found, outcome = agent.verifier.compare(deadline, fraction)
        elif agent.state is State.FOLLOWING:
            found, outcome = agent.verifier.live(deadline, fraction)
        else:
            raise StateError(f"nothing to verify while the job is {agent.state}", remedy="wait until it is following")
        verdict = agent.verifier.verdict(found, outcome, time.monotonic() - began, fraction)
        answer = {**verdict.report, "state": str(agent.state), "listing": verdict.listing, "sample": fraction}
        if request.get("report"):
            answer["report"] = agent.verifier.signed().decode()
            assert agent.verifier.report is not None
            answer["text"] = render(agent.verifier.report)
        yield answer

"""The source agent as a service: its status, its verbs, its cutover; what the control socket and the command line
talk to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from livelift.control.server import ControlServer, Reply
from livelift.errors import LockedError, StateError
from livelift.lifecycle.states import State
from livelift.model.record import Kind, Mark
from livelift.platform.system import os
from livelift.protocol.messages import CutAsk, CutDone
from livelift.source.agent import SourceAgent
from livelift.source.edge import lost_parts
from livelift.verify.render import render

NOT_CUT = "the source serves already: a rollback is for after a cutover"


COMPARED = {"mmap", "inode-flags", "project-id"}
"""What a mode may be blind to without a second look at every name behind the fence: the preparation has just taken
one, and the
closing verification compares all of it by changed stamps; what it finds is read again and compared again."""


class SourceService:
    """``make_cutover`` builds a `livelift.cutover` over this object (floor 3 rooms do not know each other)."""

    def __init__(
        self,
        agent: SourceAgent,
        make_cutover: Callable[[SourceService, dict[str, Any]], Any],
        fence: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """``fence``: what is taken from this machine, and what a fence keeper did, for the status."""
        self.agent = agent
        self._make_cutover = make_cutover
        self._fence = fence
        self._cutover: Any = None
        self._cutting = threading.Lock()
        self._last_bytes = (time.monotonic(), 0)
        self._rate = 0.0
        self.cut_result: dict[str, Any] = {}
        self._control = ControlServer(
            agent.config.directory,
            {
                "status": self._status,
                "verify": self._verify,
                "cutover": self._cut_over,
                "rollback": self._rollback,
                "stop": self._stop,
                "ranges": self._gaps,
                "stage": self._stage,
            },
        )

    def close(self) -> None:
        self._control.close()
        if self._cutover is not None and self.agent.note.stands:
            self._cutover.fence_stays()

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
            "gap_list": self._gap_list(20),
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
            "cut": self.cut_result,
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

    def _gap_list(self, limit: int) -> list[dict[str, Any]]:
        agent = self.agent
        out = []
        for oid, gap in agent.gaps.listing(limit):
            path = agent.live.path_of(oid) if oid > 0 else b"(a whole volume)"
            out.append({"path": os.fsdecode(path or b"?"), "reason": gap.reason, "detail": gap.detail})
        return out

    # -- verbs -------------------------------------------------------------------------------------------------------

    def _status(self, _: dict[str, Any]) -> Iterator[Reply]:
        yield self.status()

    def _gaps(self, request: dict[str, Any]) -> Iterator[Reply]:
        yield {"gaps": self._gap_list(int(request.get("limit", 1000)))}

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

    def _cut_over(self, request: dict[str, Any]) -> Iterator[Reply]:
        agent = self.agent
        state = agent.state
        if state is State.CUT:
            yield {**self.cut_result, "already": True}
            return
        if state is not State.FOLLOWING:
            raise StateError(f"no cutover while the job is {agent.state}", remedy="wait until it is following")
        if request.get("dry_run"):
            status = self.status()
            yield {
                "dry_run": True,
                "would": ["prepare", "fence", "drain", "verify", "cut"],
                "fence": self._make_cutover(self, request).fence_name,
                "gaps": status["gaps"],
                "backlog": status["backlog"],
                "lag": status["lag"],
            }
            return
        if not self._cutting.acquire(blocking=False):
            raise LockedError("a cutover is under way", remedy="wait for it: livelift status --watch")
        try:
            yield from self._attempt(request)
        finally:
            self._cutting.release()

    def _attempt(self, request: dict[str, Any]) -> Iterator[Reply]:
        agent = self.agent
        self._cutover = cutover = self._make_cutover(self, request)
        with closing(cutover.run()) as going:
            for name in going:
                yield {"step": name, "state": str(agent.state)}
        result = cutover.result
        self.cut_result = {
            "state": str(agent.state),
            "cut_lsn": result.cut_lsn,
            "fence_seconds": round(result.fence_seconds, 3),
            "prepare_seconds": round(result.prepare_seconds, 3),
            "drain_seconds": round(result.drain_seconds, 3),
            "verify_seconds": round(result.verify_seconds, 3),
            "differences": result.verdict.differences,
            "fence": cutover.fence_name,
            "capture_mode": agent.choice.name,
            "verification": result.verdict.report,
        }
        yield self.cut_result

    def _rollback(self, _: dict[str, Any]) -> Iterator[Reply]:
        """After a cut: the source serves again, and its changes are followed again."""
        if self.agent.state is not State.CUT:
            raise StateError(f"there is nothing to roll back while the job is {self.agent.state}", remedy=NOT_CUT)
        (self._cutover or self._make_cutover(self, {})).fence_down()
        self.agent.resume()
        self.cut_result = {}
        self._cutover = None
        yield {"state": str(self.agent.state)}

    # -- what the cutover asks (livelift.cutover.cutover.Source) ------------------------------------------------------

    def move(self, event: str) -> None:
        note = self.agent.note
        if event == "fence":
            note.set("fenced")  # before it goes up: an agent that dies now takes it down when it is started again
        elif event == "abort":
            note.set("undone" if note.state == "asked" else "")
            if note.state == "undone":
                self.agent.sender.renewed = True
        self.agent.move(event)

    def prepare(self, deadline: float) -> None:
        agent = self.agent
        agent.drain.wait_until(agent.sender.connected.is_set, deadline, "the target")
        agent.verifier.warm_up(deadline)
        agent.healer.mark_mapped()
        agent.walker.add(0, True)
        agent.drain.settle_roughly(deadline)
        agent.drain.wait_applied(agent.journal.spool.last_lsn, deadline)
        agent.verifier.warm_up(deadline)

    def drain(self, deadline: float) -> None:
        agent = self.agent
        agent.drain.settle(deadline)
        agent.healer.mark_mapped()
        if set(agent.choice.blind_to) - COMPARED:
            agent.walker.add(0, True)  # what no event told: changed stamps
        agent.drain.settle(deadline)
        agent.house.purge_limbo()
        agent.drain.settle(deadline)
        lsn = agent.journal.put(Kind.FENCE, Mark("cutover"))
        agent.drain.wait_applied(lsn, deadline)

    def verify(self, deadline: float) -> Any:
        began = time.monotonic()
        found, outcome = self.agent.verifier.compare(deadline)
        return self.agent.verifier.verdict(found, outcome, time.monotonic() - began)

    def repair(self, verdict: Any) -> None:
        self.agent.verifier.repair(verdict.found)

    def open_gaps(self) -> list[str]:
        """What is known to be missing, objects or parts of them, but for what the operator has said to go without."""
        return [f"{g['path']}: {g['reason']} {g['detail']}".strip() for g in self._gap_list(100)] + [
            f"{os.fsdecode(p.path)}: {p.detail} [{p.code}]"
            for p in lost_parts()
            if p.code not in self.agent.config.ignored
        ]

    def cut(self, label: str, deadline: float) -> int:
        agent = self.agent
        lsn = agent.journal.put(Kind.CUT, Mark(label))
        agent.drain.wait_applied(lsn, deadline)
        channel = agent.sender.channel
        if channel is None:
            raise StateError("the link is down", remedy="it is tried again by itself; try the cutover again then")
        agent.note.set("asked")
        channel.send(CutAsk(lsn, label))
        late = StateError("the target did not confirm the cut", remedy="try the cutover again")

        def alive() -> None:
            agent.check()
            if not agent.sender.connected.is_set():
                raise late

        done = agent.answers.take(CutDone, lsn, deadline, alive)
        if done is None:
            raise late
        if done.problem:
            raise StateError(f"the target refuses the cut: {done.problem}", remedy="see the target's log")
        agent.note.set("cut")
        return lsn

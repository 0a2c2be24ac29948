"""Verification from the source's side: it asks, the target answers; rolling while following, whole at the cut."""

from __future__ import annotations

import itertools
import logging
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from livelift import __version__
from livelift.errors import StateError, UnreachableError
from livelift.identity import ca
from livelift.model.verdict import Verdict
from livelift.platform.system import os, stamp_clock, writable_shared_mappings
from livelift.protocol.messages import VerifyAnswer, VerifyAsk
from livelift.source.edge import attributes_at
from livelift.source.repair import Repair
from livelift.verify.cache import DigestCache, Mapped
from livelift.verify.compare import Difference, still_different
from livelift.verify.exchange import Asker, Outcome
from livelift.verify.report import Report, make_report, side, sign
from livelift.verify.rolling import Progress
from livelift.verify.verifier import TreeVerifier
from livelift.walk.ignore import IgnoreRules
from livelift.walk.scope import ABSENT

if TYPE_CHECKING:
    from livelift.source.agent import SourceAgent

log = logging.getLogger(__name__)

WARMING = 0.3
IDLE = 10.0
"""Seconds between two slices of 0.15 s of the rolling verification: a third of a core until everything has been
hashed once, a
hundredth from then on. A cutover does not wait for it: it hashes what is left at full speed before the fence."""
ROUNDS = 4
"""Comparisons, each but the last with a repair, until a replica that was a running system is the source again."""

UNTOLD = {"flags": "inode-flags", "project": "project-id"}
"""Fields of a difference, and what a capture says when it is blind to them."""

DIALOGUE = b"dialogue"
RULES = b"rules"
ROLL = b"roll"
NTFS = b"ntfs"
WINDOW = 4


class SourceVerifier:
    """Wraps one `TreeVerifier`; one verification at a time."""

    def __init__(self, agent: SourceAgent) -> None:
        self._agent = agent
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._cache = DigestCache(os.path.join(agent.config.directory, b"digests.sqlite"))
        self.rules = IgnoreRules(agent.config.maps, self._bare(), self._own())
        roots = list(enumerate(m.source for m in agent.config.maps))
        self.verifier = TreeVerifier(roots, attributes_at, self._cache, self.rules.scope_of, threads=4)
        self._repair = Repair(agent)
        self.last: dict[str, Any] = {}
        self.warm = 0.0
        self.report: Report | None = None

    def close(self) -> None:
        self.verifier.close()
        self._cache.close()

    def _bare(self) -> list[tuple[int, bytes]]:
        return self._relative(lambda reason: reason not in ABSENT)

    def _own(self) -> list[tuple[int, bytes]]:
        return self._relative(ABSENT.__contains__)

    def _relative(self, wanted: Any) -> list[tuple[int, bytes]]:
        found = []
        for item in self._agent.volumes.skipped:
            for number, m in enumerate(self._agent.config.maps):
                root = os.path.realpath(m.source).rstrip(b"/") + b"/"
                if item.path.startswith(root) and wanted(item.reason):
                    found.append((number, item.path[len(root) :]))
        return found

    def _mapped(self) -> Mapped:
        taken = stamp_clock()
        return Mapped(frozenset(writable_shared_mappings()), taken)

    # -- the whole comparison ----------------------------------------------------------------------------------------

    def compare(self, deadline: float, fraction: float = 1.0) -> tuple[list[Difference], Outcome]:
        """One pass over both trees, as they are. StateError at the deadline, UnreachableError if the link breaks."""
        with self._lock:
            if self._agent.config.ntfs_target:
                self._ask(NTFS, b"", deadline)
            self._ask(RULES, msgspec.msgpack.encode(self.rules.portable()), deadline)
            key = secrets.token_bytes(32)
            self.verifier.begin(fraction, key)
            self.verifier.mapped(self._mapped())
            asker = Asker(self.verifier.everything(), self.verifier.links, self.verifier.maps, fraction, key, WINDOW)
            found: list[Difference] = []
            waiting: list[int] = []
            while asker.outcome is None:
                request = asker.request()
                if request is not None:
                    waiting.append(self._send(DIALOGUE, request))
                    continue
                if not waiting:
                    raise StateError("the verification has come to a halt")
                found += asker.receive(self._reply(waiting.pop(0), deadline))
            return found, asker.outcome

    def live(self, deadline: float, fraction: float = 1.0, rounds: int = 4) -> tuple[list[Difference], Outcome]:
        """While the workload runs: only what differs in every round counts, and has not changed on the source between
        two. What the capture is blind to is read again before each. Each round waits for what was in the log at the one
        before; with a long lag that is long."""
        kept: list[Difference] | None = None
        outcome: Outcome | None = None
        for attempt in range(rounds):
            if attempt:
                time.sleep(min(0.5 * 2**attempt, 3.0))
                self._read_untold(kept or [], deadline)
                self._agent.drain.wait_applied(self._agent.journal.spool.last_lsn, deadline)
            found, outcome = self.compare(deadline, fraction)
            kept = still_different(kept, found)
            if not kept:
                break
        assert outcome is not None and kept is not None
        return kept, outcome

    def _read_untold(self, found: list[Difference], deadline: float) -> None:
        """Read again what of the differences may come from changes that nothing tells of: attributes, and stores
        through mappings, of which every mode hears when the kernel writes them to disk at the earliest. A file into
        which somebody stores all the time then differs by other stores in each round."""
        agent = self._agent
        blind = agent.choice.blind_to
        with agent.journal.lock:
            objects = [(self._repair.find(difference)[0], difference.field) for difference in found]
        again = {oid for oid, field in objects if UNTOLD.get(field) in blind}
        again |= agent.healer.untold({oid for oid, _ in objects})
        again.discard(0)
        if not again:
            return
        log.info("verification: %d objects that differ may have been changed untold; read again", len(again))
        agent.dirty.ask(again)
        agent.drain.wait_until(
            lambda: not agent.dirty.is_asked(again) and not agent.bulk.has(again), deadline, "mapped files to be read"
        )

    def verdict(self, found: list[Difference], outcome: Outcome, seconds: float, fraction: float = 1.0) -> Verdict:
        agent = self._agent
        here = side(socket.gethostname(), self.verifier.finished(outcome.source_tree))
        there = side(agent.config.host, msgspec.structs.replace(outcome.target, tree=outcome.target_tree))
        maps = [(i, m.source, m.target) for i, m in enumerate(agent.config.maps)]
        self.report = make_report(
            tool=f"livelift {__version__}",
            job=agent.config.job,
            cut=agent.sender.applied_lsn,
            time=time.time_ns(),
            capture=agent.choice.name,
            sample=fraction,
            maps=maps,
            source=here,
            target=there,
            differences=found,
        )
        summary = {
            "differences": self.report.failing,
            "notes": self.report.notes,
            "seconds": round(seconds, 3),
            "sample": fraction,
            "source": msgspec.to_builtins(here),
            "target": msgspec.to_builtins(there),
        }
        self.last = {**summary, "time": time.time()}
        failing = [d for d in found if d.fails]
        return Verdict(len(failing), [describe(d) for d in failing[:200]], summary, failing)

    def signed(self) -> bytes:
        """The last report with this agent's signature (the key of its certificate)."""
        assert self.report is not None
        return sign(self.report, (Path(os.fsdecode(self._agent.config.directory)) / "identity" / ca.LEAF).read_bytes())

    def warm_up(self, deadline: float) -> None:
        """Hash now what has changed since the last round, so that little is left for the fence."""
        with self._lock:
            self.verifier.mapped(self._mapped())
            done_here = done_there = False
            while not (done_here and done_there):
                self._agent.check()
                if time.monotonic() > deadline:
                    raise StateError("the trees could not be hashed in time", remedy="give a longer --timeout")
                answer = self._send(ROLL, NTFS if self._agent.config.ntfs_target else b"")
                done_here = done_here or self.verifier.step(0.15).round_done
                there = msgspec.msgpack.decode(self._reply(answer, deadline), type=Progress)
                done_there = done_there or there.round_done
            self.warm = 1.0

    def make_good(self, deadline: float) -> None:
        """What the log says may not be what the target has: both trees are made equal now, and the gap that says so is
        closed. StateError: they differ still."""
        agent = self._agent
        for _ in range(ROUNDS):
            began = time.monotonic()
            found, outcome = self.live(deadline)
            self.verdict(found, outcome, time.monotonic() - began)
            if not found:
                agent.compared()
                agent.drain.wait_until(lambda: all(oid > 0 for oid, _ in agent.gaps.listing()), deadline, "the gap")
                return
            self.repair(found)
            agent.drain.settle_roughly(deadline)
            agent.drain.wait_applied(agent.journal.spool.last_lsn, deadline)
        raise StateError("the replica still differs: " + describe(found[0]), remedy="livelift verify lists it all")

    def repair(self, found: list[Difference]) -> None:
        """As `Repair.run`; what differs is looked at first."""
        with self._lock:
            told = self._repair.look(found, self.verifier.pieces, self._ask)
        self._repair.run(found, told)

    # -- rolling -----------------------------------------------------------------------------------------------------

    def roll(self, stop: threading.Event) -> None:
        """While following: hash what was not hashed yet on both sides, little by little; then compare now and then."""
        agent = self._agent
        next_check = time.monotonic() + 5.0
        base = 0
        while not stop.wait(IDLE if self.warm >= 1.0 and not agent.collapse_reason else WARMING):
            if agent.state != "following" or not agent.sender.connected.is_set():
                continue
            base = base or agent.journal.spool.last_lsn
            if agent.sender.durable_lsn < base:  # the target's disk is still busy with the base copy
                continue
            if not self._lock.acquire(blocking=False):
                continue
            try:
                self.verifier.mapped(self._mapped())
                self.warm = self._step()
            except (UnreachableError, StateError, OSError) as error:
                log.info("rolling verification: %s", error)
                continue
            finally:
                self._lock.release()
            doubted = bool(agent.collapse_reason)  # a busy machine never settles; the comparison can do without
            if self.warm >= 1.0 and time.monotonic() >= next_check and (doubted or agent.drain.is_settled()):
                self._check()
                # A log that was given up stays a gap until both trees have been found equal.
                next_check = time.monotonic() + (1.0 if agent.collapse_reason else agent.config.verify_every)

    def _step(self) -> float:
        """One slice here, one there; the smaller share of both that is known."""
        answer = self._send(ROLL, NTFS if self._agent.config.ntfs_target else b"")
        here = share(self.verifier.step(0.15), self._agent.journal.index.count)
        there = msgspec.msgpack.decode(self._reply(answer, time.monotonic() + 30), type=Progress)
        return min(here, share(there, self._agent.journal.index.count))

    def _check(self) -> None:
        try:
            began = time.monotonic()
            found, outcome = self.live(time.monotonic() + 600)
            self.verdict(found, outcome, time.monotonic() - began)
            if found:
                log.warning("rolling verification: %d differences, e.g. %s", len(found), describe(found[0]))
                self.repair(found)
            elif self._agent.collapse_reason:
                self._agent.compared()
        except (UnreachableError, StateError) as error:
            log.info("rolling verification: %s", error)

    # -- the wire ----------------------------------------------------------------------------------------------------

    def _send(self, kind: bytes, payload: bytes) -> int:
        channel = self._agent.sender.channel
        if channel is None:
            raise UnreachableError("the target: the link is down", remedy="it is tried again by itself")
        number = next(self._ids)
        channel.send(VerifyAsk(number, kind, payload))
        return number

    def _reply(self, number: int, deadline: float) -> bytes:
        def alive() -> None:
            if not self._agent.sender.connected.is_set():
                raise UnreachableError(
                    "the target: the link broke during the verification",
                    remedy="it is tried again by itself; verify again then",
                )

        answer = self._agent.answers.take(VerifyAnswer, number, deadline, alive)
        if answer is None:
            raise StateError("the target did not answer the verification in time", remedy="try again")
        if answer.kind == b"error":
            raise StateError(f"the target cannot verify: {answer.payload.decode(errors='replace')}")
        return answer.payload

    def _ask(self, kind: bytes, payload: bytes, deadline: float) -> bytes:
        return self._reply(self._send(kind, payload), deadline)


def share(progress: Progress, total: int) -> float:
    """How much of a tree of ``total`` objects has been hashed: 1.0 from the end of the first round on."""
    if progress.round_done or progress.round > 1:
        return 1.0
    return min(progress.objects / max(total, 1), 0.99)


def describe(difference: Difference) -> str:
    path = os.fsdecode(difference.path) or "."
    return f"{path}: {difference.field}: {difference.source} | {difference.target}"


__all__ = ["DIALOGUE", "ROLL", "RULES", "SourceVerifier", "describe"]

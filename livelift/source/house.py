"""Housekeeping of the source agent: what is done now and then, by two threads of their own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from livelift.lifecycle.states import State
from livelift.model.entry import limbo
from livelift.model.record import Kind, Mark
from livelift.protocol.messages import Renew
from livelift.source.times import tell_times

if TYPE_CHECKING:
    from livelift.source.agent import SourceAgent

MAPPED_EVERY = 2.0
MAPPED_DUTY = 100
"""Seconds between two looks at who has a file mapped writable, and how many times longer than the look itself: at
most one percent of one core on a machine with thousands of processes."""

COMMIT_EVERY = 1.0
PURGE_EVERY = 2.0
RENEW_AGAIN = 600.0
PAUSE_AT = 0.8
"""Share of the spool's cap from which changes wait (and coalesce) instead of being read."""


class House:
    def __init__(self, agent: SourceAgent) -> None:
        self._agent = agent
        self._renew_at = 0.0

    def keep(self) -> None:
        agent = self._agent
        committed = purged = time.monotonic()
        while not agent.stop_event.wait(0.1):
            spool = agent.journal.spool
            if spool.disk_bytes > PAUSE_AT * agent.config.spool_cap:
                agent.pause.set()
            elif spool.disk_bytes < 0.6 * agent.config.spool_cap:
                agent.pause.clear()
            if agent.trust is not None and agent.trust.is_due and time.monotonic() > self._renew_at:
                channel = agent.sender.channel
                if channel is not None:
                    self._renew_at = time.monotonic() + RENEW_AGAIN
                    channel.send(Renew(agent.trust.begin_renewal()))
            if time.monotonic() - committed >= COMMIT_EVERY:
                agent.journal.commit()
                tell_times(agent.journal, agent.brackets, agent.dirty)
                committed = time.monotonic()
            # During the base copy too: a big file below a directory in limbo would wait for the purge, and the end of
            # the base copy for that file.
            purging = agent.state in (State.INITIAL, State.FOLLOWING)
            if purging and time.monotonic() - purged >= PURGE_EVERY:
                self.purge_limbo()
                purged = time.monotonic()
            if agent.state in (State.INITIAL, State.FOLLOWING) and agent.walker.queue.idle() and agent.bulk.idle():
                self._base_complete()

    def _base_complete(self) -> None:
        agent = self._agent
        if agent.state is State.INITIAL and agent.sender.connected.is_set():
            self.purge_limbo()
            agent.journal.put(Kind.BASE_DONE, Mark("base"))
            agent.initial_done = time.monotonic()
            agent.move("follow")
        for oid, _ in agent.gaps.listing():
            if oid <= 0 and agent.walker.queue.idle() and agent.follower.failure is None and not agent.collapse_reason:
                agent.gaps.close(oid)

    def purge_limbo(self) -> bool:
        """What nobody claimed is gone from the source: what waited before everything captured so far was processed.
        False: something waits, and may still be claimed."""
        agent = self._agent
        index = agent.journal.index
        with agent.journal.lock:
            places = [limbo(number) for number in range(len(agent.config.maps))]
            waiting = [(place, name) for place in places for name, _ in index.children(place)]
        if not waiting:
            return True
        if not agent.follower.sync(agent.capture, 10) or not agent.walker.queue.idle() or agent.follower.waits:
            return False
        for place, name in waiting:
            with agent.journal.lock:
                agent.follower.remove(place, name, 0)
        return True

    def watch_mappings(self) -> None:
        agent = self._agent
        wait = MAPPED_EVERY
        while not agent.stop_event.wait(wait):
            began = time.monotonic()
            agent.healer.note_mappings()
            wait = max(MAPPED_EVERY, MAPPED_DUTY * (time.monotonic() - began))

"""The source agent: everything that runs on the machine that is being moved, wired together.

Threads: one lists directories, several read small files, one follows the captured events, one reads what changed, two
read big files, one sends, one keeps house. All of them live under one guard: a failure that is ours stops the agent
loudly (and the fence, if it is up, comes down); trouble with a source file never does.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from livelift import __version__
from livelift.errors import LiveliftError, RetryError, StoreError
from livelift.identity.trust import Trust
from livelift.index.tree import TreeIndex
from livelift.lifecycle.states import State, move
from livelift.merge.brackets import Brackets
from livelift.model.entry import object_id
from livelift.model.job import Map
from livelift.model.record import Kind, Make, Record
from livelift.platform.system import lower_priority, normal_priority, os
from livelift.ports import Capture, Event, ring
from livelift.protocol.messages import Hello, Message, Renewed, Resync, Welcome
from livelift.source import edge
from livelift.source.answers import Answers
from livelift.source.changes import Changes
from livelift.source.checks import check_welcome
from livelift.source.config import SourceConfig
from livelift.source.cut_note import STANDING, CutNote
from livelift.source.cuts import Cuts
from livelift.source.dirty import Dirty
from livelift.source.drain import Drain
from livelift.source.edge import Choice, attributes_at, attributes_of_fd, choose, find_volumes, store_as_ntfs
from livelift.source.exclude import Exclusions
from livelift.source.follower import Follower
from livelift.source.gaps import Gaps
from livelift.source.governor import Governor
from livelift.source.healer import Healer
from livelift.source.house import House
from livelift.source.journal import Journal
from livelift.source.live import Live
from livelift.source.sectors import SectorReader
from livelift.source.sender import Sender
from livelift.source.server import ServerJob
from livelift.source.stage import StageClient
from livelift.source.verifying import SourceVerifier
from livelift.source.volumes import Volumes
from livelift.source.walker import Walker
from livelift.transport.channel import Channel

log = logging.getLogger(__name__)


class SourceAgent:
    """``connect`` opens a channel to the target. Nothing runs before `start`."""

    def __init__(
        self, config: SourceConfig, connect: Callable[[], Channel], give_back: Callable[[], None] = lambda: None
    ) -> None:
        """``give_back``: what the fence of an attempt that died with its agent has taken."""
        self.config = config
        self.give_back = give_back
        self._directory = config.directory
        self.stop_event = threading.Event()
        self.failure: BaseException | None = None
        self.note = CutNote(config.directory, config.server)
        self._threads: list[threading.Thread] = []
        self.state = State.CONNECTING
        self._state_lock = threading.RLock()
        self.began = time.monotonic()
        self.initial_done = 0.0
        self._following = self._links = False  # what runs
        self._intact: bool | None = None

        store_as_ntfs(config.ntfs_target)
        self.volumes: Volumes = find_volumes(config.maps, config.own_directories(), config.left, config.hollow)
        self.capture: Capture
        self.choice: Choice
        self.capture, self.choice = choose(self.volumes.watched(), config.capture)
        index = TreeIndex(os.path.join(self._directory, b"index.sqlite"))
        self.journal = Journal(
            os.path.join(self._directory, b"spool"),
            config.job,
            index,
            config.spool_cap,
            config.spool_memory,
            self._collapsed,
        )
        self.roots = self._root_objects()
        self.live = Live(
            index,
            self.journal.lock,
            {oid: m.source for oid, m in self.roots.items()},
            self.volumes.by_device.get,
            attributes_at,
            edge.OPEN_DIRECTORIES,
        )
        self.brackets: Brackets[Event] = Brackets()
        self.dirty = Dirty(time.monotonic, self._reached)
        self.bulk = Dirty(time.monotonic, self._reached)
        self.gaps = Gaps(self.journal, time.monotonic)
        self.exclusions = Exclusions(config.maps, self.volumes.left_out, index, list(self.roots))
        self.pause = threading.Event()
        self.walker = Walker(
            self.journal,
            self.live,
            self.brackets,
            self.dirty,
            self.bulk,
            self.gaps,
            lambda: list(self.roots),
            self.exclusions,
            config.readers,
        )
        self.follower = Follower(
            self.journal, self.live, self.brackets, self.dirty, self.gaps, self.walker.add, self.exclusions.included
        )
        self.walker.follower = self.follower
        self.walker.capture = self.capture
        self.changes = Changes(
            self.journal,
            self.live,
            self.brackets,
            self.dirty,
            self.bulk,
            self.gaps,
            self.follower,
            self.pause,
            SectorReader(self.live).read,
        )
        self.healer = Healer(self)
        self.drain = Drain(self)
        self.sender = Sender(
            self.journal.spool,
            connect,
            self._hello,
            self._welcome,
            self.healer.reread,
            self._handle,
            self.journal.urgency.give_way,
        )
        self.governor = Governor(config, [self.walker.readers])
        self.house = House(self)
        self.answers = Answers()
        self.verifier = SourceVerifier(self)
        self.stage = StageClient(self)
        self.server = ServerJob(self) if config.server else None
        self.cuts = Cuts(self)
        self.target_facts: dict[str, Any] = {}
        self.findings: dict[str, Any] = {}
        self.trust: Trust | None = None
        self.collapse_reason = ""

    def _reached(self) -> int:
        return self.journal.reached

    def _root_objects(self) -> dict[int, Map]:
        roots: dict[int, Map] = {}
        for m in self.config.maps:
            st = os.stat(m.source)
            roots[object_id(self.volumes.by_device[st.st_dev], st.st_ino)] = m
        return roots

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Attach the capture, then walk (or, after a restart, compare everything with what is known), and follow.

        After a cut nothing of that happens, before `resume`: the replica serves by now, and must not be overwritten."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        if self.note.stands:
            self.state = STANDING.get(self.note.state, State.CUT)
            if self.config.server:  # only the link: to hear what became of the other machine
                self.listen()
            return
        if self.note.state not in ("", "undone"):  # the attempt died with the agent
            self.give_back()  # before anything else
            self.note.set("undone")
        self._begin()

    def listen(self) -> None:
        """The log and the link, nothing that looks at the source's files."""
        if self._links:
            return
        self._recover()
        self._links = True
        self.spawn("send", lambda: self.sender.run(self.stop_event))
        self.spawn("house", self.house.keep)

    def resume(self, event: str = "rollback") -> None:
        """The cut is undone: follow again, over a new connection (by which the target learns of it)."""
        self.note.set("undone")
        if event == "back":
            self.doubt("the replica was a running system")
        linked = self._links
        if self._following:
            self.move(event)
        else:
            self._begin()
            self.state = State.CONNECTING
        if linked:
            self.sender.renewed = True

    def _recover(self) -> bool:
        if self._intact is None:
            self._intact = self.journal.recover()
        return self._intact

    def _begin(self) -> None:
        self._following = True
        if self.config.idle_priority:
            lower_priority()
        intact = self._recover()
        fresh = self.journal.index.count == 0
        self.capture.start(self.volumes.watched(), lambda path: False)
        self.cuts.captured()
        if not intact:
            self.journal.collapse("the log was given up, or lost its tail in a power cut")
        self._announce_volumes()
        self._announce_roots()
        if not fresh and intact:
            self.gaps.open(-1, "the agent was not running")
            for oid in self.journal.index.unsure():
                self.bulk.add(oid, True, delay=0.0)
        self.walker.add(0, True)  # before anybody asks whether the walk is done
        self.spawn("follow", self._follow)
        self.spawn("walk", lambda: self.walker.run(self.stop_event, self._guard))
        self.spawn("changes", lambda: self.changes.run(self.dirty, self.stop_event))
        for i in range(2):
            self.spawn(f"bulk-{i}", lambda: self.changes.run(self.bulk, self.stop_event))
        self.spawn("mapped", self.house.watch_mappings)
        self.spawn("roll", lambda: self.verifier.roll(self.stop_event))
        self.spawn("governor", lambda: self.governor.run(self.stop_event))
        if self.server is not None:
            self.spawn("facts", partial(self.server.run, self.stop_event))
        self.listen()  # last: an answer of the target says that the walk may be called complete

    def _follow(self) -> None:
        """A ring that nobody empties in time loses what the workload does. So the thread that empties it stands beside
        the workload, not behind it: on busy processors a nice value of 10 is a tenth of the time (sched(7))."""
        if self.config.idle_priority and ring(self.capture) is not None:
            try:
                normal_priority()
            except PermissionError as error:
                log.warning("the ring of the capture is emptied at low priority, and may overflow: %s", error)
        self.follower.run(self.capture, self.stop_event)

    def _announce_volumes(self) -> None:
        self.journal.emit([Record(Kind.VOLUME, v) for v in self.volumes.records()])

    def _announce_roots(self) -> None:
        with self.journal.lock:
            for number, (oid, m) in enumerate(self.roots.items()):
                name = b"%d" % number
                if self.journal.index.lookup(0, name) != oid:
                    fd = os.open(m.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    try:
                        attributes = attributes_of_fd(fd, os.fstat(fd))
                    finally:
                        os.close(fd)
                    self.journal.put(Kind.MKDIR, Make(oid, 0, name, attributes))

    def spawn(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guard(work), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guard(self, work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                if self.failure is None:
                    self.failure = error
                    log.exception("%s stops the agent", threading.current_thread().name)
                self.stop_event.set()
                self.journal.spool.close()

        return run

    def stop(self) -> None:
        self.stop_event.set()

    def close(self) -> None:
        """Ends the threads and leaves everything so that the next start goes on from here."""
        self.stop_event.set()
        for thread in self._threads:
            thread.join(10)
        self.capture.close()
        try:
            self.verifier.close()
        except StoreError as error:  # of its digest cache, which can be done without; what failed first is told
            log.error("%s", error)
        self.live.close()
        if self.failure is None:
            self.journal.close()
        else:
            self.journal.index.close()
            self.journal.spool.close()

    def check(self) -> None:
        """Raise what stopped the agent."""
        if self.failure is not None:
            if isinstance(self.failure, LiveliftError):
                raise self.failure
            if isinstance(self.failure, sqlite3.Error | OSError):
                raise StoreError(
                    f"{os.fsdecode(self._directory)}: {self.failure}",
                    remedy="free space there or see to the disk, then start the agent again: it goes on; "
                    "if it does not start, livelift source --resync",
                )
            raise LiveliftError(f"the agent has failed: {self.failure!r}", remedy="see its log, then start it again")
        if self.sender.fatal is not None:
            raise self.sender.fatal

    def move(self, event: str) -> None:
        with self._state_lock:
            self.state = move(self.state, event)

    # -- the link ----------------------------------------------------------------------------------------------------

    def _hello(self) -> Hello:
        return Hello("source", self.config.job, self.config.maps, time.time_ns(), 1, self.note.features, __version__)

    def _welcome(self, welcome: Welcome) -> int:
        """The LSN after which to go on. A target that knows more than the log has, or less than it still holds, is
        compared
        whole."""
        spool = self.journal.spool
        self.target_facts = welcome.facts
        if self.note.stands and self.config.server:
            return spool.last_lsn  # nothing is to be applied there; the machine may be the new system by now
        findings = check_welcome(
            self.config.maps,
            welcome.facts,
            welcome.clock_ns - time.time_ns(),
            welcome.durable_lsn > 0,
            self.config.ignored,
        )
        self.findings = findings.to_dict()
        if welcome.durable_lsn and findings.inhibitors:  # a job that has begun waits: whoever ends follows nothing
            bad = findings.inhibitors
            found, remedy = "; ".join(f"{f.diagnosis} [{f.id}]" for f in bad), "; ".join(f.remedy for f in bad)
            raise RetryError(f"the target: {found}", remedy=remedy)
        findings.raise_inhibitors()
        if welcome.applied_lsn > spool.last_lsn or welcome.durable_lsn > spool.last_lsn:
            with self.journal.lock:
                self.journal.collapse("the target is ahead of the log", max(welcome.applied_lsn, welcome.durable_lsn))
        elif welcome.durable_lsn + 1 < spool.oldest_lsn and welcome.durable_lsn < spool.acked_lsn:
            with self.journal.lock:
                self.journal.collapse("the target lost what it had acknowledged", welcome.durable_lsn)
        if self.note.state == "undone":
            self.note.set("")
        with self._state_lock:
            if self.state is State.CONNECTING:
                self.move("walk")
        return welcome.durable_lsn

    def _collapsed(self, reason: str) -> None:
        """The log was given up (the merge lock is held): everything is walked and compared with the target."""
        log.error("the log was given up: %s", reason)
        self.collapse_reason = reason
        if hasattr(self, "gaps"):
            self.gaps.forget_objects()
            self.gaps.open(-1, "spool", reason)
            self._announce_volumes()
            self._announce_roots()
            self.walker.add(0, True)

    def _handle(self, message: Message) -> None:
        if isinstance(message, Resync):
            self.healer.resync(message)
        elif isinstance(message, Renewed):
            if self.trust is not None:
                self.trust.finish_renewal(message.certificate)
                self.sender.renewed = True
        else:
            self.answers.came(message)

    def doubt(self, reason: str) -> None:
        """What the log says may not be what the target has: a gap until both trees have been found equal."""
        self.collapse_reason = reason
        with self.journal.lock:
            self.gaps.open(-1, "spool", reason)

    def compared(self) -> None:
        """Both trees have been compared whole: a collapsed log is made good."""
        self.collapse_reason = ""

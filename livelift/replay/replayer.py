"""The log becomes a tree: `Replayer` applies records in LSN order, survives crashes, and says what it could not do.

Records on different objects of one group run on several workers; records that change names, and those on
directories, run alone between groups. ``applied`` is in memory; ``durable`` is what a checkpoint has synced: after a
crash everything beyond it must be sent again, and the marks of `progress` tell which of it has happened already.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple, cast

from livelift.model.job import Map
from livelift.model.problem import Problem
from livelift.model.record import Kind, Make, Record
from livelift.replay import steps
from livelift.replay.apply import CONTENT, ONCE, PARALLEL, judge
from livelift.replay.directories import OURS, Directories, Directory, check_name, open_tops
from livelift.replay.hands import Counters, Hands, Who
from livelift.replay.names import before, is_done
from livelift.replay.progress import Mark, Progress, boot_id, start_afresh
from livelift.replay.trouble import Conflict, Disagreement, Ledger, ReplicaError
from livelift.replay.unsent import Unsent
from livelift.replay.workers import Item, Workers

GROUP: Final = 2048
"""Records between two looks at the limits; bounds the memory of a group, not its meaning."""
_DIRECTORY_KINDS: Final = frozenset({Kind.ATTRIBUTES, Kind.XATTR_SET, Kind.XATTR_REMOVE, Kind.CHANGED})
_LOST: Final = "lost"  # instead of a boot id: pages that we wrote may never have reached the disk


class ApplyResult(NamedTuple):
    """``problems``: those that are new with this call; `Replayer.problems` has them all, with their counts."""

    applied_lsn: int
    conflicts: list[Conflict]
    problems: list[Problem]


class Replayer:
    """One job's replica. Used by one thread; ``workers`` is how many apply at the same time, the caller included.

    ``state_dir`` is ours alone. Every ``Map.target`` must be an existing directory that nobody else touches.
    UsageError if one is not there, CorruptError if the state is damaged.
    """

    def __init__(
        self,
        state_dir: bytes,
        maps: Sequence[Map],
        workers: int = 2,
        *,
        open_directories: int = 512,
        open_files: int = 128,
    ) -> None:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        with ExitStack() as undo:
            self._tops = open_tops(maps)
            for top in self._tops:
                undo.callback(os.close, top)
            self._directories = Directories(state_dir + b"/directories.sqlite", self._tops, open_directories)
            undo.callback(self._directories.close)
            self._boot = boot_id()
            fresh = self._begin_epoch()
            self.durable_lsn = int(self._directories.get("durable") or 0)
            paths = [os.path.realpath(item.target) for item in maps]
            epoch = str(self._directories.get("epoch"))
            self._progress = Progress(self._tops, paths, epoch, self.durable_lsn, fresh)
            undo.pop_all()  # all is well: `close` does it
        self._unsent = Unsent(state_dir + b"/conflicts")
        self._top_devs = [os.fstat(top).st_dev for top in self._tops]
        self.applied_lsn = self.durable_lsn
        self._floor = self._progress.begun  # everything before it has happened once
        self._pages_lost = self._directories.get("boot") != self._boot
        self._read_again: set[int] = set()
        self._broken = ""
        self._pending: tuple[Mark, int] | None = None  # a finished step whose mark does not say so yet
        self._ledger = Ledger(self._directories.path)
        self._records = 0
        who, lock = Who(), threading.Lock()
        share = max(8, open_files // workers)
        self._workers = Workers([Hands(who, lock, share) for _ in range(workers)])

    def _begin_epoch(self) -> bool:
        """True if a new epoch begins: a new job, or one whose cut was rolled back."""
        if self._directories.get("finished"):  # it was cut, and the cut was rolled back: the names are as we left them
            self._directories.set("finished", 0)
            self._directories.set("epoch", "")
        fresh = not self._directories.get("epoch")
        if fresh:
            for top in self._tops:
                start_afresh(top)
            self._directories.set("epoch", os.urandom(8).hex())
            self._directories.set("boot", self._boot)
            self._directories.set("durable", int(self._directories.get("durable") or 0))
            self._directories.commit()
        return fresh

    # applying

    def apply(self, records: Sequence[Record]) -> ApplyResult:
        """Apply what is beyond ``applied_lsn``, in order.

        ReplicaError (ReplicaFullError) if the target is in trouble: call again with the same records once it is over.
        WireError if a record is one that no honest source sends.
        """
        self._refuse_if_broken()
        conflicts = self._unsent.take()
        try:
            self._apply(records, conflicts)
        except BaseException:
            self._unsent.give_back(conflicts)
            raise
        return ApplyResult(self.applied_lsn, conflicts, self._gather())

    def _apply(self, records: Sequence[Record], conflicts: list[Conflict]) -> None:
        group: list[Item] = []
        late: list[Record] = []
        directory: Directory | None = None  # that of the last record, as long as it may be in use
        at = self.applied_lsn
        for record in records:
            lsn = record.lsn
            if lsn <= at:
                continue
            kind = record.kind
            alone = kind not in PARALLEL or (kind in _DIRECTORY_KINDS and steps.is_step(record, self._directories))
            if alone or lsn <= self._floor:
                if kind >= Kind.VOLUME:
                    continue
                steps.check(record)
                if lsn > self._floor and self._fits(record):
                    if kind is Kind.MKDIR:
                        self._alone(record, conflicts)
                    else:
                        late.append(record)
                    if self._directories.full:
                        self._drain(group, late, conflicts)
                        directory = None
                else:
                    self._drain(group, late, conflicts)
                    self._alone(record, conflicts)
                    directory = None
                    self.applied_lsn = lsn
                continue
            body = record.body
            check_name(body.name)  # type: ignore[union-attr]
            if directory is None or directory.oid != body.parent:  # type: ignore[union-attr]
                try:
                    directory = self._open(body.parent)  # type: ignore[union-attr]
                except (OSError, Disagreement) as error:
                    directory = None
                    self._report(judge(self._workers.hands[0], None, record, error), conflicts)
                    continue
            if self._reserved(directory, body.name):  # type: ignore[union-attr]
                continue
            group.append((record, directory))
            if len(group) >= GROUP or self._directories.full:
                self._drain(group, late, conflicts)
                directory = None
        self._drain(group, late, conflicts)
        self._settle()
        if records and records[-1].lsn > self.applied_lsn:
            self.applied_lsn = records[-1].lsn

    def _fits(self, record: Record) -> bool:
        """Whether a record on a directory need not divide the group: trees of small directories would have none.

        A directory is made at once: the group has nothing of that name, for removing it would have divided it; made
        twice does no harm. Its attributes wait for the group's end: what is made in it after them changes its times, so
        the log has them once more behind that.
        """
        if record.kind is Kind.MKDIR:
            body = cast(Make, record.body)
            return body.parent != 0 and self._directories.opened(body.oid) is None
        return record.kind is Kind.ATTRIBUTES

    def _drain(self, group: list[Item], late: list[Record], conflicts: list[Conflict]) -> None:
        """Apply what has been collected, ``late`` behind ``group``. If it fails, ``applied_lsn`` is still before it and
        all of it comes again."""
        if group:
            self._settle()
            for conflict in self._workers.run(group):
                self._report(conflict, conflicts)
            self._records += len(group)
        for record in late:
            if self._directories.full:
                self._directories.next_group()
            self._alone(record, conflicts)
        if group or late:
            last = max(group[-1][0].lsn if group else 0, late[-1].lsn if late else 0)
            self.applied_lsn = max(self.applied_lsn, last)
        group.clear()
        late.clear()
        self._directories.next_group()

    def _alone(self, record: Record, conflicts: list[Conflict]) -> None:
        hands = self._workers.of(record.body.oid)  # type: ignore[union-attr]
        self._records += 1
        here = None
        try:
            if record.lsn <= self._floor and self._has_happened(record, conflicts):
                return
            if record.kind in ONCE:
                here = self._open(record.body.parent)  # type: ignore[union-attr]
                self._report(self._once(hands, here, record), conflicts)
                return
            self._settle()
            if record.kind is Kind.MKDIR:
                if not self._makes_ours(record):
                    self._report(steps.make_directory(hands, self._directories, record), conflicts)
            elif record.kind in _DIRECTORY_KINDS and steps.is_step(record, self._directories):
                self._report(steps.change_directory(hands, self._directories, record), conflicts)
            else:
                here = self._open(record.body.parent)  # type: ignore[union-attr]
                for conflict in self._workers.run([(record, here)]):
                    self._report(conflict, conflicts)
        except (OSError, Disagreement) as error:
            self._report(judge(hands, here, record, error), conflicts)

    def _once(self, hands: Hands, here: Directory, record: Record) -> Conflict | None:
        """A step that must not happen twice, between its marks. The second mark waits for the next one, if that comes
        first: removing a tree costs one mark a name."""
        if self._reserved(here, record.body.name):  # type: ignore[union-attr]
            return None
        other = steps.other_place(record)
        there = self._open(other[0]) if other else None
        if there is not None and other is not None and self._reserved(there, other[1]):
            return None
        mark = self._progress.mark(here.dev)
        value = before(here, record)
        done = None
        if self._pending is not None and self._pending[0] is mark:
            done = self._pending[1]
            self._pending = None
        self._settle()
        mark.begin(record.lsn, value, done)
        conflict = steps.perform(hands, self._workers, self._directories, here, there, record)
        if conflict is not None:
            self._unsent.keep(conflict)  # before the mark says that this step is over
        if value is None:
            self._pending = mark, record.lsn
        else:
            mark.end(record.lsn)
        return conflict

    def _settle(self) -> None:
        if self._pending is not None:
            self._pending[0].end(self._pending[1])
            self._pending = None

    # after a crash

    def _has_happened(self, record: Record, conflicts: list[Conflict]) -> bool:
        """Whether a record at or before the floor is on the replica already; if so, the map of directories learns of
        it."""
        if self._pages_lost and (self._progress.foreign or self._content_lost(record)):
            steps.fold(self._directories, record)
            oid: int = record.body.oid  # type: ignore[union-attr]
            if oid not in self._read_again:
                self._read_again.add(oid)
                detail = "written since the last checkpoint, and the target lost power"
                body = record.body
                self._report(
                    Conflict(oid, body.parent, body.name, record.lsn, record.kind, detail),  # type: ignore[union-attr]
                    conflicts,
                )
            return True
        mark = self._mark_of(record)
        if record.lsn > mark.begun:
            return False
        if record.lsn == mark.begun and mark.done < mark.begun and record.kind in ONCE:
            here = self._open(record.body.parent)  # type: ignore[union-attr]
            other = steps.other_place(record)
            there = self._open(other[0]) if other else None
            if not is_done(here, there, record, mark.doubt(record.lsn)):
                return False
            mark.end(record.lsn)
        steps.fold(self._directories, record)
        return True

    def _content_lost(self, record: Record) -> bool:
        return record.kind in CONTENT and not record.elided and record.lsn <= self._mark_of(record).begun

    def _mark_of(self, record: Record) -> Mark:
        """The mark that tells about this record: while the machine ran on, the furthest one; after a power cut, that of
        the file system it was on."""
        marks = self._progress.marks
        if not self._pages_lost:
            return max(marks, key=lambda mark: mark.begun)
        parent: int = record.body.parent  # type: ignore[union-attr]
        if parent == 0:
            return marks[0]
        return self._progress.mark(self._top_devs[self._directories.map_of(parent)])

    # checkpoints and the end

    @property
    def exact(self) -> bool:
        """The replica is what the log says at ``applied_lsn``, and nothing of what comes behind is in it: after a crash
        it may be ahead for a while."""
        return self.applied_lsn >= self._floor

    def checkpoint(self) -> int:
        """Make everything applied durable; the LSN that may be acknowledged.

        ReplicaError if the disks refuse: then written pages may be lost, so this Replayer is done for. Open it again,
        and everything beyond ``durable_lsn`` is sent and read again.
        """
        self._refuse_if_broken()
        self._settle()
        try:
            self._progress.sync(self.applied_lsn)
        except ReplicaError as error:
            self._broken = str(error.args[0])
            self._directories.rollback()
            self._directories.set("boot", _LOST)
            self._directories.commit()
            raise
        if self.applied_lsn >= self._floor:
            self._pages_lost = False
            self._read_again.clear()
            self._directories.set("boot", self._boot)
        self._directories.set("durable", self.applied_lsn)
        self._directories.commit()
        self._unsent.clear()
        self.durable_lsn = self.applied_lsn
        return self.durable_lsn

    def finish(self) -> None:
        """At the cut: take ``.livelift`` out of the replica. Only `close` may follow. ReplicaError if limbo is not
        empty."""
        self.checkpoint()
        self._progress.clear()
        self._progress.sync(self.applied_lsn)
        self._directories.set("finished", 1)
        self._directories.commit()
        self._broken = "it has been finished"

    @property
    def broken(self) -> bool:
        """True after a failed checkpoint, or `finish`: close it and open another."""
        return bool(self._broken)

    def close(self) -> None:
        """Close everything without a checkpoint: just what a crash leaves behind."""
        self._workers.close()
        self._progress.close()
        self._directories.close()
        self._unsent.close()
        for top in self._tops:
            os.close(top)

    # what the status shows

    def problems(self) -> list[Problem]:
        """How this replica is weaker than the source: one for each (code, reason), counted, with examples."""
        return self._ledger.problems()

    @property
    def counters(self) -> Counters:
        hands = self._workers.hands
        return Counters(self._records, sum(own.made for own in hands), sum(own.bytes for own in hands))

    # small things

    def _open(self, oid: int) -> Directory:
        directory = self._directories.open(oid)
        self._progress.saw(directory.dev, directory.fd)
        return directory

    def _reserved(self, directory: Directory, name: bytes) -> bool:
        """``.livelift`` at the top of a map is ours; a source that has one as well does not get it."""
        if name != OURS or directory.oid not in self._directories.roots:
            return False
        error = FileExistsError(17, "this name belongs to Livelift on the target")
        self._workers.hands[0].note("reserved-name", error, directory, name, "exclude .livelift at the map's root")
        return True

    def _makes_ours(self, record: Record) -> bool:
        if record.body.name != OURS:  # type: ignore[union-attr]
            return False
        return self._reserved(self._open(record.body.parent), OURS)  # type: ignore[union-attr]

    def _report(self, conflict: Conflict | None, conflicts: list[Conflict]) -> None:
        if conflict is not None:
            self._unsent.keep(conflict)
            conflicts.append(conflict)

    def _gather(self) -> list[Problem]:
        return [problem for own in self._workers.hands for problem in self._ledger.take(own.notes)]

    def _refuse_if_broken(self) -> None:
        if self._broken:
            raise ReplicaError(f"this replayer cannot go on: {self._broken}", remedy="start the target agent again")

"""Making good: what the target could not apply, what a broken link swallowed, what the capture is blind to."""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING

from livelift.merge.names import Seen, counted, make_kind
from livelift.model.entry import Attributes, object_id
from livelift.model.record import Kind, Link, Make, Record, Unlink
from livelift.platform.system import writable_shared_mappings
from livelift.protocol.messages import Resync
from livelift.source.live import Gone, Moved

if TYPE_CHECKING:
    from livelift.source.agent import SourceAgent

log = logging.getLogger(__name__)


class Healer:
    """Opens a gap for whatever must be read again; the readers close it."""

    def __init__(self, agent: SourceAgent) -> None:
        self._agent = agent
        self._mapped: set[int] = set()
        self.resyncs = 0

    def reread(self, oids: list[int]) -> None:
        """Their content was lost on the way (link broken before it was durable)."""
        agent = self._agent
        for oid in dict.fromkeys(oids):
            with agent.journal.lock:
                # Not a file any more: it is gone, and its number was used again (ext4 does that at once).
                if not stat.S_ISREG(agent.journal.index.type_of(oid)):
                    continue
                agent.gaps.open(oid, "link broken before its content was durable")
            agent.dirty.add(oid, True)

    def resync(self, message: Resync) -> None:
        """The target could not apply something: say it again, and read it again."""
        self.resyncs += 1
        log.info("resync of object %d, %r: %s", message.oid, message.name, message.reason)
        agent = self._agent
        with agent.journal.lock:
            index = agent.journal.index
            oid = message.oid
            if oid and index.place(oid) is not None:
                agent.gaps.open(oid, "resync", message.reason)
                if index.is_dir(oid):
                    self.reissue_tree(oid)
                else:
                    self.reissue(oid)
                    agent.dirty.add(oid, True)
            elif message.parent and index.is_dir(message.parent):
                agent.gaps.open(message.parent, "resync", message.reason)
                agent.walker.add(message.parent, False)

    def reissue_tree(self, oid: int) -> None:
        """The target may lack a directory and anything below it: all of it is said again. The merge lock is held."""
        agent = self._agent
        waiting = [oid]
        while waiting:
            directory = waiting.pop()
            self.reissue(directory)
            for name, child in list(agent.journal.index.children(directory)):
                if agent.journal.index.is_dir(child):
                    waiting.append(child)
                else:
                    agent.gaps.open(child, "resync", os.fsdecode(name))
                    self.reissue(child)
                    agent.dirty.add(child, True)
            agent.walker.add(directory, False)

    def reissue(self, oid: int, keep: bool = False) -> None:
        """Say again in the log that this object is where it is: the target may have it there, elsewhere, not at all, or
        another one under some of its names. ``keep``: it cannot be read, so what the target has is better than nothing.
        The merge lock is held."""
        journal = self._agent.journal
        there: list[tuple[tuple[int, bytes], Attributes]] = []
        for place in journal.index.places(oid):
            if place[0] > 0:
                seen = self.settle(*place)
                if seen is not None and journal.index.lookup(*place) == oid:
                    there.append((place, seen.attributes))
        if not there:
            return
        first, attributes = there[0]
        made = counted(journal.index, oid, attributes)
        records = [Record(make_kind(made.mode), Make(oid, *first, made))]
        if len(there) > 1 and not attributes.is_dir and not keep:
            # What the target has under this name may have names of other objects as well: it is made anew, and each of
            # its names leads there.
            records.insert(0, Record(Kind.UNLINK, Unlink(oid, *first)))
        if len(there) > 1 and not attributes.is_dir:
            self._agent.gaps.links(oid)
            records += [Record(Kind.LINK, Link(oid, *place, *first)) for place, _ in there[1:]]
            for parent in {place[0] for place, _ in there}:
                self._agent.dirty.add(parent, False)
        journal.emit(records)

    def settle(self, parent: int, name: bytes) -> Seen | None:
        """Have the log say what is behind this name now; that, or None: nothing of ours, or it cannot be looked at, and
        then its directory is listed again. The merge lock is held."""
        agent = self._agent
        if not agent.exclusions.included(parent, name):  # a mount point, say, of which the log has an empty directory
            return None
        try:
            seen = agent.live.look(parent, name)
        except (Moved, Gone, OSError) as error:
            log.info("%r in %d cannot be looked at: %r", name, parent, error)
            agent.walker.add(parent, False)
            return None
        agent.follower.settle(parent, name, seen, 0)
        return seen

    # -- mapped files ------------------------------------------------------------------------------------------------

    def note_mappings(self) -> None:
        """Remember who is mapped writable: stores into a page that is dirty already leave no trace in ctime."""
        agent = self._agent
        for device, inode in writable_shared_mappings():
            volume = agent.volumes.by_device.get(device)
            candidates = (
                [volume] if volume is not None else [v.index for v in agent.volumes.planned if v.fstype == b"btrfs"]
            )  # /proc/PID/maps: not st_dev there
            for index in candidates:
                oid = object_id(index, inode)
                with agent.journal.lock:
                    if agent.journal.index.place(oid) is not None:
                        self._mapped.add(oid)

    def mark_mapped(self) -> int:
        """Everything that has been mapped writable since the last call is read again."""
        agent = self._agent
        self.note_mappings()
        with agent.journal.lock:
            marked, self._mapped = self._mapped, set()
        for oid in marked:
            agent.dirty.add(oid, True)
        return len(marked)

    def untold(self, oids: set[int]) -> set[int]:
        """Those of them that have been mapped writable since the last `mark_mapped`: the target may lack stores that
        nothing told of."""
        self.note_mappings()
        with self._agent.journal.lock:
            return self._mapped & oids

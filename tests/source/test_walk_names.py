"""What a listing finds, while the tree moves under it."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

from livelift.index.tree import TreeIndex
from livelift.merge.brackets import Brackets
from livelift.merge.names import Emit, Namer
from livelift.model.entry import object_id
from livelift.model.record import Kind, Record
from livelift.source.walk_names import Names
from livelift.walk.listing import Listed

MOVED = ("directory", "link", "fifo")


def test_what_moves_between_two_listings_that_are_taken_together_is_one_object(tmp_path):
    """Two MKDIR of one directory gave it two places in the index; after the next moves one lay in itself, and what was
    below could never be read (a kill of the source during the base copy, then 120 s without `caught up`)."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (one / "directory").mkdir()
    (one / "link").symlink_to("nowhere")
    os.mkfifo(one / "fifo")
    index = TreeIndex(os.fsencode(tmp_path / "index"))
    log: list[Record] = []

    def emit(records: list[Record]) -> None:
        log.extend(records)
        index.apply(records)

    live = SimpleNamespace(object_of=lambda st: object_id(0, st.st_ino), expect=lambda oid, parent, name: None)
    journal = SimpleNamespace(lock=threading.RLock(), index=index, emit=emit)
    queue = SimpleNamespace(add=lambda oid, deep: None)
    scope = SimpleNamespace()
    names = Names(journal, live, Brackets(), None, queue, scope, lambda items: None, None)  # type: ignore[arg-type]

    def settle(parent, name, seen, at):
        for step in Namer(index).settle(parent, name, seen, 0):
            if isinstance(step, Emit):
                emit([Record(step.kind, step.body)])

    names.follower = SimpleNamespace(settle=settle)  # type: ignore[assignment]
    see = names._see

    def see_and_move(job, name, found):
        see(job, name, found)
        if job is jobs[0]:
            os.rename(one / os.fsdecode(name), two / os.fsdecode(name))

    names._see = see_and_move  # type: ignore[method-assign]
    kinds = [os.lstat(one / name).st_mode & 0o170000 for name in MOVED]
    inodes = [os.lstat(one / name).st_ino for name in MOVED]
    listed = [Listed(os.fsencode(n), i, k) for n, i, k in zip(MOVED, inodes, kinds, strict=True)]
    opened = [os.open(d, os.O_RDONLY) for d in (one, two)]
    jobs = [SimpleNamespace(oid=10 + n, handle=SimpleNamespace(fd=fd)) for n, fd in enumerate(opened)]
    names.fresh([(job, listed) for job in jobs])  # type: ignore[misc]
    for fd in opened:
        os.close(fd)
    for name, inode in zip(MOVED, inodes, strict=True):
        assert index.places(object_id(0, inode)) == [(11, os.fsencode(name))]
    assert sum(r.kind in (Kind.MKDIR, Kind.SYMLINK, Kind.MKNOD) for r in log) == 3
    index.close()

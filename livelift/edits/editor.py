"""Makes the changes of a plan in a staged root, one after the other, and takes them back, newest first.

Each step: a journal record (durable), the original into the keep by rename (the same inode, with all its hard links),
the new object made beside it and renamed into place, a second record. A crash at any point leaves a journal from which
`undo` restores exactly what was there; `apply` first takes back the edit that was under way, then goes on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import msgspec
from blake3 import blake3

from livelift.adapt.changes import Change, RenameFile, RunCommand
from livelift.adapt.plan import Edit, Plan
from livelift.edits.copier import Copier, remove_object
from livelift.edits.inverse import drop_keeps, take_back
from livelift.edits.journal import Begun, Done, Journal, TakingBack
from livelift.edits.maker import Make, Maker, Progress
from livelift.edits.place import KEEP, clean, move
from livelift.errors import StateError
from livelift.platform.linux import files
from livelift.platform.linux.inside import run_inside


def digest_of(change: Change) -> str:
    return str(blake3(msgspec.msgpack.encode(change)).hexdigest()[:32])


class Editor(Maker):
    """``root``: the staged root. ``origin``: the root of the target's system. ``state``: where the journal lies, in
    neither of them. One at a time."""

    def __init__(
        self, root: str, origin: str, state: str, run: Callable[..., str] = run_inside, copier: Copier | None = None
    ) -> None:
        super().__init__(root, origin, run, copier)
        self.journal = Journal(state)

    def close(self) -> None:
        self.journal.close()
        super().close()

    def apply(self, plan: Plan, progress: Progress = lambda text: None) -> int:
        """Number of edits made now; edits of an earlier, interrupted run are not made twice. The plan's inhibitors are
        the caller's to check.

        StateError: another plan has been applied here. CorruptError: an origin has changed since the plan.
        CommandError: a program failed; the edits before it stand, and `undo` takes them back.
        """
        if self.journal.taking_back:
            self.undo()
        done = self.journal.finished()
        for number, digest in done.items():
            if number >= len(plan.edits) or digest_of(plan.edits[number].change) != digest:
                raise StateError("another plan has been applied to this tree", remedy="take it back first (undo)")
        for step in reversed(self.journal.open_steps()):
            if step.number in done:
                break
            take_back(self.staged, self.journal, step)
        made = 0
        for number, edit in enumerate(plan.edits):
            if number in done:
                continue
            progress(edit.id)
            self.make(number, edit)
            self.journal.append(Done(number, digest_of(edit.change)))
            made += 1
        files.syncfs(self.staged.fd)
        return made

    def undo(self) -> int:
        """Take everything back. Number of steps. Can be interrupted and called again."""
        steps = self.journal.open_steps()
        if self.journal.records and not self.journal.taking_back:
            self.journal.append(TakingBack())
        for step in reversed(steps):
            take_back(self.staged, self.journal, step)
        drop_keeps(self.staged, {record.path for record in self.journal.records if isinstance(record, Begun)})
        self.journal.clear()
        return len(steps)

    def kept(self, path: str) -> str:
        """Where the source's own version of an adapted path lies, relative to the top of its file system, for a later
        change of the source; empty if the path is not adapted or the source had nothing there."""
        for step in self.journal.open_steps():
            if step.path == path:
                return f"{os.fsdecode(KEEP)}/{step.kept}" if step.before == "kept" else ""
        return ""

    # one change

    def _set_aside(self, number: int, edit: Edit, path: str) -> None:
        self._begin(number, edit, path)

    def _begin(self, number: int, edit: Edit, path: str) -> Begun:
        """Record and set aside what stands at ``path``; the directories above it are there afterwards."""
        parents = self.staged.missing_parents(path)
        steps = len(self.journal.records)
        if parents:
            with self.staged.place(parents[0]) as place:
                above = os.fstat(place.fd)
                if place.lstat() is not None:
                    raise StateError(
                        f"{edit.id}: {parents[0]} leads nowhere", remedy="look at it; skip the edit by a rule"
                    )
            times = (above.st_atime_ns, above.st_mtime_ns)
            step = Begun(number, edit.id, path, "absent", "", tuple(parents), times)
            self.journal.append(step)
            for parent in parents:
                self.staged.make_directory(parent)
            return step
        with self.staged.place(path) as place:
            st = place.lstat()
            above = os.fstat(place.fd)
            times = (above.st_atime_ns, above.st_mtime_ns)
            if st is None:
                step = Begun(number, edit.id, path, "absent", times=times)
                self.journal.append(step)
                return step
            if stat.S_ISDIR(st.st_mode):
                raise StateError(
                    f"{edit.id}: a directory stands at {path}", remedy="look at it; skip the edit by a rule"
                )
            step = Begun(number, edit.id, path, "kept", f"{number}-{steps}", times=times, short=place.short_name())
            keep = place.keep()
            try:
                self.journal.append(step)
                move(place.fd, place.name, keep, step.kept.encode())
            finally:
                os.close(keep)
            return step

    def _put(self, number: int, edit: Edit, path: str, make: Make) -> None:
        """``make``: the new object under a name in the keep; from there it is renamed into place."""
        self._begin(number, edit, path)
        with self.staged.place(path) as place:
            keep = place.keep()
            try:
                remove_object(keep, b"new")
                self._copier.ready(keep)
                make(keep, b"new")
                files.syncfs(keep)
                move(keep, b"new", place.fd, place.name)
            finally:
                os.close(keep)

    def _old(self, path: str) -> tuple[int, bytes]:
        """It is in the keep by now."""
        step = self.journal.open_steps()[-1]
        with self.staged.place(path) as place:
            return place.keep(), step.kept.encode()

    def _rename(self, number: int, edit: Edit, change: RenameFile) -> None:
        with self.staged.place(change.path) as old, self.staged.place(clean(change.to)) as new:
            if old.lstat() is None or new.lstat() is not None:
                raise StateError(f"{edit.id}: {change.path} is missing or {change.to} is taken", remedy="plan again")
            above = os.fstat(old.fd)
            times = (above.st_atime_ns, above.st_mtime_ns)
            short = old.short_name()
            self.journal.append(Begun(number, edit.id, change.path, "renamed", change.to, times=times, short=short))
            move(old.fd, old.name, new.fd, new.name)

    def _command(self, number: int, edit: Edit, change: RunCommand) -> None:
        """Each file that the program may change is replaced by a copy of itself first, so that the original is safe in
        the keep. A tree that this plan has made needs none: taking back its edit removes it."""
        made = {step.path for step in self.journal.open_steps()}
        for path in change.writes:
            clean(path)
            if any(path == other or path.startswith(f"{other}/") for other in made):
                continue
            if not self._stands(path):
                self._begin(number, edit, path)
                continue

            def again(fd: int, name: bytes) -> None:
                self._copier.copy(fd, self.journal.open_steps()[-1].kept.encode(), fd, name, {})

            self._put(number, edit, path, again)
        self._run(self.staged.fd, change.arguments)

"""The adaptation of a staged system on this machine: what it is planned from, made in layers beside the replica, and
whether it is still what the replica needs.

Everything looks at the staged system as it will be mounted, in a mount namespace of its own.
"""

from __future__ import annotations

import glob
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final, NamedTuple, TypeVar

import msgspec
from blake3 import blake3

from livelift.adapt import rules
from livelift.adapt.changes import Change, CopyFile, CopyTree, RunCommand, WriteFile
from livelift.adapt.linux import agent_unit
from livelift.adapt.linux.case import Policy, parse_policy
from livelift.adapt.linux.moves import moves
from livelift.adapt.linux.plan import make_plan
from livelift.adapt.linux.trees import Tree
from livelift.adapt.plan import Plan
from livelift.checks.findings import Finding, Findings, Level
from livelift.edits import overlay
from livelift.edits.copier import Copier
from livelift.edits.editor import Editor, digest_of
from livelift.edits.layer import LayerEditor
from livelift.edits.overlay import Part
from livelift.edits.settle import Settler
from livelift.errors import PreflightError, UsageError
from livelift.facts.collect import from_files
from livelift.facts.host import Host
from livelift.facts.trees import read_tree
from livelift.model.code import code
from livelift.model.facts import ServerFacts
from livelift.platform.linux.inside import run_inside
from livelift.platform.linux.namespaces import apart
from livelift.takeover.probe import probe
from livelift.target.memory import IN_PLACE, LAYERS, Adapted, Stage, Watched
from livelift.target.programs import Programs

log = logging.getLogger(__name__)

Result = TypeVar("Result")
INITRAMFS: Final = 64 << 20
"""Bytes to keep free for an image that is built, at least: one with the drivers of all hardware (Debian 12: 40 MB)."""


class Made(NamedTuple):
    """What an adaptation led to: what to remember of it, and the plan."""

    adapted: Adapted
    plan: Plan


class Adapting:
    """``parts``: the file systems that take part. ``base``: the directory ``.livelift`` on the root's. ``root``: where
    the target's own system is (for tests). ``run``: runs a program in the staged system. What changes that raises
    LockedError as of `Programs.alone`."""

    def __init__(
        self, parts: Sequence[Part], base: str, root: str = "/", run: Callable[..., str] = run_inside
    ) -> None:
        self._parts = list(parts)
        self._base = base
        self._root = root
        self._programs = Programs(base, run)

    # looking

    def see(self, work: Callable[[str], Result], layered: bool = False) -> Result:
        """``work`` is given the root of the staged system, as it will be mounted."""

        def there() -> Result:
            with overlay.view(self._parts, f"{self._base}/view", layered) as at:
                return work(at)

        return apart(there)

    def why_not_layers(self) -> str:
        return overlay.why_not(self._parts, f"{self._base}/view")

    def plan(self, stage: Stage, source: ServerFacts, target: ServerFacts, at: str) -> Plan:
        """From the staged system at ``at`` and this machine's own, with the operator's policy and rules."""
        policy = parse_policy(stage.policy) if stage.policy else Policy()
        old, now = _tree(at, source)
        new, _ = _tree(self._root)
        plan = make_plan(now or source, target, old, new, policy)
        unit = f"{self._root.rstrip('/')}/{agent_unit.PATH}"
        try:
            with open(unit, "rb") as file:
                plan = agent_unit.with_agent(plan, file.read())
        except FileNotFoundError:
            plan = agent_unit.with_agent(plan, None)
        return rules.override(plan, rules.parse(stage.rules)) if stage.rules else plan

    # making

    def adapt(self, stage: Stage, source: ServerFacts, target: ServerFacts, progress: Callable[[str], None]) -> Made:
        """Anew, whatever was made before. PreflightError: an inhibitor of the plan or of the probe, or no room."""
        with self._programs.alone():
            return self._adapt(stage, source, target, progress)

    def _adapt(self, stage: Stage, source: ServerFacts, target: ServerFacts, progress: Callable[[str], None]) -> Made:
        began = time.monotonic()
        in_place = self.why_not_layers()
        for part in self._parts:
            overlay.drop(part)
            if not in_place:
                overlay.prepare(part)

        def work(at: str) -> Made:
            plan = self.plan(stage, source, target, at)
            plan.check(stage.ignored)
            watched = {path: _watch(at, path) for path in sorted(watched_paths(plan))}
            found = list(plan.findings)
            if in_place:
                text = f"the adaptation cannot be made beside the replica ({in_place}): it is made behind the fence"
                found.append(Finding("adapt-in-place", Level.WARNING, text, "expect a longer fence: minutes"))
            else:
                self._check_room(plan, at)
                self._edit(plan, at, progress)
                found += probe(at, target, self._programs.run)
            findings = Findings(found, stage.ignored)
            findings.raise_inhibitors()
            adapted = Adapted(
                mode=IN_PLACE if in_place else LAYERS,
                edits=identities(plan),
                watched=watched,
                moves=moves(source, target, _policy(stage)),
                findings=tuple(findings.to_dict()["findings"]),
                seconds=0.0,
                made=time.time(),
                code=code(),
            )
            return Made(adapted, plan)

        made = self.see(work, layered=not in_place)
        seconds = round(time.monotonic() - began, 3)
        return Made(msgspec.structs.replace(made.adapted, seconds=seconds), made.plan)

    def _edit(self, plan: Plan, at: str, progress: Callable[[str], None]) -> None:
        editor = LayerEditor(at, self._root, self._programs.run)
        try:
            editor.apply(plan, progress)
        finally:
            editor.close()

    def _check_room(self, plan: Plan, at: str) -> None:
        """What the layers will hold, against what is free where it goes. PreflightError."""
        needs: dict[str, int] = {}
        for edit in plan.edits:
            for path, size in _sizes(edit.change, at, self._root):
                place = self._part_of(path).place
                needs[place] = needs.get(place, 0) + size
        for place, size in needs.items():
            st = os.statvfs(place)
            free = st.f_bavail * st.f_frsize
            if free < size:
                raise PreflightError(
                    f"the adaptation needs {size >> 20} MiB in {place}, {free >> 20} MiB are free [adapt-room]",
                    remedy="make room there, or remove old kernels on the source or the target",
                )

    def _part_of(self, path: str) -> Part:
        fitting = [p for p in self._parts if f"/{path}/".startswith(p.mountpoint.rstrip("/") + "/")]
        return max(fitting, key=lambda part: len(part.mountpoint))

    # comparing

    def stale(self, stage: Stage, source: ServerFacts, target: ServerFacts) -> list[str]:
        """What has changed since the adaptation was made, in words; nothing: it is what would be made now."""
        adapted = stage.adapted
        if adapted is None:
            return ["there is no adaptation"]
        if adapted.code != code():
            return ["another agent file made the adaptation"]  # and the take-over that goes with it
        if adapted.mode == LAYERS and not all(map(overlay.is_made, self._parts)):
            return ["the layers of the adaptation are gone"]

        def work(at: str) -> list[str]:
            plan = self.plan(stage, source, target, at)
            now = identities(plan)
            differing = [f"edit {id}" for id in sorted({*now, *adapted.edits}) if now.get(id) != adapted.edits.get(id)]
            changed = [f"/{path}" for path, seen in adapted.watched.items() if _changed(at, path, seen)]
            moved = adapted.moves != moves(source, target, _policy(stage))
            return [*differing, *changed, *(["the addresses that move"] if moved else [])]

        return self.see(work)

    # settling

    def seal(self) -> None:
        """Nothing more comes into the layers: what is left for behind the fence is renames."""
        for part in self._parts:
            if not overlay.is_sealed(part):
                overlay.seal(part)

    def settle(self, stage: Stage, source: ServerFacts, target: ServerFacts, progress: Callable[[str], None]) -> int:
        """Into the replica. Number of entries, or of edits where they are made in place."""
        with self._programs.alone():
            return self._settle(stage, source, target, progress)

    def _settle(self, stage: Stage, source: ServerFacts, target: ServerFacts, progress: Callable[[str], None]) -> int:
        assert stage.adapted is not None
        if stage.adapted.mode == LAYERS:
            self.seal()
            return sum(self._settlers(Settler.settle))

        def work(at: str) -> int:
            with closing(Editor(at, self._root, f"{self._base}/edits", self._programs.run)) as editor:
                editor.undo()  # of an attempt that was cut off: the plan is made from the replica itself
                plan = self.plan(stage, source, target, at)
                plan.check(stage.ignored)
                return editor.apply(plan, progress)

        return self.see(work)

    def unsettle(self, stage: Stage, used: bool = False) -> int:
        """Out of it: the replica is exactly as it was. Nothing, where nothing was settled. ``used``: it has been a
        running system since: it is near enough to be compared, and the layers are dropped."""
        if stage.adapted is None:
            return 0
        with self._programs.alone():
            return self._unsettle(stage, used)

    def _unsettle(self, stage: Stage, used: bool) -> int:
        assert stage.adapted is not None
        if stage.adapted.mode == LAYERS:
            done = sum(self._settlers(lambda settler: settler.unsettle(used)))
            if used:
                self.drop()
            return done

        def work(at: str) -> int:
            with closing(Editor(at, self._root, f"{self._base}/edits", self._programs.run)) as editor:
                return editor.undo()

        return self.see(work)

    def probe(self, stage: Stage, target: ServerFacts) -> list[Finding]:
        """Of what is in the replica now."""
        return self.see(lambda at: probe(at, target, self._programs.run))

    def drop(self) -> None:
        with self._programs.alone():
            for part in self._parts:
                overlay.drop(part)

    def _settlers(self, act: Callable[[Settler], int]) -> list[int]:
        done = []
        for part in self._parts:
            settler = Settler(part)
            try:
                done.append(act(settler))
            finally:
                settler.close()
        return done


def _policy(stage: Stage) -> Policy:
    return parse_policy(stage.policy) if stage.policy else Policy()


def _tree(root: str, facts: ServerFacts | None = None) -> tuple[Tree, ServerFacts | None]:
    """The files of a system that decide something; and ``facts`` with what they say. UsageError: some could not be
    read, and half of the facts make no plan."""
    host = Host(root)
    try:
        found = read_tree(host)
        now = from_files(facts, host) if facts is not None else None
        if host.unread:
            raise UsageError(f"could not be read below {root}: {'; '.join(host.unread[:5])}", remedy="run it as root")
        return found, now
    finally:
        host.close()


def _sizes(change: Change, staged: str, target: str) -> Iterator[tuple[str, int]]:
    """(path, bytes) of what a change makes. An image is built anew: twice as big as the biggest that is known."""
    match change:
        case CopyFile() | CopyTree():
            yield change.path, change.size
        case WriteFile():
            yield change.path, len(change.data)
        case RunCommand():
            for path in change.writes:
                if path.startswith("boot/"):
                    known = [os.path.getsize(p) for root in (staged, target) for p in glob.glob(f"{root}/boot/init*")]
                    yield path, max(INITRAMFS, 2 * max(known, default=0))


def identities(plan: Plan) -> dict[str, str]:
    """Id to digest of what an edit does: equal ones make the same. The directory of the target's boot loader counts by
    its name only: the take-over puts files of its own into it, and looks itself whether the copy fits."""
    found = {}
    for edit in plan.edits:
        change: Change = edit.change
        if isinstance(change, CopyTree) and edit.id.startswith("boot-loader/"):
            change = msgspec.structs.replace(change, files=0, size=0)
        found[edit.id] = digest_of(change)
    return found


def watched_paths(plan: Plan) -> set[str]:
    """Files of the source that a program of the plan reads or replaces, as far as they stand for all that it reads: a
    system that changes its kernel's modules, or what goes into an initramfs, builds that anew itself."""
    found: set[str] = set()
    for edit in plan.edits:
        if isinstance(edit.change, RunCommand):
            found |= {text.removeprefix("source:") for text in edit.inputs if text.startswith("source:")}
            found |= set(edit.change.writes)
    return found


def _stamp(root: str, path: str) -> tuple[int, int, int, int] | None:
    try:
        st = os.lstat(f"{root}/{path}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def _watch(root: str, path: str) -> Watched:
    stamp = _stamp(root, path)
    return Watched(stamp, _digest(root, path)) if stamp else Watched((0, 0, 0, 0), "")


def _digest(root: str, path: str) -> str:
    directory, _, name = f"{root}/{path}".rpartition("/")
    mode = os.lstat(f"{root}/{path}").st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        return blake3(str(mode).encode()).hexdigest()
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return Copier().digest(fd, os.fsencode(name))
    finally:
        os.close(fd)


def _changed(root: str, path: str, seen: Watched) -> bool:
    """By its stamp, which says no at once; else by its content: replay may have written the same again."""
    stamp = _stamp(root, path)
    if stamp is None:
        return bool(seen.digest)
    return stamp != seen.stamp and _digest(root, path) != seen.digest


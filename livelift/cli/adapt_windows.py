"""livelift adapt-windows"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from livelift.adapt import rules
from livelift.adapt.plan import Plan
from livelift.adapt.render import to_dict, to_text
from livelift.adapt.windows.apply import apply
from livelift.adapt.windows.bcd import PLACES
from livelift.adapt.windows.bench import Choices
from livelift.adapt.windows.consistency import check
from livelift.adapt.windows.planned import planned_tree
from livelift.adapt.windows.planner import make_plan
from livelift.adapt.windows.system import BCD, System
from livelift.checks.findings import Findings
from livelift.cli.common import add_verb, print_json
from livelift.cli.hive_files import load, save
from livelift.edits import windows_saved as saved
from livelift.edits.editor import Editor
from livelift.edits.place import KEEP
from livelift.edits.windows_apply import compressed, copy_attributes, file_plan, hive_bytes
from livelift.edits.windows_copy import NtfsCopier
from livelift.edits.windows_saved import Work, command_digest
from livelift.edits.windows_tree import WindowsTree, driver_images
from livelift.errors import StateError, StoreError, UsageError
from livelift.registry.reader import read_hive
from livelift.registry.tree import Hive

TEXT = """Adapt a Windows system (the source's tree) to another machine (whose own installation is the target's tree).
Both are looked at offline: NTFS volumes mounted by ntfs-3g, or plain copies that hold Windows/System32/config.

The system hive is merged: devices, drivers, boot data and network bindings from the target, the rest from the source;
driver files that the source lacks are copied. --dry-run prints every edit with its reason and changes nothing.
--output writes only the merged hives to a directory. --in-place changes the source's tree; everything that is replaced
is kept, and --undo puts it back, until --commit deletes it. The same command again goes on after an interruption.

example:
  livelift adapt-windows --source-tree /mnt/replica --target-tree /mnt/windows --dry-run
  livelift adapt-windows --source-tree /mnt/replica --target-tree /mnt/windows --target-bcd /mnt/esp/BCD --in-place
  livelift adapt-windows --source-tree /mnt/replica --undo"""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "adapt-windows", "make a Windows tree fit another machine", TEXT, run)
    add = parser.add_argument
    add("--source-tree", metavar="DIR", required=True, help="the system that is moved, or a replica of it")
    add("--target-tree", metavar="DIR", default="", help="the installation of the machine that it is moved to")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--dry-run", action="store_true", help="print the plan, change nothing")
    what.add_argument(
        "--output", metavar="DIR", default="", help="write the merged hives and the plan to a new directory"
    )
    what.add_argument("--in-place", action="store_true", help="change the source's tree")
    what.add_argument("--undo", action="store_true", help="put back what --in-place has changed")
    what.add_argument("--commit", action="store_true", help="give up the way back: delete what --in-place has kept")
    add("--rules", metavar="FILE", help="TOML: skip and replace edits by their ids")
    add(
        "--letter", metavar="A=B", action="append", default=[],
        help="the data of the source's volume A: are on the target's volume B: (none: they were not moved)",
    )  # fmt: skip
    add(
        "--nic", metavar="A=B", action="append", default=[],
        help="adapter B of the target gets the addresses of the source's adapter A; names or GUIDs (none: nobody)",
    )  # fmt: skip
    add("--same-hypervisor", action="store_true", help="both run on the same one: its drivers and agents stay on")
    add("--source-bcd", metavar="FILE", default="", help="the source's boot store, if it is not in its tree")
    add("--target-bcd", metavar="FILE", default="", help="the target's boot store, if it is not in its tree")
    add("--ignore", metavar="ID", action="append", default=[], help="go on in spite of this inhibitor")
    add(
        "--state", metavar="DIR", default="/var/lib/livelift/adapt-windows",
        help="where --in-place keeps its journal (default /var/lib/livelift/adapt-windows)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    if options.undo or options.commit:
        return _undo(options) if options.undo else _commit(options)
    if not options.target_tree:
        raise UsageError("--target-tree is missing", remedy="name the target's installation")
    _apart(options.source_tree, options.target_tree)
    if options.in_place and (resumed := _go_on(options)) is not None:
        nothing = Findings(())
        print_json({**resumed, **nothing.to_dict()}) if options.json else print(_told(resumed, nothing))
        return 0
    trees = WindowsTree(options.source_tree), WindowsTree(options.target_tree)
    stores = _boot_store(trees[0], options.source_bcd), _boot_store(trees[1], options.target_bcd)
    hives_of = [tree.hives(store) for tree, store in zip(trees, stores, strict=True)]
    images = driver_images(hives_of[0]) | driver_images(hives_of[1])
    source, target = (tree.machine(hives, images) for tree, hives in zip(trees, hives_of, strict=True))
    choices = Choices(_pairs(options.letter, "--letter"), _pairs(options.nic, "--nic"), options.same_hypervisor)
    plan = make_plan(source, target, choices)
    if options.rules:
        plan = rules.override(plan, rules.parse(_text(options.rules)))
    hives, plan = _merge(plan, source, target)
    told = compressed(file_plan(plan, {}, *trees), trees[1])
    plan = msgspec.structs.replace(plan, findings=(*plan.findings, *told))
    findings = Findings(plan.findings, options.ignore)
    if options.dry_run:
        shown = msgspec.structs.replace(plan, findings=tuple(findings.findings))
        print_json(to_dict(shown) | findings.to_dict()) if options.json else print(to_text(shown))
        return findings.exit_code
    findings.raise_inhibitors()
    data = hive_bytes(hives)
    done = _output(options, plan, data) if options.output else _in_place(options, plan, data, *trees)
    print_json({**done, **findings.to_dict()}) if options.json else print(_told(done, findings))
    return 0


def _merge(plan: Plan, source: System, target: System) -> tuple[dict[str, Hive], Plan]:
    """The merged hives, and the plan with what the consistency check has found in them."""
    if not plan.edits:
        return {}, plan
    hives = apply(plan, source.hives, target.hives)
    known = tuple(path for path in source.files.complete if path in target.files.complete)
    files = planned_tree(plan, source.files, target.files, known)
    found = check(System({**source.hives, **hives}, files, source.version), source, target)
    return hives, msgspec.structs.replace(plan, findings=(*plan.findings, *found))


def _output(options: argparse.Namespace, plan: Plan, data: dict[str, bytes]) -> dict[str, Any]:
    directory = options.output
    try:
        os.makedirs(directory, exist_ok=True)
        if os.listdir(directory):
            raise UsageError(f"{directory} is not empty", remedy="name a new directory")
    except OSError as error:
        raise UsageError(f"{directory}: {error.strerror}", remedy="name a directory that can be made") from error
    for name, content in data.items():
        save(os.path.join(directory, name), content)
    save(os.path.join(directory, "plan.txt"), to_text(plan).encode("utf-8", "backslashreplace"))
    save(os.path.join(directory, "plan.json"), json.dumps(to_dict(plan)).encode())
    return {"output": directory, "hives": {name: len(content) for name, content in data.items()}}


def _in_place(
    options: argparse.Namespace, plan: Plan, data: dict[str, bytes], source: WindowsTree, target: WindowsTree
) -> dict[str, Any]:
    work = Work(
        _command(options),
        file_plan(plan, data, source, target),
        data.get(BCD, b""),
        {name: len(content) for name, content in data.items()},
    )
    for tree in (source.root, target.root):
        _apart(tree, options.state)
    editor = Editor(source.root, target.root, options.state, copier=NtfsCopier())
    try:
        if not editor.journal.records:
            saved.keep(options.state, work)
        return _carry_out(options, work, editor)
    finally:
        editor.close()


def _go_on(options: argparse.Namespace) -> dict[str, Any] | None:
    """What an interrupted run of the same command has left to do is done; None: there was none. StateError: the run
    was of another command."""
    work = saved.load(options.state)
    if work is None:
        return None
    editor = Editor(options.source_tree, options.target_tree, options.state, copier=NtfsCopier())
    try:
        if editor.journal.taking_back:
            editor.undo()
        if not editor.journal.records:
            saved.forget(options.state)
            return None
        if work.command != _command(options):
            raise StateError(
                f"{options.state} holds an adaptation with other options",
                remedy="give the same ones to go on with it, or take it back first (--undo)",
            )
        return {"resumed": True, **_carry_out(options, work, editor)}
    finally:
        editor.close()


def _carry_out(options: argparse.Namespace, work: Work, editor: Editor) -> dict[str, Any]:
    try:
        made = editor.apply(work.plan)
        trees = WindowsTree(options.source_tree), WindowsTree(options.target_tree)
        lost = copy_attributes(work.plan, *trees, editor.kept)
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else options.source_tree
        raise StoreError(f"{where}: {error.strerror}", remedy="--undo puts everything back") from error
    done: dict[str, Any] = {"changed": trees[0].root, "edits": made, "hives": work.hives}
    if lost:
        done["lost"] = lost
    if work.boot_store:
        done["boot_store"] = os.path.join(options.state, "BCD")
        save(done["boot_store"], work.boot_store)
    return done


def _command(options: argparse.Namespace) -> str:
    places = (options.source_tree, options.target_tree, options.source_bcd, options.target_bcd)
    return command_digest(
        [
            [os.path.realpath(place) if place else "" for place in places],
            [options.letter, options.nic, options.same_hypervisor, options.ignore],
            _text(options.rules) if options.rules else "",
        ]
    )


def _undo(options: argparse.Namespace) -> int:
    """The tree may lack its hive at this moment: nothing is asked of it."""
    root = os.path.abspath(options.source_tree)
    editor = _editor(root, options.state)
    try:
        steps = editor.undo()
        saved.forget(options.state)
    finally:
        editor.close()
    print_json({"undone": steps}) if options.json else print(f"{root}: {steps} steps taken back")
    return 0


def _commit(options: argparse.Namespace) -> int:
    """The journal first: from then on nothing leads back, and what was kept is only in the way."""
    root = os.path.abspath(options.source_tree)
    editor = _editor(root, options.state)
    try:
        work = saved.load(options.state)
        if editor.journal.taking_back or (work and len(editor.journal.finished()) < len(work.plan.edits)):
            raise StateError(
                f"the adaptation of {root} is not complete",
                remedy="give the command with --in-place again, or --undo",
            )
        steps = len(editor.journal.open_steps())
        editor.journal.clear()
        saved.forget(options.state)
    finally:
        editor.close()
    kept = os.path.join(root, os.fsdecode(KEEP))
    if os.path.isdir(kept):
        shutil.rmtree(kept)
    print_json({"committed": steps}) if options.json else print(f"{root}: {steps} steps cannot be undone any more")
    return 0


def _editor(root: str, state: str) -> Editor:
    if not os.path.isdir(state):
        raise UsageError(f"{state} holds no journal", remedy="name the --state of the run with --in-place")
    return Editor(root, root, state)


def _told(done: dict[str, Any], findings: Findings) -> str:
    lines = [findings.to_text()] if findings.findings else []
    hives = ", ".join(done["hives"]) or "none"
    if "output" in done:
        return "\n".join([*lines, f"{done['output']}: merged hives ({hives}) and the plan; the trees are as they were"])
    lines.append(f"{done['changed']}: {done['edits']} edits; merged hives: {hives}; --undo takes everything back")
    lines += done.get("lost", [])
    if "boot_store" in done:
        lines.append(
            f"the boot store with the source's flags is {done['boot_store']}: put it in the target's place yourself"
        )
    return "\n".join(lines)


def _boot_store(tree: WindowsTree, given: str) -> Hive | None:
    if given:
        data, logs = load(given)
        return read_hive(data, logs)
    return next((hive for place in PLACES if (hive := tree.hive(place)) is not None), None)


def _apart(source: str, target: str) -> None:
    """UsageError for two places one of which holds the other."""
    one, two = (os.path.realpath(path) + "/" for path in (source, target))
    if one.startswith(two) or two.startswith(one):
        raise UsageError(f"{source} and {target}: one lies in the other", remedy="name places apart from each other")


def _pairs(lines: list[str], option: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for line in lines:
        name, separator, to = line.partition("=")
        if not separator or not name or not to or name in found:
            raise UsageError(f"{option} {line}: not of the form A=B", remedy=f"e.g. {option} E=F or {option} E=none")
        found[name] = None if to.lower() == "none" else to
    return found


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", remedy="name a TOML file in UTF-8") from error

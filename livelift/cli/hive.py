"""livelift hive show|diff|merge|check"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from livelift.cli.common import EXIT_CODES, add_verb, human, print_json
from livelift.cli.hive_check import CHECK, run_check
from livelift.cli.hive_files import load, load_file, lone_log, refuse_stale_logs, replace, save
from livelift.cli.hive_text import (
    difference_json,
    difference_lines,
    key_json,
    plain,
    say,
    say_text,
    time_of,
    value_line,
)
from livelift.errors import StateError, UsageError
from livelift.registry.compare import Difference, compare
from livelift.registry.merge import graft, unite
from livelift.registry.reader import read_hive
from livelift.registry.regtext import SHORT, apply, decode, encode, export, parse, real_path
from livelift.registry.tree import SEPARATOR, Hive, Key
from livelift.registry.writer import write_hive

TEXT = """Show, compare, change and check registry hives: the files in Windows\\System32\\config, NTUSER.DAT, BCD.
They are read as files, on any system; a hive of a running Windows is in use there, so take it from a snapshot, a
backup or "reg save".

Windows writes changes to transaction logs first. The logs beside FILE (FILE.LOG1, FILE.LOG2, FILE.LOG, in any case)
are replayed in memory where the hive needs them; FILE itself is never changed by that."""

SHOW = """Show a key: its subkeys and values. Names are compared without regard to case; CurrentControlSet stands for
the set that Select names.

example:
  livelift hive show SYSTEM 'Select'
  livelift hive show SYSTEM 'CurrentControlSet\\Services\\disk' --recursive
  livelift hive show SOFTWARE --recursive --reg -o software.reg"""

DIFF = """Compare two hives key by key and value by value: names, types, data, class names, security, flags. Ends
with 5 if they differ.

example:
  livelift hive diff SYSTEM.before SYSTEM"""

MERGE = """Make changes to a hive: those of .reg text (version 5.00), or keys of another hive with all below them.
What comes from another hive keeps its security, class names and time stamps; .reg text has none of these, so a key
that it makes has its parent's security. The hive is written anew, without free cells; FILE stays as it is, unless
--in-place is given, and then it is kept beside the new one.

example:
  livelift hive merge SYSTEM changes.reg --dry-run
  livelift hive merge SYSTEM changes.reg -o SYSTEM.new
  livelift hive merge SYSTEM --from OTHER --path 'ControlSet001\\Services\\vioscsi' -o SYSTEM.new"""


def register(verbs: Any) -> None:
    parser = verbs.add_parser(
        "hive", help="show, compare, change and check registry hives", description=TEXT, epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    show = add_verb(actions, "show", "show a key", SHOW, run_show)
    show.add_argument("file", metavar="FILE", help="the hive")
    show.add_argument("path", metavar="PATH", nargs="?", default="", help="the key, names with backslashes in between")
    show.add_argument("--recursive", "-r", action="store_true", help="with all keys below")
    show.add_argument("--reg", action="store_true", help="as .reg text; UTF-8 on stdout, UTF-16 with -o")
    show.add_argument("--output", "-o", metavar="OUT", default="", help="with --reg: write to this file")
    _prefix(show)
    _no_logs(show)

    diff = add_verb(actions, "diff", "compare two hives", DIFF, run_diff)
    diff.add_argument("old", metavar="A", help="the hive before")
    diff.add_argument("new", metavar="B", help="the hive after")
    diff.add_argument("--timestamps", action="store_true", help="compare the keys' time stamps, too")
    _no_logs(diff)

    merge = add_verb(actions, "merge", "change a hive", MERGE, run_merge)
    merge.add_argument("file", metavar="FILE", help="the hive")
    merge.add_argument("changes", metavar="CHANGES", nargs="?", default="", help=".reg text")
    merge.add_argument("--from", dest="other", metavar="OTHER", default="", help="take keys from this hive")
    merge.add_argument("--path", metavar="KEY", nargs="+", action="extend", default=[], help="the keys to take")
    merge.add_argument("--replace", action="store_true", help="what is at KEY goes; otherwise both are united")
    merge.add_argument("--output", "-o", metavar="OUT", default="", help="write the new hive to this file")
    merge.add_argument("--in-place", action="store_true", help="put it in FILE's place; FILE and its logs are kept")
    merge.add_argument("--dry-run", action="store_true", help="print the differences, write nothing")
    merge.add_argument("--accept-dirty", action="store_true", help="even if log entries are missing; changes are lost")
    _prefix(merge)
    _no_logs(merge)

    check = add_verb(actions, "check", "is a hive sound", CHECK, run_check)
    check.add_argument("file", metavar="FILE", help="the hive")
    _no_logs(check)


def _no_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-logs", action="store_true", help="leave the transaction logs out of account")


def _prefix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prefix", metavar="NAME", default="",
        help="what the root is called in .reg text (default HKEY_LOCAL_MACHINE\\ and the name of FILE)",
    )  # fmt: skip


def _read(path: str, options: argparse.Namespace) -> Hive:
    hive = read_hive(*load(path, not options.no_logs))
    for note in hive.notes + lone_log(path, hive.recovered):
        print(f"livelift: {path}: {note}", file=sys.stderr)
    if hive.dirty:
        print(f"livelift: {path}: DIRTY: it was not closed cleanly, and changes that are only in its logs are missing;"
              " put FILE.LOG1 and FILE.LOG2 beside it", file=sys.stderr)  # fmt: skip
    return hive


def _find(hive: Hive, path: str, file: str) -> tuple[str, Key]:
    path = real_path(hive, path.strip(SEPARATOR))
    key = hive.find(path)
    if key is None:
        near = path
        while hive.find(near) is None:
            near = near.rpartition(SEPARATOR)[0]
        raise UsageError(
            f"{file} has no key {plain(path)}", remedy=f"the nearest that it has is {plain(near) or 'the root'}"
        )
    return path, key


def _prefix_of(options: argparse.Namespace) -> str:
    given: str = options.prefix.strip(SEPARATOR)
    if not given:
        name: str = os.path.basename(options.file).partition(".")[0].upper()
        return "HKEY_LOCAL_MACHINE" + SEPARATOR + name
    first, separator, rest = given.partition(SEPARATOR)
    return SHORT.get(first.upper(), first) + separator + rest


def run_show(options: argparse.Namespace) -> int:
    if options.output and not options.reg:
        raise UsageError("-o goes with --reg", remedy="add --reg, or redirect the output")
    path, key = _find(_read(options.file, options), options.path, options.file)
    if options.reg:
        prefix = _prefix_of(options) + (SEPARATOR + path if path else "")
        text = "".join(export(key, prefix, recursive=options.recursive))
        if options.output:
            save(options.output, encode(text))
        else:
            say_text(text.replace("\r\n", "\n"))
        return 0
    for here, found in key.walk(path) if options.recursive else [(path, key)]:
        if options.json:
            print_json(key_json(here, found))
            continue
        say(f"[{plain(here) or '(root)'}]  {time_of(found.timestamp)}")
        for value in found.values:
            say(f"  {value_line(value)}")
        for child in () if options.recursive else found:
            say(f"  {plain(child.name)}{SEPARATOR}")
    return 0


def run_diff(options: argparse.Namespace) -> int:
    old, new = _read(options.old, options), _read(options.new, options)
    return 5 if _tell(compare(old.root, new.root, timestamps=options.timestamps), options.json) else 0


def _tell(differences: Any, as_json: bool) -> int:
    count = 0
    found: Difference
    for found in differences:
        count += 1
        if as_json:
            print_json(difference_json(found))
        else:
            for line in difference_lines(found):
                say(line)
    return count


def run_merge(options: argparse.Namespace) -> int:
    _merge_usage(options)
    hive = _read(options.file, options)
    before = hive.root.copy()
    sources = [(options.file, hive)]
    if options.changes:
        apply(hive, parse(decode(load_file(options.changes))), _prefix_of(options), _now())
    else:
        other = _read(options.other, options)
        sources.append((options.other, other))
        for wanted in options.path:
            _, key = _find(other, wanted, options.other)
            path = real_path(hive, wanted.strip(SEPARATOR))  # each hive has a current control set of its own
            into = hive.find(path)
            if into is None or (options.replace and path):
                graft(hive.root, path, key)
            elif options.replace:
                hive.root = key.copy()
            else:
                unite(into, key)
    for file, read in sources:
        if read.dirty and not options.accept_dirty:
            raise StateError(f"{file} is dirty, and its logs do not make that good",
                             remedy="get its .LOG1 and .LOG2, or lose those changes with --accept-dirty")  # fmt: skip
    if options.dry_run:
        _tell(compare(before, hive.root), options.json)
        return 0
    hive.timestamp = _now()
    data = write_hive(hive)
    count = sum(1 for _ in compare(before, hive.root))
    kept = replace(options.file, data) if options.in_place else []
    written = options.file if options.in_place else options.output
    if not options.in_place:
        save(written, data, options.file)
    if options.json:
        print_json({"written": written, "bytes": len(data), "differences": count, "kept": kept})
    else:
        say(f"{written}: {human(len(data))}, {count} differences")
        for name in kept:
            say(f"kept: {name}")
    return 0


def _merge_usage(options: argparse.Namespace) -> None:
    if bool(options.changes) == bool(options.other):
        raise UsageError("name either CHANGES or --from OTHER", remedy="see livelift hive merge --help")
    if bool(options.other) != bool(options.path):
        raise UsageError("--from and --path go together", remedy="name the keys to take with --path")
    if options.dry_run:
        return
    if bool(options.output) == options.in_place:
        raise UsageError("say where to write: -o OUT or --in-place", remedy="or look first with --dry-run")
    if options.output:
        for file in (options.file, options.other, options.changes):
            if file and os.path.exists(options.output) and os.path.samefile(file, options.output):
                raise UsageError(f"{options.output} is read from", remedy="--in-place keeps the old one")
        if os.path.isdir(os.path.dirname(os.path.abspath(options.output))):
            refuse_stale_logs(options.output)


def _now() -> int:
    """FILETIME of this moment."""
    return time.time_ns() // 100 + 116444736000000000

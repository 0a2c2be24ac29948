"""livelift hive check"""

from __future__ import annotations

import argparse

from livelift.cli.common import human, print_json
from livelift.cli.hive_files import load, lone_log
from livelift.cli.hive_text import plain, say, time_of
from livelift.registry.inspect import inspect
from livelift.registry.reader import open_hive, tree_of

CHECK = """Read every cell of a hive and say whether it is sound: structure, clean or dirty, what its logs hold, order
and hashes of subkeys, the ring of security descriptors. Ends with 0 for a sound hive, with 4 if it is dirty and its
logs do not make that good or if something is not as the kernel wants it, with 1 if it cannot be read."""


def run_check(options: argparse.Namespace) -> int:
    data, logs = load(options.file, not options.no_logs)
    opened = open_hive(data, logs)
    hive = tree_of(opened)
    block, cells = opened.block, opened.cells
    found = inspect(cells, block)
    keys, values = hive.counts()
    lost = cells.lost()
    state = "clean" if opened.recovery is None else "dirty" if hive.dirty else "recovered"
    notes = hive.notes + lone_log(options.file, hive.recovered)
    ok = state != "dirty" and not found.counts
    if options.json:
        print_json({
            "file": options.file, "ok": ok, "state": state, "format": f"1.{block.minor}", "bytes": len(data),
            "logs": len(logs), "log_entries": hive.recovered, "notes": notes, "written": time_of(block.timestamp),
            "name": block.file_name, "keys": keys, "values": values, "descriptors": found.descriptors,
            "bins": cells.bin_count, "used": cells.used, "free": cells.free, "unreferenced_cells": lost,
            "lists": dict(found.lists), "largest_list": found.largest_leaf, "findings": dict(found.counts),
            "details": found.findings,
        })  # fmt: skip
        return 0 if ok else 4
    say(f"{options.file}: registry hive 1.{block.minor}, {plain(block.file_name)!r}, {human(len(data))}")
    entries = f", {hive.recovered} log entries replayed" if hive.recovered else ""
    say(f"state    {state}{entries}; {len(logs)} logs beside it")
    for note in notes:
        say(f"         {note}")
    say(f"written  {time_of(block.timestamp) or 'no time noted'}")
    say(f"content  {keys} keys, {values} values, {found.descriptors} security descriptors")
    say(f"space    {cells.bin_count} bins, {human(cells.used)} used, {human(cells.free)} free, {lost} cells lost")
    lists = ", ".join(f"{count} {kind}" for kind, count in sorted(found.lists.items()))
    say(f"lists    {lists or 'none'}, up to {found.largest_leaf} subkeys in one")
    for line in found.findings:
        say(f"finding  {plain(line)}")
    hidden = found.counts.total() - len(found.findings)
    if hidden:
        say(f"finding  {hidden} more of the same kinds")
    if state == "dirty":
        say("DIRTY    it was not closed cleanly, and what is only in its logs is missing")
    say("sound" if ok else "NOT sound")
    return 0 if ok else 4

"""Writes docs/reference/windows-edits.md from the rules themselves: ``python docs/generate_windows_edits.py``."""

from __future__ import annotations

from pathlib import Path

from livelift.adapt.windows.planner import RULES

OUT = Path(__file__).resolve().parent / "reference/windows-edits.md"

HEAD = """# What the adaptation of Windows changes, and why

Generated from the rules by `docs/generate_windows_edits.py`; a test compares the two. The plan of [`livelift
adapt-windows`](cli.md#livelift-adapt-windows) is made by these rules, in this order; an edit's id begins with its
rule's name. `CSn` is the control set that Select\\Current names, of each hive separately. Base is always the
source's hive: what no rule names stays as it was on the source.

The last line of a rule tells where its knowledge is from: *measured* on real hives, *read* in the named source, or
general knowledge. No merged system has been booted yet ([guarantees](../guarantees.md#windows-adaptation)).
"""

TAIL = """
## What is refused

An inhibitor stops the run before anything changes; `--ignore ID` goes on in spite of one. The generations (7 / 2008
R2; 8, 8.1 / 2012, 2012 R2; 10 / 2016 / 2019; 11 / 2022 / 2025) are told by the build number, and the system hive
must look like one of that generation. Refused are: different generations (no plan is made), different builds,
architectures or system roots, a hive that was not closed cleanly and whose logs do not make that good, a source in
the middle of a setup, a letter or a static address whose place on the target is not told, a boot driver whose file
nobody has, a boot store that starts something else, and everything that the consistency check finds in the merged
hives that was not so before.

## The consistency check

It shares no decisions with the rules and runs on every merge, after the rules file: every service that a device
names exists; every Driver value points to an instance of its class; no filter dangles or is disabled; every boot
driver's file is in the planned tree; no driver that the target boots with is off; the oem numbers agree in
DriverInfFiles, DriverPackages, DeviceIds, OemInfMap, texts and files; Select; letters; setup flags; pending renames;
what makes the identity; bindings of TCP/IP.
"""


def render() -> str:
    lines = [HEAD]
    for rule in RULES:
        lines += [
            f"## {rule.id}",
            "",
            f"- **Touches:** `{rule.touches}`",
            f"- **Does:** {rule.does}",
            f"- **Why:** {rule.why}",
            f"- **Known from:** {rule.evidence}",
            "",
        ]
    return "\n".join(lines).rstrip("\n") + "\n" + TAIL


if __name__ == "__main__":
    OUT.write_text(render(), encoding="utf-8")

"""Collects the facts for the preflight rules on the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from livelift.checks.data import SourceFacts, TargetFacts, check_clocks, check_maps, check_target
from livelift.checks.findings import Finding, Findings, Level
from livelift.errors import LiveliftError
from livelift.model.job import Map
from livelift.platform.system import boot_id, os
from livelift.source.edge import choose, find_volumes


def source_facts(maps: tuple[Map, ...]) -> SourceFacts:
    missing = tuple(m.source for m in maps if not os.path.isdir(m.source))
    used = inodes = 0
    seen: set[int] = set()
    for m in maps:
        if m.source in missing:
            continue
        device = os.stat(m.source).st_dev
        st = os.statvfs(m.source)
        if device in seen or not os.path.ismount(m.source):
            continue  # a part of a file system: its size is known only after the walk
        seen.add(device)
        used += (st.f_blocks - st.f_bfree) * st.f_frsize
        inodes += max(st.f_files - st.f_ffree, 0)
    real = tuple(os.path.realpath(m.source) for m in maps)
    return SourceFacts(missing, used, inodes, boot_id(), real, os.geteuid() == 0)


def preflight(
    maps: tuple[Map, ...],
    directory: bytes,
    capture: str,
    ignored: tuple[str, ...] = (),
    left: tuple[bytes, ...] = (),
    hollow: tuple[bytes, ...] = (),
    more: Sequence[Finding] = (),
) -> Findings:
    """What can be told on the source alone. Changes nothing. ``more``: what the caller has found."""
    found = [*check_maps(maps, source_facts(maps)), *more]
    if not any(f.level is Level.INHIBITOR for f in found):
        try:
            volumes = find_volumes(maps, [directory], left, hollow)
            found += [
                Finding("skipped", Level.NOTE, f"{os.fsdecode(s.path)} is left out: {s.reason}")
                for s in volumes.skipped
            ]
            capture_port, choice = choose(volumes.watched(), capture)
            capture_port.close()
            blind = ", ".join(choice.blind_to) or "nothing"
            text = f"capture by {choice.name}: {choice.promise}; blind to {blind}; {choice.why}"
            found.append(Finding("capture", Level.NOTE, text))
            found += [Finding("capture-rejected", Level.WARNING, f"not {name}: {why}") for name, why in choice.rejected]
        except LiveliftError as error:
            found.append(Finding(error.code, Level.INHIBITOR, str(error.args[0]), error.remedy))
    return Findings(found, ignored)


def check_welcome(
    maps: tuple[Map, ...], facts: dict[str, Any], skew_ns: int, resumed: bool, ignored: tuple[str, ...]
) -> Findings:
    """What the target told about itself, against the source."""
    targets = [
        TargetFacts(
            path=path,
            real=str(f.get("real", path)),
            free_bytes=int(f.get("free", 0)),
            free_inodes=int(f.get("free_inodes", -1)),
            xattr=bool(f.get("xattr")),
            acl=bool(f.get("acl")),
            case_sensitive=bool(f.get("case_sensitive", True)),
            empty=bool(f.get("empty", True)),
        )
        for path, f in facts.items()
        if isinstance(f, dict)
    ]
    found = [*check_clocks(skew_ns), *check_target(source_facts(maps), targets, str(facts.get("boot_id", "")), resumed)]
    return Findings(found, ignored)

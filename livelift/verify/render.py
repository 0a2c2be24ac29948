"""Prints a verification report for the operator. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from livelift.verify.report import Report, ReportedDifference, ReportedPath, Side


def render(report: Report, limit: int = 40) -> str:
    """Plain text, no line longer than its paths: verdict, both sides, up to ``limit`` differences, what was
    intended."""
    lines = [
        f"verification of job {report.job}: {_verdict(report)}",
        f"  at LSN {report.cut}, {_time(report.time)}, capture {report.capture}, {report.tool}",
    ]
    for mapped in report.maps:
        lines.append(f"  map {mapped.index}: {_path(mapped.source)} -> {_path(mapped.target)}")
    lines += ["", *_table([("", "source", "target"), *_sides(report.source, report.target)])]
    if report.differences:
        lines += ["", *_table([("map", "path", "what", "source", "target"), *map(_row, report.differences[:limit])])]
        hidden = report.failing + report.notes - min(limit, len(report.differences))
        if hidden:
            lines.append(f"... and {hidden} more")
        if report.notes:
            lines.append(f"{report.notes} of them, in brackets, are notes: they do not fail the verification")
    if report.intended:
        lines += ["", "intended differences:"]
        for item in report.intended:
            fields = ", ".join(item.fields) or "all"
            where = _path(item.path) if item.map < 0 else f"map {item.map}: {_path(item.path)}"
            lines.append(f"  {where} ({fields}): {item.reason} [{item.covered} found]")
    return "\n".join(lines) + "\n"


def _verdict(report: Report) -> str:
    verdict = "EQUAL" if report.equal else f"DIFFERENT, {report.failing} differences"
    if report.sample < 1:
        verdict += f" (content of a sample of {report.sample:.1%} of the files, metadata of all)"
    return verdict


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _sides(one: Side, other: Side) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("host", one.host, other.host), ("tree digest", one.tree[:16], other.tree[:16])]
    for label, field in (
        ("directories", "directories"),
        ("objects", "objects"),
        ("files read", "files_read"),
        ("bytes read", "bytes_read"),
        ("files from cache", "files_from_cache"),
        ("bytes from cache", "bytes_from_cache"),
        ("unreadable", "unreadable"),
    ):
        rows.append((label, f"{getattr(one, field):,}", f"{getattr(other, field):,}"))
    return rows


def _row(difference: ReportedDifference) -> tuple[str, ...]:
    what = difference.field if difference.fails else f"({difference.field})"
    return str(difference.map), _path(difference.path), what, difference.source, difference.target


def _path(path: ReportedPath) -> str:
    return path.text or "."


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

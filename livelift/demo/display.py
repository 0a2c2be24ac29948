"""What the demo shows while it runs: a live picture on a terminal, a plain line every five seconds elsewhere."""

from __future__ import annotations

import time
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

EVERY = 5.0
"""Seconds between plain lines."""


def human_bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def number(status: dict[str, Any], key: str) -> float:
    """A field of the status as a number; 0 while the agent has none yet."""
    value = status.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def plain_line(status: dict[str, Any], commits: int, elapsed: float) -> str:
    parts = [
        f"{elapsed:5.0f} s  {status.get('state', 'starting'):<10}",
        f"{number(status, 'initial_percent'):5.1f} %",
        f"{number(status, 'files'):,.0f} files",
        human_bytes(number(status, "bytes")),
        f"{human_bytes(number(status, 'rate'))}/s",
        f"lag {human_seconds(number(status, 'lag'))}",
        f"backlog {human_bytes(number(status, 'backlog'))}",
        f"{commits:,} commits",
    ]
    if status.get("eta"):
        parts.insert(5, f"eta {human_seconds(number(status, 'eta'))}")
    return "  ".join(parts)


class Display:
    """`step` begins a stage, `update` shows the agent's status, `say` prints a line that stays. A context manager."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._began = time.monotonic()
        self._last_line = 0.0
        self._title = ""
        self._status: dict[str, Any] = {}
        self._commits = 0
        self._live = Live(console=self._console, refresh_per_second=4, transient=True, get_renderable=self._picture)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def step(self, title: str) -> None:
        self._title = title
        self.say(f"==> {title}")

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def update(self, status: dict[str, Any], commits: int) -> None:
        self._status, self._commits = status, commits
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= EVERY:
            self._last_line = now
            self.say("    " + plain_line(status, commits, now - self._began))

    def _picture(self) -> Group:
        status = self._status
        grid = Table.grid(padding=(0, 3))
        for _ in range(4):
            grid.add_column(min_width=14)
        cells = [
            ("state", str(status.get("state", "starting"))),
            ("files", f"{number(status, 'files'):,.0f}"),
            ("copied", human_bytes(number(status, "bytes"))),
            ("rate", f"{human_bytes(number(status, 'rate'))}/s"),
            ("lag", human_seconds(number(status, "lag"))),
            ("backlog", human_bytes(number(status, "backlog"))),
            ("eta", human_seconds(number(status, "eta")) if status.get("eta") else "-"),
            ("commits", f"{self._commits:,}"),
        ]
        texts = [Text.assemble((f"{name} ", "dim"), (text, "bold")) for name, text in cells]
        grid.add_row(*texts[:4])
        grid.add_row(*texts[4:])
        elapsed = human_seconds(time.monotonic() - self._began)
        return Group(
            Text.assemble(("livelift demo  ", "bold"), self._title, (f"  {elapsed}", "dim")),
            ProgressBar(total=100, completed=number(status, "initial_percent"), width=72),
            grid,
        )

    def table(self, title: str, rows: list[tuple[str, str]]) -> None:
        """The table at the end."""
        table = Table(title=title, show_header=False, title_justify="left", title_style="bold")
        table.add_column()
        table.add_column(justify="right")
        for name, value in rows:
            table.add_row(name, value)
        self._console.print(table)

"""The command line of Livelift, but content that the kernel told is read anew when its turn comes: late.

For the control of the cut tests: with this agent the same tests must find damage. Everything else stays: names, order,
marks. ``LIVELIFT_LATE``: how many seconds after the write it is read, at least.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from livelift.cli.main import main
from livelift.model.record import Kind, Range
from livelift.ports import Exact
from livelift.source.agent import SourceAgent
from livelift.source.live import Gone, Moved
from livelift.source.told import ToldContent

LATE = float(os.environ.get("LIVELIFT_LATE", "0.5"))

agents: list[SourceAgent] = []
begin, put = SourceAgent.start, ToldContent.put


def start(self: SourceAgent, *arguments: Any) -> None:
    agents.append(self)
    begin(self, *arguments)


def put_late(self: ToldContent, events: list[Exact]) -> None:
    time.sleep(max(0.0, LATE + events[-1].record.time / 1e9 - time.time()))
    for event in events:
        body = event.record.body
        if agents and event.record.kind is Kind.WRITE and isinstance(body, Range):
            place = agents[0].journal.index.place(body.oid)
            if place is None:
                continue
            try:
                fd = agents[0].live.open_file(body.oid, *place)
            except (Moved, Gone, OSError):
                continue
            try:
                event.record.payload = os.pread(fd, body.length, body.offset).ljust(body.length, b"\0")
            finally:
                os.close(fd)
    put(self, events)


if __name__ == "__main__":
    SourceAgent.start, ToldContent.put = start, put_late  # type: ignore[method-assign]
    sys.exit(main())

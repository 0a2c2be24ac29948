"""The spool against a list: any order of appending, sending, broken links, acknowledging, crashes and giving up."""

from __future__ import annotations

import os
import shutil
import tempfile
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from livelift.model.record import RELOADABLE, Kind, Record
from livelift.spool.files import segment_names
from livelift.spool.spool import Spool, SpoolFullError
from tests.spool.helpers import JOB, base, mark, records, write

CAP, MEMORY, SEGMENT = 12_000, 3_000, 900

one = st.one_of(
    st.builds(write, st.integers(1, 5), st.integers(0, 900).map(lambda n: b"w" * n)),
    st.builds(base, st.integers(6, 9), st.integers(0, 900).map(lambda n: b"b" * n)),
    st.builds(mark, st.text(max_size=20)),
)


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.top = tempfile.mkdtemp()
        self.flushes = mock.patch.multiple(os, fsync=mock.DEFAULT, fdatasync=mock.DEFAULT)  # time, not what is tested
        self.flushes.start()
        self.directory = os.fsencode(os.path.join(self.top, "spool"))
        self.log: dict[int, Record] = {}  # what was appended, payload and all
        self.last = self.acked = self.sent = 0
        self.lost: list[int] = []
        self.open()

    def open(self) -> None:
        self.spool = Spool(
            self.directory, JOB, cap=CAP, segment_size=SEGMENT, memory=MEMORY, on_elided=self.lost.extend
        )
        assert self.spool.recovered_lsn == self.last and not self.spool.torn_bytes
        self.sent = self.last  # memory is empty: base content is gone

    def teardown(self) -> None:
        self.spool.close()
        self.flushes.stop()
        shutil.rmtree(self.top)

    @rule(batch=st.lists(one, min_size=1, max_size=6))
    def append(self, batch: list[Record]) -> None:
        payloads = [record.payload for record in batch]
        self.lost.clear()
        try:
            first, last = self.spool.append(batch)
        except SpoolFullError:
            assert not any(record.lsn for record in batch)
            self.collapse()
            return
        assert (first, last) == (self.last + 1, self.last + len(batch))
        for lsn, record, payload in zip(range(first, last + 1), batch, payloads, strict=True):
            gone = record.kind is Kind.WRITE and record.body.oid in self.lost and bool(payload)
            self.log[lsn] = Record(record.kind, record.body, b"" if gone else payload, record.time, lsn, gone)
            self.log[lsn].length = len(payload) * gone
        self.last = last

    @precondition(lambda self: self.last > self.acked)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        """From anywhere: the link may have broken. What comes is what was appended, up to the end of a batch."""
        after = data.draw(st.integers(self.acked, self.last - 1))
        found = records(self.spool.next(after, 0))
        expected = [lsn for lsn in sorted(self.log) if lsn > after]
        assert [record.lsn for record in found] == expected[: len(found)] and found
        for record in found:
            original = self.log[record.lsn]
            if record.elided and original.kind in RELOADABLE:
                assert record.lsn <= self.sent, "base content that was never sent is not in memory any more"
                assert record.length == len(original.payload) and not record.payload
                assert record.body == original.body
            else:
                assert record == original

    @rule(data=st.data())
    def count_as_sent(self, data: st.DataObject) -> None:
        self.sent = max(self.sent, lsn := data.draw(st.integers(self.acked, self.last)))
        self.spool.sent(lsn)

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        lsn = data.draw(st.integers(self.acked, self.last))
        self.spool.acked(lsn)
        self.acked = lsn
        self.sent = max(self.sent, lsn)

    @rule()
    def collapse(self) -> None:
        self.last = self.spool.collapse()
        (gap,) = records(self.spool.next(self.last - 1, 0))
        self.log = {self.last: gap}

    @rule(ahead=st.integers(1, 1000))
    def target_is_ahead(self, ahead: int) -> None:
        behind = self.last + ahead
        self.last = self.spool.collapse(at_least=behind)
        assert self.last == behind + 1
        (gap,) = records(self.spool.next(behind, 0))
        self.log = {self.last: gap}

    @rule()
    def flush(self) -> None:
        assert self.spool.sync() == self.last

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.open()
        assert self.spool.acked_lsn == self.acked

    @rule()
    def crash(self) -> None:
        """kill -9: nothing is flushed or noted any more."""
        self.spool._close_files()
        self.spool._closing = True
        self.open()
        assert self.spool.acked_lsn <= self.acked
        self.spool.acked(self.acked)

    @invariant()
    def bounds(self) -> None:
        spool = self.spool
        assert (spool.last_lsn, spool.acked_lsn) == (self.last, self.acked)
        assert spool.disk_bytes == sum(os.path.getsize(path) for _, path in segment_names(self.directory)) <= CAP
        unsent = [len(r.payload) for lsn, r in self.log.items() if r.kind in RELOADABLE and lsn > self.sent]
        overhead = 2000 * (len(unsent) + 1)  # each may hold a batch: its heads and what Python needs
        assert spool.memory_bytes <= MEMORY + sum(unsent) + overhead, "only unsent base content may exceed the memory"
        assert spool.backlog_bytes(self.last) == 0


SpoolMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSpool = SpoolMachine.TestCase

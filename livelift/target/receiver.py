"""The conversation with the source: batches are applied, checkpoints taken, acknowledgements sent.

Acknowledged as applied: it is in the replica's page cache. Acknowledged as durable: ``syncfs`` of every replica file
system and the directory map are behind it. Trouble of the replica's own disk (full, failing) stalls the replay, is
told to the source and tried again; nothing is skipped.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from livelift.errors import LiveliftError, StoreError, UnreachableError
from livelift.log.batch import records_of
from livelift.model.job import Map
from livelift.model.record import Kind, Mark, Record
from livelift.platform.linux.files import syncfs
from livelift.protocol.messages import Ack, Bye, CutAsk, CutDone, Fault, Message, Resync
from livelift.replay.replayer import Replayer
from livelift.transport.channel import Channel
from livelift.transport.inbox import Delivery

log = logging.getLogger(__name__)

CHECKPOINT = 0.25
FLOOD = 8 << 20
FLOOD_CHECKPOINT = 5.0
"""Seconds between two checkpoints while records come: the source keeps (spools) that much more."""
ACK = 0.02
STALL_RETRY = 1.0


class Receiver:
    """One channel's life. ``answer`` handles verification and renewal messages (called in the receiving thread's order:
    everything sent before the question has been applied). ``replayer`` None: a cut at durable LSN ``cut`` stands, and
    what comes is not applied; the source sends it again after a rollback, over another connection. ``on_mark`` is
    called with the label of a SYNC record when all before it has been applied and nothing behind it."""

    def __init__(
        self,
        channel: Channel,
        replayer: Replayer | None,
        cut: int,
        maps: tuple[Map, ...],
        answer: Callable[[Message], Message | None],
        on_cut: Callable[[CutAsk], CutDone],
        on_mark: Callable[[str], None] = lambda label: None,
    ) -> None:
        self._channel = channel
        self._replayer = replayer
        self._cut_at = cut
        self._maps = maps
        self._answer = answer
        self._on_cut = on_cut
        self._on_mark = on_mark
        self._stop = threading.Event()
        self._apply_lock = threading.Lock()
        self._wake = threading.Event()
        self._due = threading.Event()  # a checkpoint is wanted now
        self.applied_time = 0
        self.stalled = ""
        self.error: LiveliftError | None = None
        self._gone = False
        self.resyncs = 0
        self.bytes = 0

    def run(self, stop: threading.Event) -> None:
        """Until the channel ends or ``stop`` is set."""
        acks = threading.Thread(target=self._acknowledge, name="acks", daemon=True)
        checkpoints = threading.Thread(target=self._checkpoint, name="checkpoint", daemon=True)
        acks.start()
        checkpoints.start()
        try:
            while not stop.is_set() and not self._stop.is_set():
                message = self._channel.receive(0.2)
                if message is None:
                    continue
                if isinstance(message, Delivery):
                    try:
                        if self._replayer is not None:
                            self._apply(message, self._replayer, stop)
                    finally:
                        message.release()
                elif isinstance(message, Bye):
                    log.info("the source says good-bye: %s", message.reason)
                    break
                elif isinstance(message, CutAsk):
                    self._channel.send(self._cut(message))
                else:
                    reply = self._answer(message)
                    if reply is not None:
                        self._channel.send(reply)
        except UnreachableError as error:
            self.error = error
            log.warning("link lost: %s", error)
        except LiveliftError as error:
            self.error = error
            log.error("%s", error)
            self._say(Fault(error.code, str(error), error.remedy))
        except Exception as error:
            log.exception("the replay has failed")
            self._say(Fault("failed", f"the target agent has failed: {error!r}", "see the target's log"))
            raise
        finally:
            self._stop.set()
            self._due.set()
            self._wake.set()
            checkpoints.join()
            acks.join()
            self._final()
            self._channel.close("")

    # -- batches -----------------------------------------------------------------------------------------------------

    @property
    def durable_lsn(self) -> int:
        replayer = self._replayer
        return self._cut_at if replayer is None else replayer.durable_lsn

    @property
    def applied_lsn(self) -> int:
        replayer = self._replayer
        return self._cut_at if replayer is None else replayer.applied_lsn

    def _apply(self, delivery: Delivery, replayer: Replayer, stop: threading.Event) -> None:
        records = records_of(delivery.heads, delivery.blob)
        self.bytes += delivery.size
        begin = 0
        for end in [number for number, record in enumerate(records, 1) if record.kind is Kind.SYNC]:
            before = replayer.applied_lsn
            if not self._apply_these(records[begin:end], replayer, stop):
                return
            mark = records[end - 1]
            assert isinstance(mark.body, Mark)
            if before < mark.lsn == replayer.applied_lsn and replayer.exact:
                self._on_mark(mark.body.label)
            begin = end
        if records[begin:]:
            self._apply_these(records[begin:], replayer, stop)

    def _apply_these(self, records: list[Record], replayer: Replayer, stop: threading.Event) -> bool:
        """False: the conversation ends."""
        while True:
            try:
                with self._apply_lock:
                    result = replayer.apply(records)
                    for conflict in result.conflicts:  # told before a checkpoint can make the position durable
                        self.resyncs += 1
                        why = f"{conflict.kind.name}: {conflict.detail}"
                        self._channel.send(Resync(conflict.oid, max(conflict.parent, 0), conflict.name, why))
                break
            except StoreError as error:  # the replica's own disk: full or failing
                self.stalled = str(error)
                log.error("replay stalls: %s", error)
                if replayer.broken:
                    raise  # the source connects again, and finds another one
                self._wake.set()
                if stop.wait(STALL_RETRY) or self._stop.is_set() or self._gone:
                    self._stop.set()  # what follows must not be applied without this
                    return False
        if self.stalled:
            log.info("replay goes on")
            self.stalled = ""
        self.applied_time = _time_of(records)
        if any(record.kind is Kind.BASE_DONE for record in records):
            self._due.set()  # the source waits for this one
        self._wake.set()
        return True

    def _cut(self, ask: CutAsk) -> CutDone:
        """The position has been applied (messages come in order with batches); now it is made durable."""
        if self._replayer is None:
            return CutDone(ask.lsn, ask.label, b"", "it has been cut already")
        if self._replayer.applied_lsn < ask.lsn:
            return CutDone(ask.lsn, ask.label, b"", f"applied only up to LSN {self._replayer.applied_lsn}")
        try:
            with self._apply_lock:
                self._cut_at = self._replayer.checkpoint()
                done = self._on_cut(ask)
                self._replayer = None
                return done
        except StoreError as error:
            return CutDone(ask.lsn, ask.label, b"", str(error))

    # -- checkpoints and acknowledgements ----------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        last, before = time.monotonic(), 0
        while not self._stop.is_set():
            asked = self._due.wait(CHECKPOINT)
            self._due.clear()
            now, came = time.monotonic(), self.bytes
            # A flood (the base copy) is synced less often: each sync stalls it, and it can be read again anyway.
            if asked or came - before < FLOOD or now - last >= FLOOD_CHECKPOINT:
                self._take_checkpoint()
                last = now
            before = came

    def _take_checkpoint(self) -> None:
        if self.applied_lsn == self.durable_lsn:
            return
        try:
            self._flush()  # beside the replay: the long part
            with self._apply_lock:
                if self._replayer is not None:
                    self._replayer.checkpoint()
            self._wake.set()
        except StoreError as error:
            self.stalled = str(error)
            log.error("checkpoint: %s", error)

    def _flush(self) -> None:
        for line in self._maps:
            fd = os.open(line.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(fd)
            except OSError:
                return  # the checkpoint meets it too, and knows what it means
            finally:
                os.close(fd)

    def _final(self) -> None:
        try:
            with self._apply_lock:
                if self._replayer is not None:
                    self._replayer.checkpoint()
        except StoreError as error:
            log.error("checkpoint: %s", error)

    def _acknowledge(self) -> None:
        last: tuple[int, int, str] = (-1, -1, "")
        said = 0.0
        while not self._stop.is_set():
            self._wake.wait(1.0)
            self._wake.clear()
            now = (self.durable_lsn, self.applied_lsn, self.stalled)
            if now != last or time.monotonic() - said >= 1.0:
                last, said = now, time.monotonic()
                if not self._say(Ack(now[0], now[1], self.applied_time, self.free(), now[2])):
                    self._gone = True
                    return
            self._stop.wait(ACK)

    def free(self) -> int:
        """Bytes free on the fullest file system of the replica."""
        found = []
        for line in self._maps:
            st = os.statvfs(line.target)
            found.append(st.f_bavail * st.f_frsize)
        return min(found, default=0)

    def _say(self, message: Message) -> bool:
        try:
            self._channel.send(message)
        except UnreachableError:
            return False
        return True


def _time_of(records: list[Record]) -> int:
    for record in reversed(records):
        if not Kind.BASE_FILE <= record.kind <= Kind.BASE_END:
            return record.time
    return 0

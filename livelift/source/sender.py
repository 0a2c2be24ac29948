"""The sender: the log goes out over the link, acknowledgements come back; after any break it resumes at the durable
LSN."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from livelift.errors import (
    LiveliftError,
    PreflightError,
    RetryError,
    TrustError,
    UnreachableError,
    UsageError,
    VersionError,
)
from livelift.log.batch import Batch, divided, records_of
from livelift.log.codec import HEADER
from livelift.model.record import Kind
from livelift.protocol.frames import MAX_BLOB, MAX_HEADS
from livelift.protocol.messages import (
    Ack,
    Bye,
    CutDone,
    Fault,
    Hello,
    Message,
    Renewed,
    Resync,
    StageAnswer,
    VerifyAnswer,
    Welcome,
)
from livelift.spool.spool import Spool
from livelift.transport.channel import Channel

log = logging.getLogger(__name__)

RETRY = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to connect; the last one repeats."""

FATAL = (TrustError, VersionError, PreflightError, UsageError)
"""What trying again cannot mend: the agent ends with it."""

EAGER = 1.0
"""The longest of them behind a hand-over."""

PACE = 0.005
"""Seconds that a small batch waits for company: each frame wakes four threads on the two machines."""

JOIN = 128 << 10
"""Bytes up to which waiting batches are joined into one frame."""


class Lag:
    """Capture-to-applied delay, by batch: a sliding window of samples, in seconds."""

    def __init__(self, window: int = 4096) -> None:
        self._sent: deque[tuple[int, int]] = deque()
        self._samples: deque[float] = deque(maxlen=window)
        self._lock = threading.Lock()

    def sent(self, lsn: int, captured: int) -> None:
        with self._lock:
            self._sent.append((lsn, captured))

    def applied(self, lsn: int, now: int) -> None:
        with self._lock:
            while self._sent and self._sent[0][0] <= lsn:
                _, captured = self._sent.popleft()
                if captured:
                    self._samples.append(max(now - captured, 0) / 1e9)

    def oldest(self) -> int:
        """Capture time of the oldest batch that was sent and not applied; 0 if there is none."""
        with self._lock:
            return next((t for _, t in self._sent if t), 0)

    def reset(self) -> None:
        with self._lock:
            self._sent.clear()

    def percentiles(self) -> tuple[float, float, float]:
        """p50, p95, p99 of the last samples; zeros without any."""
        with self._lock:
            values = sorted(self._samples)
        if not values:
            return 0.0, 0.0, 0.0
        p50, p95, p99 = (values[min(int(len(values) * p), len(values) - 1)] for p in (0.5, 0.95, 0.99))
        return p50, p95, p99


class Sender:
    """``connect`` opens a channel (UnreachableError, TrustError); ``hello`` builds the first message; ``reread`` is
    told the objects whose content was lost on the way; ``handle`` gets every message that is not about
    acknowledgement; ``give_way`` returns when the next batch may go."""

    def __init__(
        self,
        spool: Spool,
        connect: Callable[[], Channel],
        hello: Callable[[], Hello],
        welcome: Callable[[Welcome], int],
        reread: Callable[[list[int]], None],
        handle: Callable[[Message], None],
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        self._spool = spool
        self._connect = connect
        self._hello = hello
        self._welcome = welcome
        self._reread = reread
        self._handle = handle
        self._give_way = give_way
        self.lag = Lag()
        self.channel: Channel | None = None
        self.connected = threading.Event()
        self.changed = threading.Condition()
        self.applied_lsn = 0
        self.durable_lsn = 0
        self.sent_lsn = 0
        self.target_free = 0
        self.heard = 0.0  # monotonic: the last acknowledgement
        self.stalled = ""
        self.last_error = ""
        self.fatal: LiveliftError | None = None
        self.reconnects = 0
        self._wire_before = 0
        self.renewed = False
        self.eager = False  # behind a hand-over: the target is another system, or on its way to be one

    def run(self, stop: threading.Event) -> None:
        attempt = 0
        while not stop.is_set():
            try:
                channel = self._connect()
            except UnreachableError as error:
                self.last_error = str(error)
                stop.wait(min(RETRY[min(attempt, len(RETRY) - 1)], EAGER if self.eager else RETRY[-1]))
                attempt += 1
                continue
            except FATAL as error:
                if self._give_up(error, stop):
                    return
                continue
            attempt = 0
            try:
                self._converse(channel, stop)
            except (UnreachableError, RetryError) as error:
                self.last_error = str(error)
                log.warning("link lost: %s", error)
                self.reconnects += 1
            except FATAL as error:
                if self._give_up(error, stop):
                    return
            finally:
                self.connected.clear()
                self.channel = None
                self._wire_before += channel.counters.wire_out
                channel.close("")
            stop.wait(RETRY[0])

    def _give_up(self, error: LiveliftError, stop: threading.Event) -> bool:
        """What trying again cannot mend ends the agent; behind a hand-over somebody has to go on asking."""
        log.error("%s", error)
        if not self.eager:
            self.fatal = error
            return True
        self.last_error = str(error)
        stop.wait(RETRY[-1])
        return False

    def _converse(self, channel: Channel, stop: threading.Event) -> None:
        channel.send(self._hello())
        first = self._first(channel)
        after = self._welcome(first)
        self.durable_lsn = self.applied_lsn = first.durable_lsn
        self.lag.reset()
        self.channel = channel
        self.last_error = ""
        self.heard = time.monotonic()
        self.connected.set()
        log.info("connected; the target has LSN %d", first.durable_lsn)
        broken = threading.Event()
        listener = threading.Thread(target=self._listen, args=(channel, stop, broken), name="acks", daemon=True)
        listener.start()
        resumed_from = self._spool.last_lsn
        try:
            while not stop.is_set() and not broken.is_set():
                if channel.is_worn or self.renewed:
                    self.renewed = False
                    return  # new keys, or a new certificate: connect again
                batch = self._spool.next(after, 0.1)
                if batch is None:
                    continue
                if batch.first_lsn <= resumed_from:
                    self._find_lost(batch)
                else:
                    if batch.size < JOIN and self._spool.last_lsn == batch.last_lsn:
                        stop.wait(PACE)  # a trickle: what follows in a moment goes in the same frame
                    batch = self._joined(batch)
                self._give_way()
                for part in divided(batch, MAX_HEADS, MAX_BLOB):  # a ring gives out at once what waited for one write
                    channel.send_batch(part)
                after = self.sent_lsn = batch.last_lsn
                self.lag.sent(batch.last_lsn, _captured(batch))
                self._spool.sent(batch.last_lsn)
            if broken.is_set():
                channel.send(Bye("lost"))  # raises what broke the channel
        finally:
            broken.set()
            if stop.is_set():
                try:
                    channel.send(Bye("source stops"))
                except UnreachableError:
                    pass
            channel.close("source stops" if stop.is_set() else "")
            listener.join(5)

    def _joined(self, batch: Batch) -> Batch:
        """Small batches that wait behind this one go in the same frame: a frame costs more than a record."""
        if batch.size >= JOIN:
            return batch
        parts, size = [batch], batch.size
        while size < JOIN:
            more = self._spool.next(parts[-1].last_lsn, 0.0)
            if more is None or more.first_lsn != parts[-1].last_lsn + 1:
                break
            parts.append(more)
            size += more.size
        if len(parts) == 1:
            return batch
        return Batch(
            batch.first_lsn,
            sum(p.count for p in parts),
            b"".join(p.heads for p in parts),
            [blob for p in parts for blob in p.blobs],
        )

    def _first(self, channel: Channel) -> Welcome:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            message = channel.receive(1.0)
            if isinstance(message, Welcome):
                return message
            if isinstance(message, Fault):
                raise _from_fault(message)
        raise UnreachableError("the target: it did not answer the greeting within 30 s")

    def _find_lost(self, batch: Batch) -> None:
        """A batch that comes from disk lacks its base content: those objects are read again."""
        oids = [
            r.body.oid
            for r in records_of(batch.heads, b"".join(batch.blobs), verify=False)
            if r.elided and hasattr(r.body, "oid")
        ]
        if oids:
            self._reread(oids)

    def _listen(self, channel: Channel, stop: threading.Event, broken: threading.Event) -> None:
        try:
            while not broken.is_set():
                message = channel.receive(0.5)
                if message is None:
                    continue
                if isinstance(message, Ack):
                    self._ack(message)
                elif isinstance(message, Resync | VerifyAnswer | StageAnswer | CutDone | Renewed):
                    self._handle(message)
                elif isinstance(message, Fault):
                    self.last_error = f"{message.text} {message.remedy}".strip()
                    log.error("target: %s", self.last_error)
                elif isinstance(message, Bye):
                    break
        except LiveliftError as error:
            self.last_error = str(error)
        finally:
            broken.set()
            with self.changed:
                self.changed.notify_all()

    def _ack(self, ack: Ack) -> None:
        now = time.time_ns()
        self.lag.applied(ack.applied_lsn, now)
        with self.changed:
            self.heard = time.monotonic()
            self.applied_lsn = ack.applied_lsn
            self.target_free = ack.free_bytes
            self.stalled = ack.stalled
            if ack.durable_lsn > self.durable_lsn:
                self.durable_lsn = ack.durable_lsn
                self._spool.acked(ack.durable_lsn)
            self.changed.notify_all()

    def wire_bytes(self) -> int:
        """Bytes that went over the network (before TLS) since the agent started."""
        channel = self.channel
        return self._wire_before + (channel.counters.wire_out if channel is not None else 0)

    def wait_durable(self, lsn: int, timeout: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.durable_lsn >= lsn, timeout)


def _captured(batch: Batch) -> int:
    """Capture time of a batch's first change; 0 for base content, which nobody waits for."""
    _, kind, _, _, time_ns, *_ = HEADER.unpack_from(batch.heads, 0)
    return 0 if Kind.BASE_FILE <= kind <= Kind.BASE_END else time_ns


def _from_fault(fault: Fault) -> LiveliftError:
    kinds: dict[str, type[LiveliftError]] = {c.code: c for c in _tree(LiveliftError)}
    return kinds.get(fault.code, LiveliftError)(fault.text, remedy=fault.remedy)


def _tree(cls: type[LiveliftError]) -> list[type[LiveliftError]]:
    return [cls, *(d for sub in cls.__subclasses__() for d in _tree(sub))]

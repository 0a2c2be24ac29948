"""One job's connection: messages and batches in both directions over several TLS sockets.

Every socket is used in one direction by one thread: an OpenSSL connection must not be read and written at once, and
since Python 3.13 a lock in `ssl` would make one wait for the other. So a channel has two control connections (one each
way) and N data lanes, all in the direction in which batches flow. Messages never wait behind batches, and pings are
answered even while the consumer does not take any batches.

All methods may be called by any thread. ``send_batch`` blocks while the lanes' queues are full: that is back-pressure.
When one socket breaks or the peer falls silent, the whole channel is failed, and every method raises UnreachableError
from then on; what was received but not yet fetched is dropped (nobody acknowledged it).
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from livelift.errors import LiveliftError, UnreachableError, WireError
from livelift.log.batch import Batch
from livelift.protocol import frames
from livelift.protocol.frames import Header
from livelift.protocol.messages import Bye, Fault, Message, Peer, Ping, Pong, Role, encode
from livelift.protocol.session import Session, State
from livelift.transport import wire
from livelift.transport.compress import Compression, IdleCores
from livelift.transport.inbox import Delivery, Inbox
from livelift.transport.lanes import Outgoing, Receiver, Sender
from livelift.transport.limiter import Limiter
from livelift.transport.outbox import Outbox
from livelift.transport.pool import Pool

log = logging.getLogger(__name__)

CONTROL_QUEUE: Final = 16 << 20
GRACE: Final = 1.0
"""Seconds in which a Bye or Fault on its way may explain why another socket ended first."""
REKEY_AFTER: Final = 1 << 38
"""Bytes on one connection: TLS wants new keys before 2^24.5 full records of AES-GCM (RFC 8446, 5.5), 388 GB. Python's
ssl cannot update keys, so the channel is to be opened again."""


class Options(NamedTuple):
    """Bytes and seconds. ``compress``: adaptive zstd, off on fast links by itself."""

    queue: int = 8 << 20  # per lane, sender
    window: int = 32 << 20  # all lanes, receiver
    ping_every: float = 5.0
    dead_after: float = 20.0
    compress: bool = True
    limiter: Limiter | None = None


class Lanes(NamedTuple):
    """The sockets of a channel, each for one direction, handshakes done."""

    control_out: socket.socket
    control_in: socket.socket
    data_out: Sequence[socket.socket]
    data_in: Sequence[socket.socket]


class Counters(NamedTuple):
    """Bytes since the channel was opened. Raw: heads and payloads; wire: frames before TLS."""

    raw_out: int
    wire_out: int
    raw_in: int
    wire_in: int


class Channel:
    """See the module's docstring. ``me``: this agent's role. Starts its threads at once."""

    def __init__(self, me: Role, peer: Peer, lanes: Lanes, options: Options = Options()) -> None:  # noqa: B008 (frozen)
        self.peer: Final = peer
        self.rtt = 0.0
        """Seconds, of the last ping."""
        self.clock_offset_ns = 0
        """The peer's wall clock minus ours, good to half a round trip."""
        self._options = options
        self._lanes = lanes
        self._session = Session(me)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._error: LiveliftError | None = None
        self._farewell: LiveliftError | None = None
        self._heard = time.monotonic()
        self._control_ended = threading.Event()
        self._held_up = False
        self._pool = Pool(options.window)
        self._inbox = Inbox(options.window, self._pool)
        self._control: Outbox[bytes] = Outbox(1, CONTROL_QUEUE)
        self._outbox: Outbox[Outgoing] = Outbox(len(lanes.data_out), options.queue)
        self._control_wire = [0, 0]
        self._receiving = len(lanes.data_in)
        self._compression = Compression(len(lanes.data_out), IdleCores(), options.compress)
        self._limited_before = [0.0] * len(lanes.data_out)
        self._senders = [
            Sender(self._outbox, lane, self._compression, options.limiter, self._over)
            for lane in range(len(lanes.data_out))
        ]
        self._receivers = [Receiver(self._inbox, self._pool, self._accept_batch) for _ in lanes.data_in]
        wire.tune(lanes.control_out, options.dead_after, control=True)
        wire.tune(lanes.control_in, options.dead_after, control=True)
        for connection in (*lanes.data_out, *lanes.data_in):
            wire.tune(connection, options.dead_after, control=False)
        self._threads = [
            self._start("control-out", lanes.control_out, self._send_control),
            self._start("control-in", lanes.control_in, self._receive_control),
        ]
        for number, connection in enumerate(lanes.data_out):
            self._threads.append(self._start(f"out-{number}", connection, self._senders[number].run))
        for number, connection in enumerate(lanes.data_in):
            self._threads.append(self._start(f"in-{number}", connection, self._receivers[number].run))
        self._keeper = threading.Thread(target=self._keep, name="lane-keeper", daemon=True)
        self._keeper.start()

    # What the engine calls

    def send(self, message: Message) -> None:
        """Queue a message. WireError: not allowed in this state of the session, or too long."""
        data = encode(message)
        with self._lock:
            self._raise_if_over()
            self._session.sent(message)
        self._put_control(data)

    def send_batch(self, batch: Batch, sent: Callable[[], None] | None = None) -> None:
        """Queue a batch; waits for room. Its buffers must not change until ``sent`` is called (by a lane's thread)."""
        if len(batch.heads) > frames.MAX_HEADS or batch.payload_size > frames.MAX_BLOB:
            raise WireError(f"a batch of {len(batch.heads)} + {batch.payload_size} bytes exceeds the limits")
        if not self._lanes.data_out:
            raise WireError("this end of the channel receives batches")
        with self._lock:
            self._raise_if_over()
            self._session.sent_batch()
        self._outbox.put(lambda sequence: Outgoing(batch, sequence, sent), batch.size)

    def receive(self, timeout: float | None = None) -> Message | Delivery | None:
        """The next message, else the next batch in LSN order; None after ``timeout`` seconds.

        A Bye (after all batches sent before it) or a Fault is the last that comes; then UnreachableError.
        """
        try:
            found = self._inbox.take(timeout)
        except WireError as error:
            self._fail(error)
            raise
        if isinstance(found, Bye | Fault):
            self._fail(self._farewell or UnreachableError("the peer: it said good-bye"))
        return found

    def close(self, reason: str = "", timeout: float = 10.0) -> None:
        """Send what is queued (for at most ``timeout`` seconds), say good-bye, end. Never raises; may be called
        again."""
        if not self._over.is_set() and threading.current_thread() not in self._threads:
            if self._farewell is None:
                self._outbox.drain(timeout)
            self._last_words(Bye(reason))
        self._fail(UnreachableError(f"the peer: this agent closed the channel {reason}".rstrip()))
        for thread in (*self._threads, self._keeper):
            if thread is not threading.current_thread():
                thread.join(5.0)

    @property
    def is_open(self) -> bool:
        return not self._over.is_set() and self._farewell is None

    @property
    def state(self) -> State:
        return self._session.state

    @property
    def counters(self) -> Counters:
        return Counters(
            sum(sender.raw for sender in self._senders),
            sum(sender.wire for sender in self._senders) + self._control_wire[0],
            sum(receiver.raw for receiver in self._receivers),
            sum(receiver.wire for receiver in self._receivers) + self._control_wire[1],
        )

    @property
    def queued(self) -> int:
        """Bytes of batches not yet handed to the kernel."""
        return self._outbox.waiting

    @property
    def level(self) -> int:
        """The zstd level in force, 0 = off."""
        return self._compression.level

    @property
    def is_worn(self) -> bool:
        """Whether some connection has carried so much that its keys should be new: close at a quiet moment, connect."""
        carried = [sender.wire for sender in self._senders] + [receiver.wire for receiver in self._receivers]
        return max(carried) > REKEY_AFTER

    # Threads

    def _start(
        self, name: str, connection: socket.socket, work: Callable[[socket.socket], None]
    ) -> threading.Thread:
        def run() -> None:
            try:
                work(connection)
            except WireError as error:
                log.warning("%s: %s", name, error.args[0])
                self._last_words(Fault(error.code, str(error.args[0])[:4096], error.remedy[:4096]))
                self._fail(error)
            except (OSError, wire.HungUp) as error:
                self._lost(connection, name, error)
            except Exception as error:  # a defect of ours must not leave a channel that looks alive
                log.exception("%s", name)
                self._fail(UnreachableError(f"the peer: internal error in {name}: {error!r}"))
            finally:
                with self._lock:
                    connection.close()

        thread = threading.Thread(target=run, name=f"lane-{name}", daemon=True)
        thread.start()
        return thread

    def _send_control(self, connection: socket.socket) -> None:
        while taken := self._control.take(0):
            data, size = taken
            header = frames.message_header(len(data), self._outbox.sequence)
            connection.sendall(header + data)
            self._control_wire[0] += len(header) + len(data)
            if self._options.limiter:
                self._options.limiter.charge(len(data))
            self._control.sent(0, size)

    def _receive_control(self, connection: socket.socket) -> None:
        room = bytearray(frames.HEADER_SIZE)
        try:
            while not self._over.is_set():
                header = wire.read_header(connection, room)
                message = wire.read_message(connection, header)
                self._control_wire[1] += header.wire_size
                self._heard = time.monotonic()
                self._accept(message, header)
                if self._farewell:
                    return
        finally:
            self._control_ended.set()

    def _accept_batch(self) -> None:
        self._heard = time.monotonic()
        with self._lock:
            self._session.received_batch()

    def _accept(self, message: Message, header: Header) -> None:
        with self._lock:
            self._session.received(message)
        if isinstance(message, Ping):
            self._put_control(encode(Pong(message.sent_ns, time.time_ns())), urgent=True)
            return
        if isinstance(message, Pong):
            trip = time.monotonic_ns() - message.sent_ns
            self.rtt = trip / 1e9
            self.clock_offset_ns = message.clock_ns + trip // 2 - time.time_ns()
            return
        if isinstance(message, Bye):
            self._part(UnreachableError(f"the peer: it closed the channel {message.reason}".rstrip()))
        elif isinstance(message, Fault):
            self._part(UnreachableError(f"the peer: it gave up: {message.text}", remedy=message.remedy))
        self._held_up = True  # while we do not read, silence is our own doing
        self._inbox.put_message(message, header.sequence, header.heads_raw)
        self._heard = time.monotonic()
        self._held_up = False

    def _keep(self) -> None:
        """Pings, the peer's silence, stuck lanes, the compression level."""
        options = self._options
        pinged = suspected = time.monotonic() - options.ping_every
        while not self._over.wait(min(0.5, options.ping_every / 2)):
            now = time.monotonic()
            silent = now - self._heard > options.dead_after and not self._held_up
            if self._farewell:
                # Batches sent before its good-bye are still to come, as far as we have room for them.
                if silent and self._inbox.used < options.window and not self._inbox.is_complete():
                    self._fail(self._farewell)
                continue
            if silent:
                self._fail(UnreachableError(f"the peer: no sign of life for {options.dead_after:g} seconds"))
                return
            if not any(wire.is_suspect(c, options.dead_after) for c in self._lanes.data_out):
                suspected = now
            elif now - suspected > options.dead_after / 2:
                self._fail(UnreachableError(f"the peer: a data lane got no answer for {options.dead_after:g} seconds"))
                return
            if now - pinged >= options.ping_every:
                pinged = now
                self._put_control(encode(Ping(time.monotonic_ns())), urgent=True)
            if self._lanes.data_out:
                limited = [wire.receiver_limited(c) for c in self._lanes.data_out]
                gained = sum(now - before for now, before in zip(limited, self._limited_before, strict=True))
                self._limited_before = limited
                self._compression.decide(gained)

    # The end

    def _part(self, error: UnreachableError) -> None:
        """The peer said its last word: nothing goes out any more, what came is still to be fetched."""
        self._farewell = error
        self._outbox.fail(self._copy_error)

    def _lost(self, connection: socket.socket, name: str, error: Exception) -> None:
        """A socket ended. If the control connection tells why within a moment, that is the reason."""
        if connection is not self._lanes.control_in and not self._over.is_set():
            self._control_ended.wait(GRACE)
        if self._farewell is None:
            self._fail(wire.unreachable(f"the peer ({name})", error))
            return
        if connection in self._lanes.data_in:
            with self._lock:
                self._receiving -= 1
                last = self._receiving == 0
            if last and not self._inbox.is_complete():
                self._fail(wire.unreachable("the peer (it said good-bye, but batches are missing)", error))

    def _last_words(self, message: Bye | Fault) -> None:
        """Best effort: the socket may be the reason why there is something to say."""
        try:
            with self._lock:
                self._session.sent(message)
            self._put_control(encode(message))
            self._control.drain(GRACE)
        except (LiveliftError, OSError):
            log.debug("no last words: the channel has failed already")

    def _put_control(self, data: bytes, urgent: bool = False) -> None:
        """``urgent``: from a thread that must not wait for room; it goes before the rest."""
        if not urgent or self._control.waiting < 2 * CONTROL_QUEUE:  # a peer that only pings cannot fill our memory
            self._control.put(lambda _: data, len(data), urgent)

    def _fail(self, error: LiveliftError) -> None:
        with self._lock:
            if self._error is not None:
                return
            self._error = error
            self._over.set()
            for connection in self._sockets():
                wire.shut(connection)
        self._inbox.fail(self._copy_error)
        self._outbox.fail(self._copy_error)
        self._control.fail(self._copy_error)

    def _copy_error(self) -> LiveliftError:
        """A new exception for each who asks: one instance raised by many threads would mix up their tracebacks."""
        error = self._error or self._farewell or UnreachableError("the peer: the channel is closed")
        return type(error)(*error.args, remedy=error.remedy)

    def _raise_if_over(self) -> None:
        if self._error or self._farewell:
            raise self._copy_error()

    def _sockets(self) -> list[socket.socket]:
        lanes = self._lanes
        return [lanes.control_out, lanes.control_in, *lanes.data_out, *lanes.data_in]

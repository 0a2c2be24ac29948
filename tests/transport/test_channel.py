from __future__ import annotations

import ctypes
import datetime
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from livelift.errors import UnreachableError, WireError
from livelift.log.batch import Batch
from livelift.protocol import frames
from livelift.protocol.messages import Ack, Bye, Fault, Hello, Renew, Renewed, Status, Welcome
from livelift.transport import wire
from livelift.transport.channel import Channel, Options
from livelift.transport.client import connect
from livelift.transport.inbox import Delivery
from livelift.transport.limiter import Limiter, parse_schedule

QUICK = Options(ping_every=0.1, dead_after=1.0)


def batch_of(first: int, size: int = 100_000, count: int = 1) -> Batch:
    blob = os.urandom(size)
    return Batch(first, count, b"heads %d" % first, [blob[:10], memoryview(blob)[10:70_000], blob[70_000:]])


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_batches_arrive_in_order_and_whole(world, lanes):
    source, target = world.streaming(lanes)
    batches = [batch_of(1 + 3 * n, 1000 * (n % 7) ** 4, 3) for n in range(60)]
    sender = threading.Thread(target=lambda: [source.send_batch(batch) for batch in batches])
    sender.start()
    for batch in batches:
        delivery = target.receive(10)
        assert isinstance(delivery, Delivery)
        assert (delivery.first_lsn, delivery.count, delivery.last_lsn) == (batch.first_lsn, 3, batch.last_lsn)
        assert delivery.heads == batch.heads
        assert delivery.blob == b"".join(batch.blobs)
        delivery.release()
    sender.join()
    assert target.counters.raw_in == source.counters.raw_out == sum(batch.size for batch in batches)
    assert target.counters.wire_in >= target.counters.raw_in


def test_messages_go_both_ways_and_pass_batches(world):
    source, target = world.streaming()
    target.send(Ack(1, 2, 3, 4))
    source.send(Status(b"x"))
    assert source.receive(5) == Ack(1, 2, 3, 4)
    assert target.receive(5) == Status(b"x")
    assert target.receive(0.05) is None


def test_close_delivers_all_batches_then_the_good_bye(world):
    source, target = world.streaming(2)
    for n in range(20):
        source.send_batch(batch_of(n + 1, 500_000))
    closer = threading.Thread(target=source.close, args=("done",))
    closer.start()
    for n in range(20):
        delivery = target.receive(10)
        assert isinstance(delivery, Delivery)
        assert delivery.first_lsn == n + 1
        delivery.release()
    assert target.receive(10) == Bye("done")
    closer.join()
    for use in (lambda: target.receive(1), lambda: target.send(Ack(0, 0, 0, 0)), lambda: source.receive(1)):
        with pytest.raises(UnreachableError, match="closed"):
            use()
    assert not target.is_open
    assert not source.is_open


def test_batch_before_greeting_is_refused_here(world):
    source, _ = world.join()
    with pytest.raises(WireError, match="while connecting"):
        source.send_batch(batch_of(1))


def test_target_end_cannot_send_batches(world):
    _, target = world.streaming()
    with pytest.raises(WireError, match="receives batches"):
        target.send_batch(batch_of(1))


def test_slow_consumer_holds_the_sender_back_and_nobody_hoards(world):
    small = Options(queue=2 << 20, window=4 << 20, ping_every=0.1, dead_after=1.0)
    source, target = world.streaming(2, theirs=small, ours=small)
    passed = []

    def produce():
        for n in range(60):
            source.send_batch(Batch(n + 1, 1, b"h", [bytes(1 << 20)]))
            passed.append(n)

    producer = threading.Thread(target=produce)
    producer.start()
    # Longer than dead_after: back-pressure is not death. Kernel buffers take some of it too (tcp_wmem, tcp_rmem).
    time.sleep(2.5)
    held = len(passed)
    assert held < 55
    assert source.queued <= 2 * (2 << 20)
    assert target._inbox.used <= (4 << 20) + (1 << 20) + 2  # the next batch is always admitted
    assert source.is_open
    assert target.is_open
    target.send(Ack(0, 0, 0, 0))  # messages pass meanwhile
    assert source.receive(2) == Ack(0, 0, 0, 0)
    for n in range(60):
        delivery = target.receive(5)
        assert isinstance(delivery, Delivery)
        assert delivery.first_lsn == n + 1
        delivery.release()
    producer.join()
    assert target._inbox.used == 0


def test_forgotten_deliveries_do_not_stop_the_channel(world):
    small = Options(window=2 << 20)
    source, target = world.streaming(1, theirs=small)
    producer = threading.Thread(
        target=lambda: [source.send_batch(Batch(n + 1, 1, b"h", [bytes(1 << 20)])) for n in range(10)]
    )
    producer.start()
    for n in range(10):
        assert target.receive(5).first_lsn == n + 1  # never released, collected
    producer.join()


def test_held_deliveries_never_deadlock_the_consumer(world):
    small = Options(window=2 << 20)
    source, target = world.streaming(2, theirs=small)
    producer = threading.Thread(
        target=lambda: [source.send_batch(Batch(n + 1, 1, b"h", [bytes(1 << 20)])) for n in range(10)]
    )
    producer.start()
    held = [target.receive(5) for _ in range(10)]
    assert [delivery.first_lsn for delivery in held] == list(range(1, 11))
    producer.join()


def fails(channel: Channel, match: str = "the peer") -> None:
    with pytest.raises(UnreachableError, match=match):
        while channel.receive(10) is not None:
            pass
    for use in (lambda: channel.receive(1), lambda: channel.send(Status(b""))):
        with pytest.raises(UnreachableError):
            use()
    assert not channel.is_open


@pytest.mark.parametrize("which", ["data", "control_up", "control_down"])
def test_one_broken_socket_fails_the_whole_channel_on_both_sides(world, which):
    source, target = world.streaming(2, theirs=QUICK, ours=QUICK)
    lanes = source._lanes
    wire.shut({"data": lanes.data_out[1], "control_up": lanes.control_out, "control_down": lanes.control_in}[which])
    fails(target)
    fails(source)
    with pytest.raises(UnreachableError):
        source.send_batch(batch_of(1))


def test_lane_broken_in_mid_frame(world):
    source, target = world.streaming(1)
    frame = frames.build(frames.Header(frames.FrameKind.BATCH, 0, 0, 1, 1, 5, 5, 1 << 20, 1 << 20)) + b"heads"
    lane = source._lanes.data_out[0]
    lane.sendall(frame + bytes(1000))
    wire.shut(lane)
    fails(target, "middle of a frame")
    fails(source)


def test_sender_blocked_by_back_pressure_wakes_when_the_peer_dies(world):
    small = Options(queue=1 << 20, window=1 << 20)
    source, target = world.streaming(1, theirs=small, ours=small)
    outcome = []

    def produce():
        try:
            for n in range(1000):
                source.send_batch(Batch(n + 1, 1, b"h", [bytes(1 << 20)]))
        except UnreachableError as error:
            outcome.append(error)

    producer = threading.Thread(target=produce)
    producer.start()
    time.sleep(0.3)
    for connection in target._sockets():
        wire.shut(connection)
    producer.join(10)
    assert len(outcome) == 1


def test_peer_that_stops_without_a_word_is_noticed(world):
    """A real process under SIGSTOP: the kernel goes on acknowledging, nobody reads or pings."""
    listener = world.listen(options=QUICK)
    ready, told = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(listener.address[1]), str(world.directory / "source"), str(told)],
        pass_fds=[told],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    os.close(told)
    try:
        target = world.channels.get(timeout=20)
        assert isinstance(target.receive(10), Hello)
        target.send(Welcome(0, 0, 0))
        assert os.read(ready, 1) == b"r"
        child.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        fails(target, "no sign of life")
        assert time.monotonic() - began < 5
        child.send_signal(signal.SIGCONT)
        assert os.read(ready, 1) == b"u"  # the other side sees it too, once it runs again
        target.close()
    finally:
        child.kill()
        child.wait()
        os.close(ready)


STOPPED = """
import datetime, os, sys
from pathlib import Path
from livelift.errors import UnreachableError
from livelift.identity.trust import Trust
from livelift.protocol.messages import Hello, Welcome
from livelift.transport.channel import Options
from livelift.transport.client import connect

port, directory, told = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
trust = Trust(directory, lambda: datetime.datetime.now(datetime.UTC))
channel = connect("127.0.0.1", port, trust, options=Options(ping_every=0.1, dead_after=1.0))
channel.send(Hello("source", "5eed", (), 0, 1))
assert isinstance(channel.receive(5), Welcome)
os.write(told, b"r")
try:
    channel.receive(30)
except UnreachableError:
    os.write(told, b"u")
"""


def test_ping_measures_the_round_trip_and_the_clocks(world):
    source, _ = world.streaming(theirs=QUICK, ours=QUICK)
    deadline = time.monotonic() + 5
    while not source.rtt and time.monotonic() < deadline:
        time.sleep(0.05)
    assert 0 < source.rtt < 1
    assert abs(source.clock_offset_ns) < 500_000_000  # one machine, one clock


def test_idle_channel_lives(world):
    source, target = world.streaming(theirs=QUICK, ours=QUICK)
    assert target.receive(2.5) is None
    source.send_batch(batch_of(1))
    assert target.receive(5).first_lsn == 1
    assert source.is_open


@pytest.mark.parametrize(
    "bytes_sent",
    [b"\0" * 48, b"GET / HTTP/1.1\r\n" * 4, frames.message_header(10, 0) + b"0123456789", frames.build(
        frames.Header(frames.FrameKind.BATCH, frames.ZSTD_BLOB, 0, 1, 1, 5, 5, 10, 1 << 20)) + b"h" * 15],
    ids=["zeros", "http", "message on a data lane", "no zstd"],
)  # fmt: skip
def test_garbage_inside_tls_is_a_wire_error_there_and_a_fault_here(world, bytes_sent):
    source, target = world.streaming()
    source._lanes.data_out[0].sendall(bytes_sent)
    with pytest.raises(WireError):
        target.receive(5)
    fault = source.receive(5)
    assert isinstance(fault, Fault)
    assert fault.code == "wire"
    with pytest.raises(UnreachableError, match="it gave up"):
        source.receive(5)


def test_lsn_that_goes_back_is_refused(world):
    source, target = world.streaming()
    source.send_batch(batch_of(10, count=5))
    source.send_batch(batch_of(12))
    assert target.receive(5).first_lsn == 10
    with pytest.raises(WireError, match="LSN 12 came after LSN 14"):
        target.receive(5)


def test_oversized_batch_is_refused_before_anything_is_queued(world):
    source, _ = world.streaming()
    with pytest.raises(WireError, match="limits"):
        source.send_batch(Batch(1, 1, b"h", [bytes(frames.MAX_BLOB + 1)]))
    source.send_batch(Batch(1, 1, b"h", [bytes(frames.MAX_BLOB)]))


def test_buffers_are_aligned_and_told_free(world):
    source, target = world.streaming()
    freed = threading.Event()
    source.send_batch(batch_of(1, 1 << 20), freed.set)
    delivery = target.receive(5)
    assert freed.wait(5)
    address = ctypes.addressof(ctypes.c_char.from_buffer(delivery.blob))
    assert address % 4096 == 0
    delivery.retain()
    delivery.release()
    delivery.release()
    with pytest.raises(ValueError, match="already released"):
        delivery.release()


def test_renewal_over_the_live_channel(world):
    source, target = world.streaming()
    source.send(Renew(world.source.begin_renewal()))
    asked = target.receive(5)
    target.send(Renewed(world.authority.sign(asked.csr, target.peer.role, datetime.datetime.now(datetime.UTC))))
    before = world.source.certificate_der
    world.source.finish_renewal(source.receive(5).certificate)
    assert world.source.certificate_der != before
    host, port = world._made[0].address
    connect(host, port, world.source).close()


def test_bandwidth_limit_holds(world):
    limiter = Limiter(parse_schedule("2M"), time.monotonic, lambda: 0)
    source, target = world.streaming(2, ours=Options(limiter=limiter, compress=False))
    began = time.monotonic()
    for n in range(4):
        source.send_batch(batch_of(n + 1, 500_000))
    for _ in range(4):
        target.receive(10).release()
    assert 0.6 < time.monotonic() - began < 3


def test_close_does_not_wait_for_the_limiter(world):
    limiter = Limiter(parse_schedule("2K"), time.monotonic, lambda: 0)
    source, _ = world.streaming(ours=Options(limiter=limiter))
    source.send_batch(batch_of(1, 4 << 20))
    began = time.monotonic()
    source.close(timeout=0.2)
    assert time.monotonic() - began < 4


def test_no_threads_or_sockets_are_left(world):
    before = set(threading.enumerate())  # those of other tests may still be ending
    source, target = world.streaming(2)
    source.send_batch(batch_of(1))
    target.receive(5).release()
    source.close()
    target.close()
    assert all(connection.fileno() == -1 for channel in (source, target) for connection in channel._sockets())
    deadline = time.monotonic() + 10  # a thread that was told to end may need a moment on a busy machine
    while left := [t.name for t in set(threading.enumerate()) - before if t.name.startswith("lane-")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def test_compressed_batches_arrive_whole_in_aligned_memory(world):
    source, target = world.streaming(2, ours=Options(compress=False))
    source._compression._rung = 3
    text = b"the same words again and again " * 30_000
    for n in range(8):
        source.send_batch(Batch(n + 1, 1, text[:2000], [text[n:], os.urandom(n * 1000)]))
    for n in range(8):
        delivery = target.receive(5)
        assert delivery.heads == text[:2000]
        assert delivery.blob[: len(text) - n] == text[n:]
        assert ctypes.addressof(ctypes.c_char.from_buffer(delivery.blob)) % 4096 == 0
        delivery.release()
    assert target.counters.wire_in < target.counters.raw_in / 5

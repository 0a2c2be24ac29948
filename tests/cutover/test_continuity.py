"""What a client saw: the accounting, and a real client of a service that stands still."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.cutover import client
from livelift.cutover.client import Watch, parse
from livelift.cutover.continuity import Request, account
from livelift.errors import UsageError


def test_an_outage_is_from_the_last_answer_to_the_next():
    seen = [Request(i / 10, i / 10 + 0.01) for i in range(20)]
    seen += [Request(2.0, 7.0, "timed out"), Request(7.0, 7.001, "refused"), Request(7.1, 7.101, "refused")]
    seen += [Request(i / 10, i / 10 + 0.01) for i in range(72, 90)]
    report = account("x", seen, 0.0, 9.0)
    assert (report.requests, report.failures) == (41, 3)
    assert report.gap == pytest.approx(7.21 - 1.91)
    assert report.gap_began == pytest.approx(1.91)
    assert report.usual == pytest.approx(0.1)
    assert report.kinds == (("refused", 2), ("timed out", 1))
    assert report.text().startswith("x: 41 requests in 9.0 s, 3 failed; longest time without an answer 5.3")
    assert report.to_dict()["kinds"] == {"refused": 2, "timed out": 1}


def test_one_that_never_answered_and_one_that_was_never_asked():
    assert account("x", [Request(0.0, 1.0, "refused")], 0.0, 3.0)[3:6] == (1, 3.0, 0.0)
    assert account("x", [], 5.0, 8.0)[2:6] == (0, 0, 3.0, 0.0)


def test_an_outage_that_has_not_ended_counts_to_the_end_of_the_watch():
    report = account("x", [Request(0.0, 0.1), Request(1.0, 1.1, "refused")], 0.0, 60.0)
    assert report.gap == pytest.approx(59.9)


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=30))
def test_the_gap_is_never_shorter_than_any_stretch_without_answers(parts):
    now, seen = 0.0, []
    for took, failed in parts:
        seen.append(Request(now, now + took, "x" if failed else ""))
        now += took
    report = account("x", seen, 0.0, now)
    assert report.gap >= max((r.ended - r.began for r in seen), default=0.0) - 0.001
    assert report.gap <= now + 0.001
    assert report.failures == sum(failed for _, failed in parts)


@pytest.mark.parametrize("target", ["", "ftp://x/", "tcp:host", "tcp::80", "tcp:host:http", "http://", "example.com"])
def test_what_cannot_be_asked(target):
    with pytest.raises(UsageError, match="cannot be asked"):
        parse(target)


class Service(BaseHTTPRequestHandler):
    still = threading.Event()
    status = 200

    def do_GET(self) -> None:
        while self.still.is_set():
            time.sleep(0.01)
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    Service.still.clear()
    Service.status = 200
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    Service.still.clear()
    server.shutdown()
    server.server_close()
    thread.join()


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_a_service_that_stands_still_for_a_while(service, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE", 0.5)
    with Watch([service, "tcp:" + service.split("/")[2]], 0.02) as watch:
        wait_for(lambda: len(watch._seen[service]) > 5, "answers")
        Service.still.set()
        time.sleep(1.2)
        Service.still.clear()
        watch.until_answered()
    http, tcp = watch.reports()
    assert http.failures >= 1 and "timed out" in http.kinds[0][0]
    assert 1.0 < http.gap < 4.0
    assert tcp.failures == 0, "the kernel accepts for a service that stands still"


def test_an_answer_that_says_that_it_failed_is_none(service):
    Service.status = 503
    with pytest.raises(ValueError, match="HTTP 503"):
        parse(service)()
    Service.status = 404
    parse(service)()


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Watch([f"tcp:127.0.0.1:{port}"], 0.01) as watch:
        wait_for(lambda: watch.reports()[0].requests > 3, "requests")
    (report,) = watch.reports()
    assert report.failures == report.requests
    assert "refused" in report.kinds[0][0]


def test_nothing_to_watch_costs_nothing():
    with Watch([]) as watch:
        watch.until_answered()
    assert watch.reports() == []

"""Server and client over a real socket."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from livelift.control.client import RemoteFailure, ask, call
from livelift.control.door import SOCKET
from livelift.control.door import unix_address as address
from livelift.control.server import ControlServer, Handler
from livelift.errors import MismatchError, StateError, UnreachableError


@contextmanager
def serving(directory: Path, **handlers: Handler) -> Iterator[bytes]:
    server = ControlServer(os.fsencode(directory), handlers)
    try:
        yield os.fsencode(directory)
    finally:
        server.close()


def raising(error: Exception) -> Handler:
    def handler(request):
        yield {"step": 1}
        raise error

    return handler


def echo(request):
    yield {"got": request}


def raw(directory: bytes, data: bytes) -> list[dict]:
    """What comes back for these bytes."""
    fd, path = address(directory)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(path)
        os.close(fd)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as stream:
            return [json.loads(line) for line in stream]


def test_progress_lines_then_the_result(tmp_path):
    def work(request):
        for i in range(int(request["n"])):
            yield {"step": i}
        yield {"sum": 7}

    with serving(tmp_path, work=work) as directory:
        assert list(call(directory, "work", n=2)) == [{"step": 0}, {"step": 1}, {"sum": 7}, {"sum": 7, "done": True}]
        assert ask(directory, "work", n=0) == {"sum": 7, "done": True}


def test_arguments_arrive_and_an_empty_answer_is_one(tmp_path):
    with serving(tmp_path, echo=echo, nothing=lambda request: iter(())) as directory:
        assert ask(directory, "echo", path="/ä\udcff", flag=None)["got"] == {
            "verb": "echo",
            "path": "/ä\udcff",
            "flag": None,
        }
        assert ask(directory, "nothing") == {"done": True}


@pytest.mark.parametrize(
    ("error", "code", "exit_code", "text"),
    [
        (StateError("not now", remedy="wait"), "state", 6, "refused: not now\n  what to do: wait"),
        (MismatchError("2 differences"), "mismatch", 5, "verification: 2 differences"),
        (ZeroDivisionError("oops"), "failed", 1, "ZeroDivisionError('oops')"),
        (ValueError("inner"), "failed", 1, "ValueError('inner')"),
        (FileNotFoundError(2, "no such cgroup"), "failed", 1, "FileNotFoundError(2, 'no such cgroup')"),
    ],
)
def test_errors_keep_their_code_and_exit_code(tmp_path, error, code, exit_code, text):
    with serving(tmp_path, bad=raising(error)) as directory:
        lines = call(directory, "bad")
        assert next(lines) == {"step": 1}
        with pytest.raises(RemoteFailure) as failure:
            next(lines)
    assert (failure.value.code, failure.value.exit_code, str(failure.value)) == (code, exit_code, text)
    assert failure.value.reply["done"]


def test_unknown_verb(tmp_path):
    with serving(tmp_path) as directory, pytest.raises(RemoteFailure, match="no such verb here: dance") as failure:
        ask(directory, "dance")
    assert (failure.value.code, failure.value.exit_code) == ("usage", 2)


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"{\n", b"\xff\xfe\n", b"[1]\n", b"7\n", b'"x"\n', b"null\n", b"{" * 2000]
)
def test_garbage_is_answered_and_does_not_end_the_server(tmp_path, data):
    with serving(tmp_path, echo=echo) as directory:
        (reply,) = raw(directory, data)
        assert (reply["error"], reply["exit"], reply["done"]) == ("usage", 2, True)
        assert ask(directory, "echo")["done"]


def test_state_directory_with_a_long_path(tmp_path):
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    with serving(deep, echo=echo) as directory:
        assert ask(directory, "echo")["done"]
        assert stat.S_IMODE(os.stat(deep / os.fsdecode(SOCKET)).st_mode) == 0o600
    assert list(deep.iterdir()) == [], "the socket goes with the server"


def test_what_a_killed_agent_left_is_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        fd, path = address(os.fsencode(tmp_path))
        dead.bind(path)
        os.close(fd)
    with pytest.raises(UnreachableError):
        ask(os.fsencode(tmp_path), "echo")
    with serving(tmp_path, echo=echo) as directory:
        assert ask(directory, "echo")["done"]


@pytest.mark.parametrize("missing", ["", "nowhere"])
def test_nobody_there(tmp_path, missing):
    with pytest.raises(UnreachableError) as refused:
        ask(os.fsencode(tmp_path / missing), "status")
    assert refused.value.exit_code == 7
    assert "livelift source|target" in refused.value.remedy


def test_an_operator_who_goes_away_ends_his_call_and_nobody_elses(tmp_path):
    closed, again = threading.Event(), threading.Event()

    def endless(request):
        try:
            while True:
                again.wait(0.01)
                yield {"tick": 1}
        finally:
            closed.set()

    with serving(tmp_path, endless=endless, echo=echo) as directory:
        lines = call(directory, "endless")
        assert next(lines) == {"tick": 1}
        lines.close()
        assert closed.wait(5), "the handler is told by GeneratorExit, so that a cutover takes its fence down"
        assert ask(directory, "echo")["done"]


def test_an_agent_that_dies_in_the_middle(tmp_path):
    def half(listener: socket.socket, data: bytes) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(data)

    for data in (b"", b'{"step": 1}\n', b'{"step": 1}\n{"done": tr'):
        (tmp_path / os.fsdecode(SOCKET)).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            fd, path = address(os.fsencode(tmp_path))
            listener.bind(path)
            os.close(fd)
            listener.listen(1)
            thread = threading.Thread(target=half, args=(listener, data))
            thread.start()
            with pytest.raises(UnreachableError, match="went away"):
                list(call(os.fsencode(tmp_path), "x"))
            thread.join(5)


def test_patience_ends(tmp_path):
    release = threading.Event()

    def slow(request):
        release.wait(5)
        yield {}

    with serving(tmp_path, slow=slow) as directory:
        with pytest.raises(UnreachableError, match="did not answer in time"):
            ask(directory, "slow", patience=0.05)
        release.set()


def test_calls_do_not_wait_for_each_other(tmp_path):
    inside, release = threading.Event(), threading.Event()

    def slow(request):
        inside.set()
        release.wait(5)
        yield {"slow": True}

    results: list[dict] = []
    with serving(tmp_path, slow=slow, echo=echo) as directory:
        job: Callable[[], None] = lambda: results.append(ask(directory, "slow"))  # noqa: E731
        thread = threading.Thread(target=job)
        thread.start()
        assert inside.wait(5)
        assert ask(directory, "echo")["done"]
        release.set()
        thread.join(5)
    assert results == [{"slow": True, "done": True}]

"""Pieces of the core on Windows that the end-to-end test does not reach, or not on every path."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.control.client import ask
from livelift.control.door import PORT, knock
from livelift.control.server import ControlServer
from livelift.errors import TrustError, UnreachableError
from livelift.identity.files import read_private, write_private
from livelift.platform import system
from livelift.platform.windows import posix
from livelift.transport.pool import Pool


@pytest.fixture
def door(tmp_path: Path) -> Iterator[bytes]:
    def answer(request: dict[str, object]) -> Iterator[dict[str, object]]:
        yield {"said": request["say"]}

    server = ControlServer(os.fsencode(tmp_path), {"echo": answer})
    yield os.fsencode(tmp_path)
    server.close()


def test_who_knows_the_secret_comes_in(door: bytes) -> None:
    assert ask(door, "echo", 10, say="hello")["said"] == "hello"


def test_who_does_not_know_it_gets_no_answer(door: bytes) -> None:
    with knock(door, 5) as real:
        port = real.getpeername()[1]
    for said in (bytes(32), b'{"verb": "echo", "say": "hello, this is long enough"}\n'):
        with socket.create_connection(("127.0.0.1", port), 5) as stranger:
            stranger.sendall(said)
            try:
                assert stranger.recv(100) == b""
            except ConnectionError:
                pass  # reset


def test_behind_a_closed_door_is_nobody(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError):
        ask(os.fsencode(tmp_path), "echo", 5, say="x")
    assert not (tmp_path / os.fsdecode(PORT)).exists()


def test_keys_are_private(tmp_path: Path) -> None:
    write_private(tmp_path / "identity", {"key.pem": b"secret"})
    assert read_private(tmp_path / "identity" / "key.pem") == b"secret"


@pytest.mark.real("it has no icacls")
def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "identity", {"key.pem": b"secret"})
    path = tmp_path / "identity" / "key.pem"
    subprocess.run(["icacls", str(path), "/grant", "*S-1-1-0:R"], check=True, capture_output=True)
    with pytest.raises(TrustError):
        read_private(path)


def test_buffers_are_used_again() -> None:
    pool = Pool(1 << 20)
    buffer = pool.take(100_000)
    assert len(buffer) == 131072
    pool.give(buffer)
    assert pool.take(131072) is buffer


def test_questions_to_the_system() -> None:
    assert system.boot_id() == system.boot_id()
    idle, cores = system.idle_and_cores()
    time.sleep(0.2)
    later, _ = system.idle_and_cores()
    assert cores >= 1 and 0 <= later - idle <= 0.2 * cores + 1
    assert system.writable_shared_mappings() == set()
    system.lower_priority()


def test_all_of_a_plain_file_is_data(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 70_000)
    fd = posix.open(str(tmp_path / "f"), posix.O_RDONLY)
    assert system.data_extents(fd, 70_000) == [(0, 70_000)]
    assert system.next_data(fd, 5, 70_000) == 5
    assert system.next_data(fd, 70_000, 70_000) == 70_000
    assert system.data_extents(fd, 0) == []
    posix.close(fd)


def test_a_path_is_opened_part_by_part(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    top = posix.open(str(tmp_path), posix.O_DIRECTORY)
    fd = system.open_beneath(top, b"a/b", posix.O_RDONLY | posix.O_DIRECTORY)
    assert posix.fstat(fd).st_ino == posix.stat(str(tmp_path / "a" / "b")).st_ino
    with pytest.raises(FileNotFoundError):
        system.open_beneath(top, b"a/c", posix.O_RDONLY)
    with pytest.raises(OSError):
        system.open_beneath(top, b"a/../..", posix.O_RDONLY)

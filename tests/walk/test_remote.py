"""Reader processes give what a reader in this process gives, and their death is noticed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.walk.reading import AGAIN, FRAME, LARGE, WHOLE, Frame, Read, read_files
from livelift.walk.remote import Lane, LaneLostError, Processes


@pytest.fixture
def processes() -> Iterator[Processes]:
    running = Processes(2, 3)
    yield running
    running.close()


@pytest.fixture
def names(tmp_path: Path) -> Iterator[list[tuple[int, bytes]]]:
    """Files of two directories, with everything that a listing can be wrong about."""
    fds = []
    found: list[tuple[int, bytes]] = []
    for directory in (tmp_path / "one", tmp_path / "two"):
        directory.mkdir()
        (directory / "empty").touch()
        (directory / "small").write_bytes(b"some bytes" * 100)
        (directory / "big").write_bytes(b"x" * (300 << 10))
        with (directory / "sparse").open("wb") as file:
            file.truncate(100_000)
            file.seek(50_000)
            file.write(b"data")
        os.setxattr(directory / "small", "user.key", b"value")
        (directory / "link").symlink_to("small")
        (directory / "directory").mkdir()
        fds.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
        for name in (b"empty", b"small", b"big", b"sparse", b"link", b"directory", b"gone", b"n\xff\n"):
            found.append((fds[-1], name))
        (directory / os.fsdecode(b"n\xff\n")).write_bytes(b"odd name")
    yield found
    for fd in fds:
        os.close(fd)


def flat(frames: Iterator[Frame]) -> tuple[list[Read], list[bytes]]:
    files: list[Read] = []
    payloads: list[bytes] = []
    for frame in frames:
        files += frame.files
        payloads += [bytes(payload) for payload in frame.payloads]
    return files, payloads


def comparable(read: Read) -> tuple[object, ...]:
    """Without the time of the last access: looking at a symlink moves it."""
    a = read.attributes
    kept = None if a is None else [getattr(a, field) for field in a.__struct_fields__ if field != "atime"]
    extents, allocated = (tuple(map(tuple, part)) for part in (read.extents, read.allocated))
    return read.status, kept, extents, allocated, read.length, read.inode


def test_a_process_reads_what_a_thread_reads(processes: Processes, names: list[tuple[int, bytes]]) -> None:
    here, here_bytes = flat(read_files(names))
    assert [file.status for file in here[:8]] == [WHOLE, WHOLE, LARGE, WHOLE, AGAIN, AGAIN, AGAIN, WHOLE]
    assert len(processes.lanes) == 3
    assert len(processes.pids) == 2
    for lane in processes.lanes:
        for _ in range(2):
            there, there_bytes = flat(lane.read(names))
            assert list(map(comparable, there)) == list(map(comparable, here))
            assert there_bytes == here_bytes
        assert lane.cpu > 0


def test_much_content_comes_in_several_frames(processes: Processes, tmp_path: Path) -> None:
    for number in range(24):
        (tmp_path / str(number)).write_bytes(bytes([number]) * (120 << 10))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        frames = list(processes.lanes[0].read([(fd, b"%d" % number) for number in range(24)]))
    finally:
        os.close(fd)
    assert len(frames) > 2
    assert all(sum(map(len, frame.payloads)) <= FRAME + (128 << 10) for frame in frames)
    assert [bytes(p)[:1] for f in frames for p in f.payloads] == [bytes([number]) for number in range(24)]


def test_no_descriptor_stays_open_on_the_other_side(processes: Processes, names: list[tuple[int, bytes]]) -> None:
    (pid, _) = processes.pids
    list(processes.lanes[0].read(names))
    deadline = time.monotonic() + 20  # it closes them just after its last frame
    while (before := len(os.listdir(f"/proc/{pid}/fd"))) > len(processes.lanes) + 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(20):
        list(processes.lanes[0].read(names))
    while len(os.listdir(f"/proc/{pid}/fd")) > before:
        assert time.monotonic() < deadline, "descriptors stay open"
        time.sleep(0.01)


def test_lanes_of_one_process_work_side_by_side(processes: Processes, names: list[tuple[int, bytes]]) -> None:
    expected = flat(read_files(names))[1]
    wrong: list[object] = []

    def many(lane: Lane) -> None:
        for _ in range(30):
            got = flat(lane.read(names))[1]
            if got != expected:
                wrong.append(got)

    threads = [threading.Thread(target=many, args=(lane,)) for lane in processes.lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_a_killed_process_is_told(processes: Processes, names: list[tuple[int, bytes]]) -> None:
    for pid in processes.pids:
        os.kill(pid, signal.SIGKILL)
    for lane in processes.lanes:
        with pytest.raises(LaneLostError):
            list(lane.read(names))


def test_they_end_with_their_lanes(names: list[tuple[int, bytes]]) -> None:
    running = Processes(2, 2)
    list(running.lanes[0].read(names))
    running.close()
    for pid in running.pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

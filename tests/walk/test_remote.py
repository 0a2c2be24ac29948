"""Reader processes give what a reader in this process gives, and their death is noticed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.log.pages import Page
from livelift.walk.reading import AGAIN, FRAME, LARGE, Frame, Wanted, read_files
from livelift.walk.remote import Lane, LaneLostError, Processes

Names = tuple[list[int], list[Wanted]]


@pytest.fixture
def processes() -> Iterator[Processes]:
    running = Processes(2, 3)
    yield running
    running.close()


@pytest.fixture
def names(tmp_path: Path) -> Iterator[Names]:
    """Files of two directories, with everything that a listing can be wrong about."""
    fds = []
    found: list[Wanted] = []
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
        (directory / os.fsdecode(b"n\xff\n")).write_bytes(b"odd name")
        for name in (b"empty", b"small", b"big", b"sparse", b"link", b"directory", b"gone", b"n\xff\n"):
            path = directory / os.fsdecode(name)
            inode = path.lstat().st_ino if name != b"gone" else 1
            found.append(Wanted(len(fds) - 1, name, inode, len(fds)))
    yield fds, found
    for fd in fds:
        os.close(fd)


def flat(frames: Iterator[Frame]) -> tuple[list[tuple[int, int]], list[Page]]:
    others: list[tuple[int, int]] = []
    pages = []
    for frame in frames:
        others += [(other.place, other.status) for other in frame.others]
        if frame.page is not None:
            frame.page.payload = bytes(frame.page.payload)
            frame.page.rows = [tuple(row[:6]) for row in frame.page.rows]  # type: ignore[misc]  # ctime: racy or not
            pages.append(frame.page)
    return others, pages


def test_a_process_reads_what_a_thread_reads(processes: Processes, names: Names) -> None:
    here = flat(read_files(*names))
    others, (page,) = here
    assert others[:4] == [(2, LARGE), (4, AGAIN), (5, AGAIN), (6, AGAIN)]
    assert page.count == 8
    assert len(processes.lanes) == 3
    assert len(processes.pids) == 2
    for lane in processes.lanes:
        for _ in range(2):
            assert flat(lane.read(*names)) == here
        assert lane.cpu > 0


def test_much_content_comes_in_several_frames(processes: Processes, tmp_path: Path) -> None:
    for number in range(24):
        (tmp_path / str(number)).write_bytes(bytes([number]) * (120 << 10))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        inodes = [(tmp_path / str(number)).stat().st_ino for number in range(24)]
        wanted = [Wanted(0, b"%d" % number, inode, 2) for number, inode in enumerate(inodes)]
        frames = list(processes.lanes[0].read([fd], wanted))
    finally:
        os.close(fd)
    assert len(frames) > 2
    pages = [frame.page for frame in frames if frame.page is not None]
    assert all(len(page.payload) <= FRAME + (128 << 10) for page in pages)
    assert b"".join(bytes(page.payload) for page in pages)[:: 120 << 10] == bytes(range(24))


def test_no_descriptor_stays_open_on_the_other_side(processes: Processes, names: Names) -> None:
    (pid, _) = processes.pids
    list(processes.lanes[0].read(*names))
    deadline = time.monotonic() + 20  # it closes them just after its last frame
    while (before := len(os.listdir(f"/proc/{pid}/fd"))) > len(processes.lanes) + 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(20):
        list(processes.lanes[0].read(*names))
    while len(os.listdir(f"/proc/{pid}/fd")) > before:
        assert time.monotonic() < deadline, "descriptors stay open"
        time.sleep(0.01)


def test_lanes_of_one_process_work_side_by_side(processes: Processes, names: Names) -> None:
    expected = flat(read_files(*names))
    wrong: list[object] = []

    def many(lane: Lane) -> None:
        for _ in range(30):
            got = flat(lane.read(*names))
            if got != expected:
                wrong.append(got)

    threads = [threading.Thread(target=many, args=(lane,)) for lane in processes.lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_a_killed_process_is_told(processes: Processes, names: Names) -> None:
    for pid in processes.pids:
        os.kill(pid, signal.SIGKILL)
    for lane in processes.lanes:
        with pytest.raises(LaneLostError):
            list(lane.read(*names))


def test_they_end_with_their_lanes(names: Names) -> None:
    running = Processes(2, 2)
    list(running.lanes[0].read(*names))
    running.close()
    for pid in running.pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

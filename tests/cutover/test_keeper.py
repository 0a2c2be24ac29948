"""The fence keeper on real processes: an agent that is killed at any moment never leaves the workload frozen for ever,
and never lets it go when the cutover stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.cutover import keeper
from livelift.cutover.keeper import Keeper, report
from livelift.cutover.taken import Taken, load, save
from livelift.errors import StateError
from livelift.platform.linux.cgroups import Freezer
from livelift.source.cut_note import CutNote, lets_go
from tests.cutover.test_fence import Writer, hierarchy, writers  # noqa: F401

AGENT = """
import os, sys, time
from livelift.cutover.fence import FreezeFence
from livelift.source.cut_note import CutNote, lets_go
directory, group, note, server = (os.fsencode(a) for a in sys.argv[1:])
note, server = note.decode(), server == b"server"
fence = FreezeFence(directory, [group], lets_go(server))
cut_note = CutNote(directory, server)
cut_note.set("fenced")
fence.ready()
fence.up()
cut_note.set(note)
print("up", fence._keeper._process.pid, flush=True)
time.sleep(3600)
"""


@pytest.fixture
def writer(writers: list[Writer]) -> Writer:  # noqa: F811
    return writers[0]


def agent(directory: Path, group: Path, note: str, kind: str) -> tuple[subprocess.Popen[str], int]:
    """A process that holds the fence; and the keeper's pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(directory), str(group), note, kind],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    line = process.stdout.readline().split()
    assert line[0] == "up"
    process.stdout.close()
    return process, int(line[1])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def may_lower_oom_score() -> bool:
    """CAP_SYS_RESOURCE, which a container may not have (capabilities(7))."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> 24 & 1)


def ended(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_running(pid)


@pytest.mark.root
@pytest.mark.parametrize(
    ("note", "kind"),
    [("fenced", "data"), ("asked", "data"), ("undone", "data"), ("", "data"), ("fenced", "server"), ("cut", "server")],
)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_an_agent_that_dies_lets_the_workload_go_within_a_second(writer, tmp_path, note, kind, how):
    process, pid = agent(tmp_path, writer.group, note, kind)
    assert not writer.writes()
    process.send_signal(how)
    died = time.monotonic()
    size = writer.path.stat().st_size
    while writer.path.stat().st_size == size and time.monotonic() < died + 10:
        time.sleep(0.005)
    assert time.monotonic() - died < 1.0
    process.wait()
    assert ended(pid)
    assert load(os.fsencode(tmp_path)) is None
    found = report(os.fsencode(tmp_path))
    assert found is not None and (found["done"], found["note"], found["problems"]) == ("gave back", note, [])


@pytest.mark.root
@pytest.mark.parametrize(
    ("note", "kind"), [("cut", "data"), ("handed", "server"), ("served", "server"), ("committed", "server")]
)
def test_a_cutover_that_stands_outlives_agent_and_keeper(writer, tmp_path, note, kind):
    process, pid = agent(tmp_path, writer.group, note, kind)
    process.kill()
    process.wait()
    assert ended(pid)
    assert Freezer(os.fsencode(writer.group)).frozen
    assert not writer.writes(0.3)
    assert report(os.fsencode(tmp_path))["done"] == "held"  # type: ignore[index]


@pytest.mark.root
def test_a_note_that_nobody_understands_keeps_the_fence(writer, tmp_path):
    process, pid = agent(tmp_path, writer.group, "fenced", "data")
    (tmp_path / "cut").write_text("torn")
    process.kill()
    process.wait()
    assert ended(pid)
    assert Freezer(os.fsencode(writer.group)).frozen
    assert CutNote(os.fsencode(tmp_path)).stands, "the agent that is started again reads it in the same way"


@pytest.mark.root
def test_it_is_not_to_be_ended_by_what_ends_the_agent(writer, tmp_path):
    process, pid = agent(tmp_path, writer.group, "fenced", "data")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    assert os.getsid(pid) == pid, "a session of its own"
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == ("-1000" if may_lower_oom_score() else "0")
    time.sleep(0.3)
    assert is_running(pid)
    assert not writer.writes()
    process.kill()
    process.wait()
    assert ended(pid)
    assert writer.writes(0.3)


def test_released_it_touches_nothing(tmp_path):
    save(os.fsencode(tmp_path), Taken(stopped=("no-such.service",)))
    made = Keeper(os.fsencode(tmp_path), ("",))
    made.start()
    assert made.is_alive()
    made.start()  # it is there already
    made.release()
    assert not made.is_alive()
    assert load(os.fsencode(tmp_path)) is not None
    assert report(os.fsencode(tmp_path)) is None
    made.release()


def test_one_that_does_not_start_is_an_error_with_its_last_words(tmp_path, monkeypatch):
    made = Keeper(os.fsencode(tmp_path), ("",))
    ways = [("here", [sys.executable, "-c", "raise SystemExit('no room')"]), ("there", ["/no/such/program"])]
    monkeypatch.setattr(made, "_ways", lambda: ways)
    with pytest.raises(StateError, match="the fence keeper does not start: /no/such/program"):
        made.start()
    monkeypatch.setattr(made, "_ways", lambda: ways[:1])
    with pytest.raises(StateError, match="no room"):
        made.start()
    assert not made.is_alive()


def test_what_cannot_be_given_back_at_first_is_tried_again(tmp_path, monkeypatch):
    from livelift.cutover.taken import Returned

    answers = [Returned(["thaw a: stuck"], []), Returned([], [])]
    monkeypatch.setattr(keeper, "give_back", lambda _: answers.pop(0))
    reading, writing = os.pipe()
    os.close(writing)
    try:
        keeper.watch(reading, os.fsencode(tmp_path), lets_go(False))
    finally:
        os.close(reading)
    assert not answers
    assert report(os.fsencode(tmp_path))["problems"] == []  # type: ignore[index]


@pytest.fixture(autouse=True)
def no_keepers_are_left(tmp_path: Path) -> Iterator[None]:
    yield
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(tmp_path).encode() in (entry / "cmdline").read_bytes():
                assert ended(int(entry.name), 5), f"left over: {(entry / 'cmdline').read_bytes()!r}"
        except OSError:
            continue

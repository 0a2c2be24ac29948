"""The demo's orchestration against a stand-in command line: passes what is right, catches what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

STANDIN = Path(__file__).with_name("standin.py")

# A small tree, without what the stand-in's rsync cannot copy (paths beyond PATH_MAX, inode flags).
SMALL = """
import sys
from livelift.demo import nasties, run, systemtree
systemtree.build.__defaults__ = (30 << 20, 2000)
nasties._deep = nasties._flags = lambda base: None
run.LIVELIFT = (sys.executable, {standin!r})
run.run.__defaults__ = (run.LIVELIFT,)
sys.exit(run.main(sys.argv[1:]))
"""

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def start(directory: Path, fault: str = "", *arguments: str) -> subprocess.Popen[str]:
    script = directory / "small.py"
    script.write_text(SMALL.format(standin=str(STANDIN)))
    words = [sys.executable, script, "--json", "--dir", directory, "--follow", "3", "--timeout", "60", *arguments]
    return subprocess.Popen(
        words,
        env={**os.environ, "STANDIN_FAULT": fault, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def directory() -> Iterator[Path]:
    """Not pytest's own: the account of PostgreSQL must get there."""
    path = Path(tempfile.mkdtemp(prefix="livelift-test-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def left_behind(directory: Path, pid: int) -> list[str]:
    """What a demo with this process id left on the machine, but for its logs."""
    found = [str(path) for path in directory.glob(f"livelift-demo-{pid}/*") if path.name != "logs"]
    for place in ("/run/netns", "/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/freezer"):
        found += [str(path) for path in Path(place).glob(f"*livelift-*{pid}*")]
    mounts = Path("/proc/mounts").read_text().splitlines()
    found += [line for line in mounts if f"livelift-demo-{pid}/" in line]
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        if f"livelift-demo-{pid}/" in path.read_text():
            found.append(str(path))
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue  # it has just ended
        if f"livelift-demo-{pid}/".encode() in command:
            found.append(f"{path}: {command!r}")
    return found


@pytest.mark.root
def test_everything_acknowledged_is_found_and_nothing_is_left_behind(directory: Path) -> None:
    demo = start(directory)
    out, err = demo.communicate()
    result = json.loads(out.splitlines()[-1])
    assert (demo.returncode, result["examples"]) == (0, []), err
    assert result["commits_acknowledged"] == result["commits_found"] > 100
    assert result["differences"] == 0
    assert result["amcheck"] == []
    assert result["operations"] > 50
    assert result["capture_mode"] == "standin"
    assert 0 < result["fence_seconds"] < 30
    assert {"files", "bytes", "seconds", "lag_p50", "lag_p99"} <= result.keys()
    assert left_behind(directory, demo.pid) == []
    assert list(directory.glob("livelift-demo-*")) == []


@pytest.mark.root
def test_one_lost_object_is_a_failure(directory: Path) -> None:
    demo = start(directory, "lose")
    out, err = demo.communicate()
    result = json.loads(out.splitlines()[-1])
    assert demo.returncode == 5, err
    assert any(line.startswith("srv/nasties/fifo: ") for line in result["examples"])
    assert left_behind(directory, demo.pid) == []


@pytest.mark.root
def test_an_agent_that_dies_ends_the_demo_with_its_log(directory: Path) -> None:
    demo = start(directory, "crash")
    _, err = demo.communicate()
    assert demo.returncode == 1, err
    assert "the source agent ended with 1" in err
    assert (directory / f"livelift-demo-{demo.pid}/logs/source.log").exists()
    assert left_behind(directory, demo.pid) == []


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_everything_down(directory: Path, number: int) -> None:
    demo = start(directory)
    assert demo.stderr is not None
    deadline = time.monotonic() + 120
    for line in demo.stderr:
        if line.startswith("==> move it") or time.monotonic() > deadline:
            break
    time.sleep(1)
    demo.send_signal(number)
    demo.communicate()
    assert demo.returncode == 128 + number
    assert left_behind(directory, demo.pid) == []
    assert list(directory.glob("livelift-demo-*")) == []


@pytest.mark.root
def test_a_directory_that_postgresql_cannot_enter_is_refused(directory: Path) -> None:
    directory.chmod(0o700)
    demo = start(directory)
    _, err = demo.communicate()
    assert demo.returncode == 3
    assert f"cannot enter {directory}" in err
    assert left_behind(directory, demo.pid) == []


@pytest.mark.root
def test_a_refused_cutover_ends_the_demo_as_it_ended(directory: Path) -> None:
    demo = start(directory, "refuse")
    out, err = demo.communicate()
    assert demo.returncode == 5, err
    assert out == ""
    assert "verification: 19 differences" in err
    assert left_behind(directory, demo.pid) == []

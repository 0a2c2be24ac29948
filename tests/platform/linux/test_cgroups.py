"""A cgroup of real processes is frozen and thawed, in every hierarchy that this machine has."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.errors import RetryError, StateError
from livelift.platform.linux import cgroups
from livelift.platform.linux.cgroups import Freezer, cgroup_of_pid, cgroup_of_unit, hierarchies

pytestmark = pytest.mark.root


@pytest.fixture(params=["v2", "v1"])
def group(request: pytest.FixtureRequest) -> Iterator[Path]:
    mounted = hierarchies().get(request.param.encode()) if os.geteuid() == 0 else None
    if mounted is None:
        pytest.skip(f"no cgroup {request.param} freezer hierarchy here, or not root")
    path = Path(os.fsdecode(mounted)) / f"livelift-test-{os.getpid()}.service"
    path.mkdir()
    if not (path / "cgroup.freeze").exists() and not (path / "freezer.state").exists():
        path.rmdir()
        pytest.skip(f"cgroup {request.param} has no freezer (before Linux 5.2)")
    yield path
    for _ in range(100):  # a killed task leaves its cgroup a moment later
        try:
            path.rmdir()
            return
        except OSError:
            time.sleep(0.02)
    path.rmdir()


@pytest.fixture
def busy(group: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sh", "-c", "while :; do echo >> written; sleep 0.005; done"], cwd=tmp_path)
    (group / "cgroup.procs").write_text(str(process.pid))
    while not (tmp_path / "written").exists():
        time.sleep(0.005)
    yield process
    Freezer(os.fsencode(group)).thaw()
    for pid in Freezer(os.fsencode(group)).pids():
        os.kill(pid, signal.SIGKILL)
    process.wait()


def test_frozen_tasks_write_nothing_and_go_on(group: Path, busy: subprocess.Popen[bytes], tmp_path: Path) -> None:
    freezer = Freezer(os.fsencode(group))
    assert not freezer.frozen
    assert busy.pid in freezer.pids()
    freezer.freeze(5)
    assert freezer.frozen
    before = (tmp_path / "written").stat()
    time.sleep(0.1)
    assert (tmp_path / "written").stat().st_size == before.st_size
    freezer.thaw()
    deadline = time.monotonic() + 5
    while (tmp_path / "written").stat().st_size == before.st_size:
        assert time.monotonic() < deadline, "does not run again"
        time.sleep(0.01)
    assert not freezer.frozen


def test_found_by_pid_and_by_unit(group: Path, busy: subprocess.Popen[bytes]) -> None:
    assert cgroup_of_pid(busy.pid) == os.fsencode(group)
    assert cgroup_of_unit(group.name) == os.fsencode(group)
    assert cgroup_of_unit(group.name.removesuffix(".service")) == os.fsencode(group)


def test_a_freeze_that_does_not_come_is_undone(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freezer = Freezer(os.fsencode(group))
    monkeypatch.setattr(freezer, "wait", lambda deadline: False)
    with pytest.raises(RetryError, match="did not freeze within"):
        freezer.freeze(0.01)
    assert not freezer.frozen


def test_the_agents_own_cgroup_is_refused(group: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            Freezer(os.fsencode(group)).freeze(1)
        except StateError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_cannot_be_frozen_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be frozen"):
        Freezer(os.fsencode(tmp_path))
    with pytest.raises(StateError, match="no cgroup for"):
        cgroup_of_unit("no-such-unit-here.service")


def test_mount_table_of_an_ordinary_system(monkeypatch: pytest.MonkeyPatch) -> None:
    table = b"30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    monkeypatch.setattr(cgroups, "_read", lambda path: table)
    assert hierarchies() == {b"v2": b"/sys/fs/cgroup"}

"""Units by the cgroup tree: a small one made here, below the mount that this machine has (root)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.platform.linux import gather, unit_tree
from livelift.platform.linux.cgroups import Freezer, hierarchies
from livelift.platform.linux.unit_tree import Units, cgroup_of, populated_units, with_program

TREE = (
    *("system.slice/nginx.service", "system.slice/empty.service", "user.slice/user-0.slice/session-1.scope"),
    *("system.slice/system-pg.slice/pg@15.service/inner", "docker/4711", "init.scope"),
)


class Tree:
    """``kind``: the hierarchy (v2, or any of v1) that stands for systemd's tree."""

    def __init__(self, mount: Path) -> None:
        self.root = mount / f"livelift-tree-{os.getpid()}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def make(self) -> None:
        for path in ("", *TREE):
            (self.root / path).mkdir(parents=True, exist_ok=True)
        for path in TREE:
            if "empty" not in path:
                self.start(path)

    def start(self, path: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", "import time\nwhile True: time.sleep(0.01)"])
        (self.root / path / "cgroup.procs").write_text(str(process.pid))
        self.processes[path] = process
        return process

    def remove(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        for directory, _, _ in os.walk(self.root, topdown=False):
            for _ in range(100):
                try:
                    os.rmdir(directory)
                    break
                except OSError:
                    time.sleep(0.02)


@pytest.fixture(params=["v2", "v1"])
def tree(request: pytest.FixtureRequest) -> Iterator[Tree]:
    found = hierarchies()
    mount = found.get(b"v2") if request.param == "v2" else (found.get(b"systemd") or found.get(b"v1"))
    if mount is None or os.geteuid() != 0:
        pytest.skip(f"no cgroup {request.param} tree here, or not root")
    made = Tree(Path(os.fsdecode(mount)))
    try:
        made.make()
        yield made
    finally:
        made.remove()


@pytest.mark.root
def test_slices_hold_units_and_units_hold_processes(tree):
    units = populated_units(os.fsencode(tree.root))
    assert units.paths == (
        b"docker",
        b"init.scope",
        b"system.slice/nginx.service",
        b"system.slice/system-pg.slice/pg@15.service",
        b"user.slice/user-0.slice/session-1.scope",
    )
    assert units.loose == ()
    loose = tree.start("system.slice")
    assert populated_units(os.fsencode(tree.root)).loose == (loose.pid,)


@pytest.mark.root
def test_programs_and_places(tree):
    units = populated_units(os.fsencode(tree.root))
    scope = "user.slice/user-0.slice/session-1.scope"
    comm = Path(f"/proc/{tree.processes[scope].pid}/comm").read_bytes().strip()
    assert with_program(units, scope.encode(), [comm])
    assert not with_program(units, scope.encode(), [b"sshd"])
    assert not with_program(units, b"system.slice/gone.service", [comm])
    if b"v2" in str(tree.root).encode() or (tree.root / "init.scope/cgroup.freeze").exists():
        mount = Path(os.fsdecode(hierarchies()[b"v2"]))
        assert cgroup_of(tree.processes[scope].pid) == os.fsencode((tree.root / scope).relative_to(mount))


def test_a_process_that_is_gone_is_nowhere():
    assert cgroup_of(2**22 + 1) == b""


def test_no_tree_no_units(monkeypatch):
    monkeypatch.setattr(unit_tree, "hierarchies", dict)
    assert populated_units() == Units(b"", (), ())


@pytest.mark.root
def test_units_that_have_no_freezer_of_their_own_are_gathered_and_let_go(tree):
    """RHEL 8: systemd's tree is a v1 hierarchy without a freezer; here any other v1 hierarchy stands for it."""
    mount = hierarchies().get(b"v1")
    if mount is None or (tree.root / "init.scope/cgroup.freeze").exists():
        pytest.skip("needs the v1 freezer, and a tree that has none")
    if os.fsencode(tree.root).startswith(mount):
        pytest.skip("needs a v1 hierarchy beside the freezer")
    units = populated_units(os.fsencode(tree.root))
    chosen = [b"system.slice/" + name for name in (b"nginx.service", b"system-pg.slice/pg@15.service", b"gone.service")]
    freezers = gather.freezers(units, chosen)
    try:
        assert [f.path for f in freezers] == [mount + b"/" + gather.OURS]
        assert freezers[0].wait(time.monotonic() + 5)
        inside = freezers[0].pids()
        assert inside == {tree.processes[p].pid for p in tree.processes if "nginx" in p or "pg@" in p}
    finally:
        for freezer in freezers:
            gather.let_go(freezer.path)
    assert not os.path.exists(mount + b"/" + gather.OURS)
    assert gather._freezer_cgroup(tree.processes["system.slice/nginx.service"].pid) == b"/"


@pytest.mark.root
def test_units_with_a_freezer_are_frozen_where_they_are(tree):
    if not (tree.root / "init.scope/cgroup.freeze").exists():
        pytest.skip("needs cgroup v2 with cgroup.freeze")
    units = populated_units(os.fsencode(tree.root))
    chosen = [b"system.slice/nginx.service", b"system.slice/gone.service"]
    freezers = gather.freezers(units, chosen)
    assert [f.path for f in freezers] == [os.fsencode(tree.root / "system.slice/nginx.service")]
    assert isinstance(freezers[0], Freezer)
    assert gather.freezers(units, []) == []

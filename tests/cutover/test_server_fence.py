"""The fence of a whole server on real processes, in a cgroup tree of the test's own that stands for the machine's."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.cutover import server_fence, systemd
from livelift.cutover.addresses import Held
from livelift.cutover.server_fence import ServerFence
from livelift.cutover.taken import load
from livelift.errors import PreflightError, ProgramError, RetryError, StateError
from livelift.platform.linux.cgroups import Freezer
from tests.platform.linux.test_unit_tree import Tree, tree  # noqa: F401

LETS_GO = ("", "fenced", "cut")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_fence, "SWEEP", 0.05)


@pytest.fixture
def fence(tree: Tree, tmp_path: Path, quick: None) -> Iterator[ServerFence]:  # noqa: F811
    (tree.root / "system.slice/ssh.service").mkdir()
    tree.start("system.slice/ssh.service")
    made = fence_of(tree, tmp_path)
    try:
        yield made
    finally:
        made.down()


def fence_of(tree: Tree, directory: Path, **more: object) -> ServerFence:  # noqa: F811
    return ServerFence(os.fsencode(directory), LETS_GO, tree=os.fsencode(tree.root), root=str(directory), **more)  # type: ignore[arg-type]


def switches(process: subprocess.Popen[bytes]) -> str:
    """How often it went to sleep by itself: it wakes a hundred times a second, if it may."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("voluntary"))


def runs(process: subprocess.Popen[bytes]) -> bool:
    """Also on a machine where it has to wait for a processor."""
    before, deadline = switches(process), time.monotonic() + 5
    while switches(process) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    return switches(process) != before


def stands_still(process: subprocess.Popen[bytes]) -> bool:
    before = switches(process)
    time.sleep(0.15)
    return switches(process) == before


def wait_for(condition: object, what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.mark.root
def test_all_stands_still_but_what_must_live(fence, tree, tmp_path):  # noqa: F811
    shown = {d.path: d.freeze for d in fence.decisions()}
    assert shown["system.slice/ssh.service"] is False and shown["init.scope"] is False
    assert shown["system.slice/nginx.service"] is True
    fence.ready()
    fence.up()
    fence.check()
    lives = {"system.slice/ssh.service", "init.scope"}
    assert all(runs(p) if path in lives else stands_still(p) for path, p in tree.processes.items())
    began = time.monotonic()
    fence.down()
    assert time.monotonic() - began < 1.0
    assert all(runs(p) for p in tree.processes.values())
    assert load(os.fsencode(tmp_path)) is None


@pytest.mark.root
def test_what_is_started_behind_it_is_frozen_and_a_login_is_not(fence, tree):  # noqa: F811
    fence.ready()
    fence.up()
    for path in ("system.slice/late.service", "user.slice/user-7.slice/session-9.scope"):
        (tree.root / path).mkdir(parents=True)
        tree.start(path)
    late, login = (tree.processes[p] for p in list(tree.processes)[-2:])
    wait_for(lambda: stands_still(late), "the late service is frozen")
    assert runs(login)
    fence.check()
    fence.down()
    assert runs(late)


@pytest.mark.root
def test_what_somebody_thaws_is_frozen_again(fence, tree):  # noqa: F811
    fence.ready()
    fence.up()
    group = next(g for g in load(fence._directory).groups)  # type: ignore[union-attr]
    Freezer(os.fsencode(group)).thaw()
    wait_for(lambda: Freezer(os.fsencode(group)).frozen, "frozen again")
    fence.check()


@pytest.mark.root
def test_behind_a_hand_over_another_agent_keeps_it(fence, tree, tmp_path):  # noqa: F811
    fence.ready()
    fence.up()
    fence.hold()  # the first agent ends
    fence._halt.set()
    assert fence._sweeper is not None
    fence._sweeper.join()
    second = fence_of(tree, tmp_path)
    (tree.root / "system.slice/late.service").mkdir()
    late = tree.start("system.slice/late.service")
    second.again()
    try:
        assert stands_still(late)
        assert stands_still(tree.processes["system.slice/nginx.service"])
    finally:
        second.down()
    assert runs(late)
    assert runs(tree.processes["system.slice/nginx.service"])


@pytest.mark.root
def test_the_operator_keeps_what_he_names(tree, tmp_path, quick):  # noqa: F811
    fence = fence_of(tree, tmp_path, keep=["nginx"])
    fence.ready()
    fence.up()
    try:
        assert runs(tree.processes["system.slice/nginx.service"])
        assert load(os.fsencode(tmp_path)).keep == ("nginx",)  # type: ignore[union-attr]
    finally:
        fence.down()


@pytest.mark.root
def test_a_group_that_does_not_freeze_lets_all_go(fence, tree, monkeypatch):  # noqa: F811
    monkeypatch.setattr(Freezer, "wait", lambda self, deadline: False)
    fence.ready()
    with pytest.raises(RetryError, match="did not freeze"):
        fence.up()
    fence.down()
    assert all(runs(p) for p in tree.processes.values())


@pytest.mark.root
def test_with_named_groups_nothing_else_is_touched(tree, tmp_path, quick):  # noqa: F811
    if not (tree.root / "init.scope/cgroup.freeze").exists() and not (tree.root / "init.scope/freezer.state").exists():
        pytest.skip("this tree has no freezer")
    named = os.fsencode(tree.root / "system.slice/nginx.service")
    fence = ServerFence(os.fsencode(tmp_path), LETS_GO, [named], root=str(tmp_path))
    assert "nginx" in fence.name and fence.decisions() == []
    fence.ready()
    fence.up()
    try:
        assert all(runs(p) != ("nginx" in path) for path, p in tree.processes.items())
    finally:
        fence.down()


# -- what is asked of systemd ------------------------------------------------------------------------------------------


class Systemd:
    """Writes down what it is asked; ``fails``: by the first word."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: str = "") -> None:
        self.done: list[str] = []
        self.fails = fails
        monkeypatch.setattr(systemd, "is_there", lambda: True)
        monkeypatch.setattr(systemd, "active", lambda *kinds: ["apt.timer", "nginx.service"])
        monkeypatch.setattr(systemd, "has_watchdogs", lambda: True)
        monkeypatch.setattr(systemd, "stop", lambda units: self.do("stop", *units))
        monkeypatch.setattr(systemd, "watchdogs_off", lambda: self.do("watchdogs-off"))
        monkeypatch.setattr(systemd, "journal_to_memory", lambda: self.do("journal"))
        monkeypatch.setattr("livelift.cutover.taken.run_program", self.program)
        monkeypatch.setattr(os.path, "isdir", lambda path, real=os.path.isdir: path == "/var/log/journal" or real(path))

    def do(self, *words: str) -> None:
        self.done.append(" ".join(words))
        if words[0] == self.fails:
            raise ProgramError(f"{words[0]} failed")

    def program(self, words, seconds, environment=None) -> str:
        self.done.append(" ".join(words))
        if "is-active" in words:
            raise ProgramError("ended with 3: inactive")
        return ""


@pytest.fixture
def bare(tmp_path: Path, quick: None) -> ServerFence:
    """Nothing to freeze: only what is asked of systemd."""
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    return ServerFence(
        os.fsencode(tmp_path), LETS_GO, stopping=["db.service"], tree=os.fsencode(tmp_path / "none"),
        root=str(tmp_path), command=["/agent"],
    )  # fmt: skip


@pytest.fixture
def no_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_fence, "populated_units", lambda mount: server_fence.Units(b"/nowhere", (), ()))


def test_everything_that_systemd_was_asked_is_taken_back(bare, no_tree, monkeypatch, tmp_path):
    asked = Systemd(monkeypatch)
    bare.ready()
    assert asked.done == ["stop apt.timer nginx.service", "watchdogs-off", "journal"]
    bare.up()
    assert asked.done[3:] == ["stop db.service"]
    bare.block([])
    assert (tmp_path / "etc/systemd/system/default.target").is_symlink()
    asked.done.clear()
    bare.down()
    assert asked.done == [
        "systemctl start --no-block db.service",
        "systemctl is-active livelift-handed.target",
        "systemctl service-watchdogs yes",
        "systemctl start --no-block apt.timer nginx.service",
        "journalctl --flush",
    ]
    assert os.listdir(tmp_path / "etc/systemd/system") == []
    assert load(os.fsencode(tmp_path)) is None


@pytest.mark.parametrize("fails", ["stop", "watchdogs-off"])
def test_what_fails_before_the_fence_is_taken_back(bare, no_tree, monkeypatch, tmp_path, fails):
    asked = Systemd(monkeypatch, fails)
    with pytest.raises(ProgramError):
        bare.ready()
        bare.up()
    bare.down()
    assert load(os.fsencode(tmp_path)) is None
    assert any(line.startswith("systemctl start --no-block apt.timer") for line in asked.done)


def test_a_journal_that_cannot_write_to_memory_is_a_note(bare, no_tree, monkeypatch):
    Systemd(monkeypatch, "journal")
    bare.ready()
    assert bare.notes == ["the journal goes on writing to the disk: journal failed"]
    bare.down()


def test_addresses_move_at_the_hand_over_and_not_before(bare, no_tree, monkeypatch, tmp_path):
    Systemd(monkeypatch)
    held = Held("eth0", ("192.0.2.7/24",), (), ())
    done: list[str] = []
    monkeypatch.setattr(server_fence.addresses, "is_here", lambda address: True)
    monkeypatch.setattr(server_fence.addresses, "take_off", lambda held: done.append("off"))
    monkeypatch.setattr("livelift.cutover.taken.put_back", lambda held: done.append("back"))
    bare.ready()
    bare.up()
    bare.block([held])
    assert (tmp_path / "etc/systemd/system/livelift-handed-addresses.service").exists()
    time.sleep(0.2)
    assert done == []
    bare.move_addresses()
    wait_for(lambda: done.count("off") >= 3, "taken off whenever it comes back")
    bare.down()
    assert done[-1] == "back"


def test_without_systemd_no_server_is_handed_over(bare, monkeypatch):
    monkeypatch.setattr(systemd, "is_there", lambda: False)
    with pytest.raises(StateError, match="does not run systemd"):
        bare.check_block()
    monkeypatch.setattr(systemd, "is_there", lambda: True)
    bare.check_block()
    monkeypatch.setattr(server_fence.block, "check", lambda line: (_ for _ in ()).throw(PreflightError("single")))
    with pytest.raises(PreflightError):
        bare.check_block()

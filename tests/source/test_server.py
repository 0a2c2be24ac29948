"""What a whole system's walk leaves out, and how the source's facts get to the target."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from livelift.errors import UnreachableError
from livelift.model.entry import object_id
from livelift.model.job import Map
from livelift.source import server
from livelift.source.server import ServerJob, check_lines, leave_out
from livelift.source.volumes import find_volumes
from livelift.walk.scope import LEFT, MACHINE, OTHER_LINE, OWN
from tests.loopfs import loop_filesystem, run, unmount
from tests.machines import debian_source, with_uefi


def test_by_the_facts_of_the_source_and_the_lines_of_the_job() -> None:
    left, hollow = leave_out([Map(b"/", b"/n"), Map(b"/var", b"/v/n")], with_uefi(debian_source()))
    assert {b"/.livelift", b"/var/.livelift", b"/var/lost+found", b"/var/lib/livelift"} <= set(left)
    assert hollow == (b"/boot/efi",)


@pytest.mark.root
def test_left_out_names_and_the_machines_own_file_systems() -> None:
    with loop_filesystem("ext4", 16) as disk, loop_filesystem("ext4", 16) as esp:
        for name in ("boot/efi", "var", "state", "srv"):
            (disk / name).mkdir(parents=True)
        (disk / "swapfile").write_bytes(b"x")
        (disk / "srv/link").symlink_to("/swapfile")
        run("mount", "--bind", str(esp), str(disk / "boot/efi"))
        try:
            top = os.fsencode(disk)
            found = find_volumes(
                [Map(top, b"/n"), Map(top + b"/var", b"/v/n")],
                [top + b"/state"],
                [top + b"/swapfile", top + b"/srv/link", top + b"/lost+found", b"/nowhere/at/all"],
                [top + b"/boot/efi"],
            )
        finally:
            unmount(disk / "boot/efi")
        assert [v.device for v in found.planned] == [os.stat(disk).st_dev], "the machine's disk is not watched"
        root, boot = (object_id(0, os.stat(place).st_ino) for place in (disk, disk / "boot"))
        srv = object_id(0, os.stat(disk / "srv").st_ino)
        assert found.left_out == {
            (root, b"state"): OWN,
            (root, b"swapfile"): LEFT,
            (root, b"lost+found"): LEFT,
            (srv, b"link"): LEFT,
            (root, b"var"): OTHER_LINE,
            (boot, b"efi"): MACHINE,
        }


def test_a_mount_point_of_the_target_that_is_a_symlink_here(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "home").symlink_to("data")
    lines = [Map(os.fsencode(tmp_path / name), b"/x") for name in ("data", "home")]
    (finding,) = check_lines(lines)
    assert finding.id == "mountpoint-symlink" and "--without" in finding.remedy
    assert stat.S_ISLNK(os.lstat(tmp_path / "home").st_mode)


class Link:
    """Stands where the agent, its sender and its stage client stand."""

    def __init__(self, failures: int) -> None:
        self.connected = threading.Event()
        self.connected.set()
        self.channel: Any = object()
        self.sender = self.stage = self
        self.failures = failures
        self.asked: list[dict[str, Any]] = []

    def ask(self, verb: str, deadline: float, **options: Any) -> dict[str, Any]:
        assert verb == "facts" and deadline > time.monotonic()
        self.asked.append(options)
        if len(self.asked) <= self.failures:
            raise UnreachableError("the target: the link broke")
        return {"facts": {"hostname": "target"}}


def test_the_facts_are_told_until_they_have_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "facts_of", debian_source)
    monkeypatch.setattr(server, "AGAIN", 0.01)
    link = Link(failures=2)
    job = ServerJob(link)  # type: ignore[arg-type]
    job.run(threading.Event())
    assert len(link.asked) == 3 and link.asked[-1]["facts"]["hostname"] == "source"
    assert job.target == {"hostname": "target"}


def test_an_agent_that_ends_tells_nothing() -> None:
    link, stop = Link(failures=0), threading.Event()
    stop.set()
    ServerJob(link).run(stop)  # type: ignore[arg-type]
    assert not link.asked

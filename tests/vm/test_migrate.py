"""A whole running server moves onto unlike hardware and boots there as itself: scenarios 1 to 3 of the suite.

Each prints what the clients saw and where the time went, and leaves the answers and the output of each command in its
directory.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

import pytest

from tests.vm.answers import gap
from tests.vm.conftest import Boot
from tests.vm.judge import Judge, check_loader, check_nothing_left, check_second_boot
from tests.vm.load import door
from tests.vm.machine import Machine
from tests.vm.outage import outage
from tests.vm.scene import Scene, scene

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(5400)]


def moves(scene: Scene) -> None:
    """From two running machines to one that is the other, committed; everything is judged."""
    source, target, move = scene.source, scene.target, scene.move
    with scene.load() as load:
        scene.copy()
        judge = Judge(source, load)
        target.mark()
        began = time.time()
        move.cutover("--mode=reboot")
        target.wait(new=True)
        for kind in ("commit", "request"):
            load.wait(kind, "target", 600, since=began)
        commits = [answer for answer in load.answers if answer.kind == "commit" and answer.answered > began - 30]
        print(outage(gap(began - 30, commits), target).text())
        judge.run(target)
        began = time.time()
        move.commit()
        print(f"second boot: {check_second_boot(target):.0f} s")
        load.wait("commit", "target", 600, since=time.time())
    judge.run(target, "check_programs", "check_packages")
    check_loader(target, began)
    report = load.report()
    print(report.text(), move.took)
    assert report.served_by == ("source", "target")
    move.remove("--keep-fence")
    check_nothing_left(source, target)


def test_1_bios_to_bios_with_other_controller_card_and_partitions(boot: Boot, tmp_path: Path) -> None:
    moves(scene(boot, tmp_path, "source", "target"))


def test_2_bios_to_uefi_and_nvme(boot: Boot, tmp_path: Path) -> None:
    moves(scene(boot, tmp_path, "source", "target-uefi"))


@pytest.mark.parametrize(
    ("source", "target", "suite"),
    [("source", "target", "trixie"), ("source-lvm", "target-lvm", "bookworm"), ("source", "target-var", "bookworm")],
    ids=["debian-13", "root-on-lvm", "var-apart"],
)
def test_3_other_systems_and_layouts(boot: Boot, tmp_path: Path, source: str, target: str, suite: str) -> None:
    moves(scene(boot, tmp_path, source, target, suite))


HERE: Final = "/root/livelift-agent"
PLACED: Final = "/.livelift/livelift-agent"


def test_without_ssh_by_a_pairing_code(boot: Boot, tmp_path: Path) -> None:
    """As docs/how-to/move-a-whole-server.md says; the harness types on each machine what its operator would."""
    made = scene(boot, tmp_path, "source", "target")
    source, target = made.source, made.target
    for machine in (source, target):
        machine.push([made.move.agent], HERE)
    told = json.loads(target.said(f"{HERE} target --server --install --json").splitlines()[-1])
    source.ssh(
        f"{HERE} source --server --pair - --pair-only {target.profile.address}:{told['port']}",
        input=told["code"].encode() + b"\n",
    )
    source.ssh(f"systemd-run --quiet --unit=livelift-source --property=Restart=on-abnormal {HERE} source")
    with made.load() as load:
        wait_following(source, 1800)
        source.ssh(f"{HERE} verify", timeout=900)
        target.ssh(f"{PLACED} adapt", timeout=1800)
        target.mark()
        began = time.time()
        source.ssh(f"{HERE} cutover", timeout=3600)
        target.wait(new=True)
        load.wait("commit", "target", 600, since=began)
        assert target.said("hostname") == "source"
        found = load.held(door(target))
        source.ssh(f"{HERE} commit", timeout=1800)
    assert found.missing == () and found.torn == 0, found
    assert load.report().served_by == ("source", "target")
    target.ssh(f"{PLACED} remove --state /.livelift/target", timeout=900)
    source.ssh(f"{HERE} remove", timeout=900)
    for machine in (target, source):
        machine.ssh(f"rm {HERE}")
    check_nothing_left(source, target)
    print(load.report().text())


def wait_following(source: Machine, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        status = json.loads(source.ssh(f"{HERE} status --json", check=False).stdout or "{}")
        if status.get("state") == "following" and not status["gaps"]:
            return
        assert time.monotonic() < end, status
        time.sleep(5)

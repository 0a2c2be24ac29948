"""An address of the source moves to the target with the server, and a rollback brings both back; then once more, with
the target keeping its own files."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Final

import pytest

from tests.vm.answers import Answer
from tests.vm.conftest import Boot
from tests.vm.judge import check_nothing_left
from tests.vm.load import PAGE, Load, door
from tests.vm.machine import Machine
from tests.vm.move import Move
from tests.vm.ready import begin, bring
from tests.vm.scene import Scene

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(5400)]

SERVICE: Final = "192.168.77.50"
"""The source's own address in the link from now on; the one by which it reaches the target ends some day, as one that
was added for the move, so it does not move. Of the other card the same, as with a lease: the harness comes by that."""
DRESSED: Final = f"""
set -e
sed -i 's/192\\.168\\.77\\.1/{SERVICE}/' /etc/network/interfaces
grep -q {SERVICE} /etc/network/interfaces
link=$(ip -o address show to 192.168.77.1 | awk '{{print $2}}')
other=$(ip -o address show to 10.0.2.15 | awk '{{print $2}}')
ip address add {SERVICE}/24 dev $link
ip address change 192.168.77.1/24 dev $link valid_lft 604800 preferred_lft 604800
ip address change 10.0.2.15/24 dev $other valid_lft 604800 preferred_lft 604800
"""


def test_an_address_moves_with_the_server_and_a_rollback_brings_both_back(
    boot: Boot, vm_home: Path, tmp_path: Path
) -> None:
    here = begin(bring(boot, vm_home), tmp_path)
    source, target = here.source, here.target
    source.ssh(DRESSED)
    shutil.copytree(here.move.directory / "jobs", here.directory / "jobs")  # the others begin without this policy
    move = Move(here.move.home, here.directory)
    with_policy(move, 'network = "take-source"\n')
    with here.load() as load:
        load.wait("commit", "source", 120)
        goes_over(here, move, load)
        assert asks(source) == here.token, "the fenced source hears its old address answered by the target"

        began = time.time()
        target.mark()
        move.rollback()
        served = load.wait("commit", "source", 120, since=began)
        print(f"rollback: {move.took['rollback']} s; the source serves {served.answered - began:.0f} s after its begin")
        target.wait(new=True)
        assert target.serial.text().count(b"Linux version") == 1, "one reboot"
        assert target.said("hostname") == "target"
        assert SERVICE in held(source) and SERVICE not in held(target)
        assert asks(target) == here.token
        there = acknowledged(load, "target")
        found = load.held(door(source))
        assert set(found.missing) == there and found.torn == 0, "of the new system's commits none, of the source's all"

        following(move)
        card = target.profile.interfaces[1]
        with_policy(move, f'[addresses]\n"{SERVICE}" = "{card}"\n')
        goes_over(here, move, load)
        assert target.profile.address in held(target)
        found = load.held(door(target))
        assert set(found.missing) == there and found.torn == 0, found
        move.commit()
    move.remove("--keep-fence")
    check_nothing_left(source, target)
    report = load.report()
    print(report.text())
    assert report.served_by == ("source", "target", "source", "target")


def with_policy(move: Move, text: str) -> None:
    """``migrate`` again."""
    policy = move.directory / "policy.toml"
    policy.write_text(text)
    move.migrate(f"--policy={policy}", "--renew")


def goes_over(here: Scene, move: Move, load: Load) -> None:
    """One cutover; the address goes with it."""
    assert SERVICE in held(here.source) and SERVICE not in held(here.target)
    began = time.time()
    here.target.mark()
    move.cutover("--mode=reboot")
    here.target.wait(new=True)
    load.wait("commit", "target", 600, since=began)
    assert here.target.said("hostname") == "source"
    assert SERVICE in held(here.target) and SERVICE not in held(here.source)


def held(machine: Machine) -> list[str]:
    """The addresses of its cards."""
    return [line.split()[3].partition("/")[0] for line in machine.said("ip -o -4 address show").splitlines()]


def asks(machine: Machine) -> str:
    """What the page at that address says to that machine."""
    program = f"import urllib.request as u; print(u.urlopen('http://{SERVICE}{PAGE}', timeout=60).read().decode())"
    return machine.said(f'python3 -c "{program}"').strip()


def acknowledged(load: Load, by: str) -> set[tuple[int, int]]:
    def good(answer: Answer) -> bool:
        return answer.kind == "commit" and not answer.error and answer.door == by

    return {(answer.client, answer.number) for answer in load.answers if good(answer)}


def following(move: Move) -> None:
    """The comparison of both trees that a rollback makes necessary is not waited for: the cutover prepares with it."""
    end = time.monotonic() + 900
    while (status := move.status())["state"] != "following" or not status["connected"]:
        assert time.monotonic() < end, status
        time.sleep(10)

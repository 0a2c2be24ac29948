"""The move by hand, in the same machines, under the same clients: what the outage of a cutover stands beside."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.vm.answers import gap
from tests.vm.conftest import Boot
from tests.vm.load import door
from tests.vm.outage import outage
from tests.vm.scene import scene

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(5400)]

SCRIPT = Path(__file__).with_name("by_hand.sh")
DAEMON = """
cat >/root/rsyncd.conf <<END
address = 192.168.77.1
uid = root
gid = root
[root]
path = /
use chroot = yes
END
rsync --daemon --config=/root/rsyncd.conf
"""  # without the chroot it would rewrite symbolic links (rsyncd.conf(5), munge symlinks)


def test_by_hand(boot: Boot, tmp_path: Path) -> None:
    made = scene(boot, tmp_path, "source", "target")
    source, target = made.source, made.target
    source.ssh(DAEMON)
    target.push([SCRIPT], "/root/")
    took: dict[str, float] = {}

    def do(step: str) -> None:
        began = time.monotonic()
        target.ssh(f"bash /root/{SCRIPT.name} {step.split()[-1]}", timeout=1800)
        took[step] = round(time.monotonic() - began, 1)

    with made.load() as load:
        for step in ("copy", "adapt", "once more: last"):
            do(step)
        load.wait("commit", "source", 120, since=time.time() - 5)
        began = time.time()
        source.ssh("systemctl stop postgresql nginx shop.service", timeout=300)
        took["stop"] = round(time.time() - began, 1)
        do("last")
        target.mark()
        target.ssh(f"bash /root/{SCRIPT.name} swap", check=False, timeout=60)  # it may be gone before it has said so
        target.hang_up()
        target.wait(new=True)
        load.wait("commit", "target", 600, since=began)
        commits = [answer for answer in load.answers if answer.kind == "commit" and answer.answered > began - 30]
        print(outage(gap(began - 30, commits), target).text())
        print(f"the steps: {took}")
        assert target.said("hostname") == "source"
        found = load.held(door(target))
    assert found.missing == () and found.torn == 0, found
    assert load.report().served_by == ("source", "target")

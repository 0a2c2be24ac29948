"""The machines themselves: unlike hardware, ssh, the link, copies, power. They tell what they say about each other."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.vm.conftest import Boot
from tests.vm.machine import Machine
from tests.vm.places import VmError

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def pair(boot: Boot) -> tuple[Machine, Machine]:
    return boot()


def drivers(machine: Machine) -> set[str]:
    """Kernel drivers of the disk below the root and of the network cards."""
    return set(machine.said(
        "disk=$(lsblk -nsro NAME,TYPE $(findmnt -no SOURCE /) | awk '$2 == \"disk\" {print $1}'); "
        "for d in /sys/block/$disk/device/driver /sys/class/net/e*/device/driver; do "
        "[ -e $d ] && basename $(readlink -f $d); done; true"
    ).split())  # fmt: skip


def test_their_hardware_is_unlike_and_their_identities_differ(pair: tuple[Machine, Machine]) -> None:
    source, target = pair
    assert drivers(source) >= {"sd", "e1000"}
    assert drivers(target) == {"virtio_blk", "virtio_net"}
    for question in ("hostname", "cat /etc/machine-id", "findmnt -no UUID /", "cat /etc/ssh/ssh_host_ed25519_key.pub"):
        assert source.said(question) != target.said(question) != "", question
    for machine in pair:
        assert machine.said("systemctl --failed --no-legend") == ""
    assert source.said("systemctl is-active postgresql nginx") == "active\nactive"


def test_the_ssh_configuration_leads_to_both(pair: tuple[Machine, Machine], vm_home: Path) -> None:
    for machine in pair:
        words = ["ssh", "-F", vm_home / "ssh_config", "-o", "BatchMode=yes", f"root@{machine.name}", "hostname"]
        assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == machine.name


def test_files_go_in_and_come_out(pair: tuple[Machine, Machine], tmp_path: Path) -> None:
    source, _ = pair
    (tmp_path / "one").write_bytes(bytes(range(256)) * 1000)
    source.push([tmp_path / "one"], "/root/")
    source.pull(["/root/one"], tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "one").read_bytes()


def test_the_link_carries_jumbo_frames_and_can_be_cut(pair: tuple[Machine, Machine]) -> None:
    source, target = pair
    assert source.ssh("ping -c 1 -W 5 -M do -s 8900 target").returncode == 0
    target.link(False)
    assert source.ssh("ping -c 1 -W 3 target", check=False).returncode == 1
    target.link(True)
    assert source.ssh("ping -c 10 -i 1 -W 3 -q target | grep -q ' [1-9][0-9]* received'").returncode == 0


def test_a_new_boot_is_told_from_the_old_one(pair: tuple[Machine, Machine]) -> None:
    _, target = pair
    before = target.said("cat /proc/sys/kernel/random/boot_id")
    target.reboot()
    assert target.wait(new=True) > 1
    assert target.said("cat /proc/sys/kernel/random/boot_id") != before


def test_a_power_cut_loses_what_was_not_written(pair: tuple[Machine, Machine]) -> None:
    _, target = pair
    target.ssh("echo kept >/root/kept && sync && echo lost >/root/lost")
    target.cut_power()
    assert target.pid() is None
    target.up(keep=True)
    target.wait(new=True)
    assert target.said("cat /root/kept") == "kept"
    assert target.ssh("grep lost /root/lost", check=False).returncode != 0


def test_a_power_cut_at_a_line_of_the_log(pair: tuple[Machine, Machine]) -> None:
    _, target = pair
    target.mark()
    target.ssh("echo now is the moment >/dev/ttyS0; sleep 60", check=False, timeout=3)
    assert target.cut_power_at("the m[a-z]+t", 10) == "the moment"
    with pytest.raises(VmError, match="does not run"):
        target.cut_power()
    target.up(keep=True)
    target.wait(new=True)


def test_a_boot_that_leads_nowhere_is_told_within_seconds(pair: tuple[Machine, Machine]) -> None:
    _, target = pair
    target.ssh("sed -i 's/root=UUID=[^ ]*/root=UUID=0-0/' /boot/grub/grub.cfg && sync")
    target.reset()
    began = time.monotonic()
    with pytest.raises(VmError, match=r"did not boot: .*\n(.*\n)+.*does not exist"):
        target.wait(new=True, timeout=1000)
    assert time.monotonic() - began < 600


def test_a_state_that_was_saved_comes_back(pair: tuple[Machine, Machine]) -> None:
    source, _ = pair
    source.ssh("touch /run/before")
    source.save("here")
    source.ssh("rm /run/before; touch /root/after")
    source.load("here")
    assert source.said("ls /run/before") == "/run/before"
    assert source.ssh("ls /root/after", check=False).returncode == 2
    assert abs(int(source.said("date +%s")) - time.time()) < 10

"""The take-over by itself, on the target alone: over and back, with what is wrong in the staged system, and power cuts.

The staged system is a copy of the machine's own, with another name: it boots without adaptation, so that what is seen
here is the take-over.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm import image
from tests.vm.machine import Machine
from tests.vm.move import agent_file
from tests.vm.places import VmError

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.timeout(3000)]

STAGE = """
install -d -m 700 /.livelift
mkdir -p /.livelift/new
for name in $(ls -A /); do
  case $name in
    .livelift|lost+found|proc|sys|dev|run|tmp) ;;
    *) cp -ax /$name /.livelift/new/ ;;
  esac
done
cd /.livelift/new
mkdir proc sys dev run
mkdir -m 1777 tmp
echo moved >etc/hostname
sed -i s/target/moved/ etc/hosts
touch only-new /only-old
sync
"""
AGENT = "/.livelift/livelift-agent"
NAMES = "hostname; LC_ALL=C ls -d /.livelift/new/only-* /only-*"
UP = 1500.0
"""Seconds for a boot that has to come about by itself: a start, the time to confirm in, another start."""


@pytest.fixture(scope="module")
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Staged and installed; not armed. What is saved as "installed" is where every test begins. With LIVELIFT_VM_KEEP
    (a short path) it stays there, for the next run."""
    kept = os.environ.get("LIVELIFT_VM_KEEP")
    machine = Machine("target", Path(kept) if kept else request.getfixturevalue("vm_home"))
    if not machine.disk.exists():
        image.build(["target"], "bookworm")
        machine.up("target")
        machine.wait()
        patiently(machine, STAGE)
        machine.push([agent_file(tmp_path_factory.mktemp("agent"))], AGENT)
        patiently(machine, f"{AGENT} takeover install")
        assert status(machine)["phase"] == "installed"
        machine.hang_up()
        machine.save("installed")
    yield machine
    if kept:
        machine.down(hard=True)


def patiently(machine: Machine, script: str, timeout: float = 3000) -> None:
    """What takes so long on an emulated machine beside others that no connection lives that long."""
    machine.ssh("cat >/root/job", input=f"( set -e\n{script}\n) >/root/said 2>&1; echo $? >/root/code".encode())
    machine.ssh("rm -f /root/code; systemd-run --quiet --no-block sh /root/job")
    end = time.monotonic() + timeout
    while (done := machine.ssh("cat /root/code", check=False, timeout=60)).returncode or not done.stdout:
        assert time.monotonic() < end, script
        time.sleep(5)
    assert done.stdout.strip() == "0", machine.said("cat /root/said")


@pytest.fixture
def target(installed: Machine) -> Iterator[Machine]:
    installed.load("installed")
    yield installed
    if installed.pid():
        installed.hang_up()


@pytest.fixture(scope="module")
def going(installed: Machine) -> Machine:
    """As the machine is when its boot loader has chosen the stage and begins to read it: saved as "going"."""
    installed.load("installed")
    over(installed)
    assert installed.serial.wait("Booting .Livelift: the take-over stage", UP, lambda: installed.pid() is not None)
    installed.save("going")
    return installed


def status(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.said(f"{AGENT} takeover status --json"))
    return found


def limit(machine: Machine, seconds: int) -> None:
    """For who does not want to wait ten minutes."""
    machine.ssh(f'sed -i \'s/"seconds": 600/"seconds": {seconds}/\' /.livelift/takeover/config.json')


def over(machine: Machine) -> None:
    """Armed, and rebooted."""
    machine.ssh(f"{AGENT} takeover arm", timeout=300)
    machine.reboot()


def confirmed(machine: Machine) -> dict[str, Any]:
    """Waits until the new system has confirmed by itself."""
    end = time.monotonic() + 600
    while (found := status(machine))["phase"] != "confirmed" or found["watchdog"]:
        assert time.monotonic() < end, found
        time.sleep(3)
    return found


def acknowledged(machine: Machine) -> None:
    end = time.monotonic() + 600
    while "livelift_tries" in machine.said("cat /boot/grub/grubenv"):
        assert time.monotonic() < end
        time.sleep(3)


def is_old(machine: Machine) -> dict[str, Any]:
    """The old system stands, whole, and says why."""
    assert machine.said(NAMES) == "target\n/.livelift/new/only-new\n/only-old"
    found = status(machine)
    assert (found["system"], found["phase"], found["watchdog"]) == ("old", "returned", ""), found
    assert machine.said("head -1 /boot/grub/livelift.cfg") == "# livelift-mode: idle"
    assert "next_entry=livelift" not in machine.said("cat /boot/grub/grubenv"), "GRUB itself leaves an empty one"
    print(f"back after {machine.facts['boot_seconds']} s: {found['reason']}")
    return found


def is_new(machine: Machine) -> None:
    assert machine.said(NAMES) == "moved\n/.livelift/new/only-old\n/only-new"
    assert machine.said("systemctl --failed --no-legend") == ""


def test_over_confirmed_started_by_itself_and_back(target: Machine) -> None:
    over(target)
    print(f"over in {target.wait(UP, new=True):.0f} s")
    is_new(target)
    assert "panic=30" in target.said("cat /proc/cmdline")
    assert confirmed(target)["watchdog"] == ""
    assert target.said("systemctl is-active livelift-confirm || true") in ("inactive", "active")
    target.reboot()
    target.wait(UP, new=True)
    is_new(target)
    line = target.said("cat /proc/cmdline")
    assert "livelift" not in line and "panic=30" in line, "by its own menu and initramfs, and it does not stop"
    acknowledged(target)
    target.ssh(f"{AGENT} takeover back")
    target.reboot()
    print(f"back in {target.wait(UP, new=True):.0f} s")
    assert is_old(target)["reason"] == "asked for"
    target.ssh(f"{AGENT} takeover uninstall")
    assert (
        target.said("ls -d /boot/livelift* /boot/grub/livelift* /boot/grub/custom.cfg /.livelift/takeover 2>&1 | wc -l")
        == "4"
    )
    target.reboot()
    target.wait(UP, new=True)
    assert target.said("hostname") == "target"


def test_committed(target: Machine) -> None:
    over(target)
    target.wait(UP, new=True)
    confirmed(target)
    patiently(target, f"{AGENT} takeover commit --free --json")
    said = target.said("cat /root/said")
    assert {finding["id"] for finding in json.loads(said)["findings"]} <= {"takeover-own-boot"}, said
    assert target.said("ls -A /.livelift").split() == ["cache", "livelift-agent"], "they go with livelift remove"
    assert "livelift" not in target.said("ls /boot /boot/grub /etc/systemd/system /etc/systemd/system/*.wants")
    assert "livelift" not in target.said("cat /boot/grub/grub.cfg")
    target.reboot()
    target.wait(UP, new=True)
    assert target.said("hostname; ls -d /only-*") == "moved\n/only-new"
    assert target.said("systemctl --failed --no-legend") == ""


def test_an_init_that_ends_is_a_panic_that_leads_back(target: Machine) -> None:
    target.ssh("ln -sf /bin/false /.livelift/new/sbin/init")
    over(target)
    target.wait(UP, new=True, trouble=False)
    assert "went down" in is_old(target)["reason"]


def test_an_init_that_hangs_is_ended_by_the_watchdog(target: Machine) -> None:
    """As PID 1 a shell that only waits: no panic, no network, nobody to ask."""
    init = "/.livelift/new/sbin/init"
    target.ssh(f"rm {init}; printf '#!/bin/sh\\nexec sleep 100000\\n' >{init}; chmod 755 {init}")
    limit(target, 90)
    over(target)
    target.wait(UP, new=True, trouble=False)
    found = is_old(target)
    assert "the watchdog's limit is 90 s" in found["reason"] and "never came to look" in found["reason"]


def test_a_missing_disk_in_fstab_leads_back(target: Machine) -> None:
    """systemd waits 90 s for it and then stops in emergency mode."""
    target.ssh("echo 'UUID=0000-0000 /data ext4 defaults 0 2' >>/.livelift/new/etc/fstab")
    limit(target, 130)
    over(target)
    target.wait(UP, new=True, trouble=False)
    assert "the watchdog's limit is 130 s" in is_old(target)["reason"]


def test_a_service_that_fails_is_named_in_the_reason(target: Machine) -> None:
    place = "/.livelift/new/etc/systemd/system"
    text = "[Service]\\nExecStart=/bin/false\\n"
    target.ssh(f"printf '{text}' >{place}/broken.service")
    target.ssh(f"ln -s ../broken.service {place}/multi-user.target.wants/broken.service")
    limit(target, 150)
    over(target)
    target.wait(UP, new=True)
    assert target.said("hostname") == "moved", "reachable, but not well"
    target.mark()
    target.wait(UP, new=True)
    assert "broken.service has failed" in is_old(target)["reason"]


def test_a_machine_that_hangs_is_ended_by_the_hardware(target: Machine) -> None:
    """The software watchdog is stopped, as by a kernel that schedules nothing; and nobody confirms."""
    target.ssh("rm /.livelift/new/etc/systemd/system/multi-user.target.wants/livelift-confirm.service")
    over(target)
    target.wait(UP, new=True)
    found = status(target)
    assert found["phase"] == "trying" and found["watchdog"].endswith("hardware"), found
    target.mark()
    target.ssh("pkill -STOP -f '^@livelift-watchdog'")
    target.wait(UP, new=True)
    assert "did not confirm" in is_old(target)["reason"]


def test_a_wrong_initramfs_after_the_confirmation_leads_back(target: Machine) -> None:
    over(target)
    target.wait(UP, new=True)
    confirmed(target)
    target.ssh("cd /boot && for i in initrd.img-*; do echo wrong | gzip >$i; done && sync")
    target.reboot()
    target.wait(UP, new=True, trouble=False)
    assert "did not come up 2 times after it had confirmed" in is_old(target)["reason"]


@pytest.mark.parametrize(
    ("pattern", "later"),
    [
        ("Loading initial ramdisk|Linux version", 0.5),
        ("livelift: old stands", 0.0),
        ("livelift: old stands", 0.4),
        ("livelift: old stands", 0.8),
        ("livelift: old stands", 1.2),
        ("livelift: old stands", 1.6),
        ("livelift: old stands", 2.2),
        ("livelift: the new system stands", 0.0),
        ("livelift: the new system stands", 3.0),
        ("Reached target.*Local File Systems|Starting.*Journal", 0.0),
    ],
)
def test_a_power_cut(going: Machine, pattern: str, later: float) -> None:
    """At ten moments. Then: exactly one of both stands, and it says what happened."""
    going.load("going", wait=False)
    going.cut_power_at(pattern, 600, later)
    going.up(keep=True)
    going.wait(UP, trouble=False)
    if going.said("hostname") == "target":
        if status(going)["phase"] == "armed":
            missed(going)
            return
        if going.said("head -1 /boot/grub/livelift.cfg") != "# livelift-mode: idle":
            print("GRUB had not seen the switch yet: the next boot would be the stage's, which stays")
            going.ssh(f"{AGENT} takeover disarm")
        is_old(going)
    else:
        is_new(going)
        confirmed(going)
        print("the new system stands, and has confirmed")


def missed(target: Machine) -> None:
    """GRUB had cleared next_entry, and the stage had not begun."""
    found = status(target)
    assert (found["system"], found["phase"], found["missed"]) == ("old", "armed", True), found
    target.ssh(f"{AGENT} takeover disarm")
    assert status(target)["phase"] == "installed"


def test_the_harness_tells_a_boot_that_leads_nowhere(target: Machine) -> None:
    """So that the waiting above, which looks for no trouble where it is expected, would be seen to fail."""
    target.ssh("rm /boot/grub/grub.cfg && sync")
    target.reboot()
    with pytest.raises(VmError):
        target.wait(60, new=True)

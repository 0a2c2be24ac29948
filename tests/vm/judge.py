"""The judge: whether the target is the source now. Its own code, over ssh; nothing of Livelift is asked.

`Judge` remembers what the source was, while that could be asked; each ``check_`` compares the target with it and raises
AssertionError with what differs. `run` makes all of them and tells all that failed, not only the first.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.vm.load import Load, door
from tests.vm.machine import Machine
from tests.vm.plant import PLANTED

INSIDE: Final = Path(__file__).with_name("inside.py")
PROGRAMS: Final = ("/usr", "/opt", "/root", "/var/www")
"""Trees of the source that nobody but the package manager writes to while it serves."""
GRAIN: Final = 1 << 16
"""Bytes: so much may a hole lose at each end, and one that is not larger altogether."""
MODULES: Final = {"ahci": "ahci", "virtio-blk": "virtio_blk", "nvme": "nvme"}
CARDS: Final = {"e1000": "e1000", "e1000e": "e1000e", "virtio-net-pci": "virtio_net"}

Files = Mapping[bytes, dict[str, Any]]


def files(machine: Machine, *paths: str, times: bool = True) -> Files:
    """What `inside` tells of everything below these paths, by path."""
    words = "" if times else "--no-times "
    said = machine.ssh(f"python3 - {words}{' '.join(paths)}", input=INSIDE.read_bytes(), timeout=900)
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    return {bytes.fromhex(line["path"]): line for line in lines}


def differences(before: Files, after: Files) -> list[str]:
    """One line for each path that is not the same in both."""
    told = []
    for path in sorted(before.keys() | after.keys()):
        one, other = before.get(path), after.get(path)
        if one is None or other is None:
            told.append(f"{path!r}: only {'there now' if one is None else 'on the source'}")
        elif one != other:
            wrong = [
                name for name in one if one[name] != other.get(name) and not (name == "holes" and kept(one, other))
            ]
            if wrong:
                text = "; ".join(f"{name} {one[name]!r} became {other.get(name)!r}" for name in wrong)
                told.append(f"{path!r}: {text}")
    return told


def kept(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """No hole was filled, but for its ends (docs/guarantees.md: where holes are is no promise)."""
    return all(
        any(low <= begin + GRAIN and end - GRAIN <= high for low, high in after.get("holes", ()))
        for begin, end in before["holes"]
        if end - begin > 2 * GRAIN
    )


def host_keys(machine: Machine) -> set[str]:
    """As a client sees them."""
    keys = set()
    for kind in ("rsa", "ecdsa", "ed25519"):
        words = ["ssh-keyscan", "-T", "120", "-t", kind, "-p", str(machine.port(22)), "127.0.0.1"]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300)
        (line,) = [line for line in done.stdout.splitlines() if not line.startswith("#")]
        keys.add(line.partition(" ")[2])
    return keys


def debsums(machine: Machine) -> list[str]:
    """Files of packages, configuration too, that are not as they were packed. Exit code 2: there are such."""
    done = machine.ssh("debsums --all --silent 2>&1", check=False, timeout=900)
    assert done.returncode in (0, 2), done.stdout
    return sorted(done.stdout.splitlines())


class Judge:
    """Made while the source still answers and nothing on it changes any more but the service's data: after the package
    upgrade. ``load``: the clients."""

    def __init__(self, source: Machine, load: Load) -> None:
        self.load = load
        self.identity = {question: source.said(question) for question in IDENTITY}
        self.keys = host_keys(source)
        self.sums = debsums(source)
        self.planted = files(source, PLANTED)
        self.programs = files(source, *PROGRAMS, times=False)

    def run(self, target: Machine, *others: str) -> None:
        """All checks but those that are named."""
        failed = []
        for name in (name for name in dir(self) if name.startswith("check_") and name not in others):
            try:
                getattr(self, name)(target)
            except AssertionError as wrong:
                failed.append(f"{name}: {wrong}")
        assert not failed, "\n\n".join(failed)

    # -- is it the source? -------------------------------------------------------------------------------------------

    def check_identity(self, target: Machine) -> None:
        now = {question: target.said(question) for question in IDENTITY}
        assert now == self.identity

    def check_host_keys(self, target: Machine) -> None:
        assert host_keys(target) == self.keys

    def check_commits(self, target: Machine) -> None:
        held = self.load.held(door(target))
        assert held.acknowledged > 0 and held.missing == () and held.torn == 0, held

    def check_database(self, target: Machine) -> None:
        words = "$(ls /usr/lib/postgresql/*/bin/pg_amcheck) --all --install-missing --heapallindexed --parent-check"
        done = target.ssh(f'cd /; su postgres -c "{words}" 2>&1', check=False, timeout=600)
        assert done.returncode == 0 and not re.search("(?m)^(?!WARNING|NOTICE).+", done.stdout), done.stdout

    def check_log(self, target: Machine) -> None:
        """The log of the shop, with all that was rotated away: every number once, in order."""
        text = target.said("cd /var/log/shop && cat $(ls -v -r)")
        numbers = [int(line.split()[0]) for line in text.splitlines()]
        assert numbers and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert text.splitlines()[-1].split()[1] == "1.1", "the package upgrade is not there"

    def check_planted(self, target: Machine) -> None:
        wrong = differences(self.planted, files(target, PLANTED))
        assert not wrong, "\n".join(wrong)

    def check_programs(self, target: Machine) -> None:
        wrong = differences(self.programs, files(target, *PROGRAMS, times=False))
        wrong = [line for line in wrong if not any(word in line for word in ADAPTED)]
        assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:40])

    def check_packages(self, target: Machine) -> None:
        assert debsums(target) == self.sums

    # -- does it live on its own hardware? ---------------------------------------------------------------------------

    def check_units(self, target: Machine) -> None:
        target.ssh("systemctl is-system-running --wait", check=False, timeout=300)
        assert target.said("systemctl --failed --no-legend --plain") == ""
        assert target.said("systemctl is-active postgresql nginx shop ssh") == "active\nactive\nactive\nactive"

    def check_drivers(self, target: Machine) -> None:
        profile = target.profile
        used = set(target.said("lsmod | awk '$3 > 0 {print $1}'").split())
        card, disk = CARDS[profile.nic], MODULES[profile.disk]
        name = profile.interfaces[1]
        assert target.said(f"basename $(readlink /sys/class/net/{name}/device/driver)") == card
        assert disk in used, f"{disk} is not in use: {sorted(used)}"
        assert target.said("findmnt -no SOURCE /").startswith("/dev/mapper/" if profile.lvm else profile.device)
        swap = target.said("swapon --show=NAME --noheadings")
        assert swap == profile.partition("swap"), f"swap: {swap}"

    def check_initramfs(self, target: Machine) -> None:
        """Every kernel's has the target's disk driver."""
        driver = MODULES[target.profile.disk]
        for image in target.said("ls /boot/initrd.img-*").split():
            listing = target.said(f"lsinitramfs {image}")
            assert re.search(rf"/{driver.replace('_', '[-_]')}\.ko", listing), f"{image} lacks {driver}"


IDENTITY: Final = (
    "hostname", "cat /etc/machine-id", "cat /etc/hostname", "cat /etc/ssh/ssh_host_*_key.pub", "cat /etc/passwd",
    "dpkg-query --show --showformat '${Package} ${Version} ${Status}\\n' | grep -v grub", "cat /var/www/html/who.txt",
)  # fmt: skip
ADAPTED: Final = ("/grub", "b'/root/.", "__pycache__", "livelift", "b'/root'")
"""Words in the path of a program file that the adaptation, or a login, may change."""


def check_second_boot(target: Machine) -> float:
    """It comes up again, by its own loader; seconds until ssh answered."""
    target.reboot()
    return target.wait(new=True)


LEFT: Final = """
name=live''lift
find / -xdev -iname "*$name*" ! -path /etc/initramfs-tools/conf.d/zz-$name; ls -d /run/*$name* 2>/dev/null
systemctl list-units --all --plain --no-legend "*$name*"
ps -eo args | grep -v grep | grep -i $name; true
"""
"""The quotes in the name hide this shell from its last line. The one file is part of the adapted system: what it puts
in the initramfs is what the new machine starts with."""


def check_nothing_left(source: Machine, target: Machine) -> None:
    """After `livelift remove`. The source stays fenced, by units of ours."""
    left = [line for line in left_on(source) if "livelift-handed" not in line]
    assert (left, left_on(target)) == ([], []), f"source {left}, target {left_on(target)}"


def left_on(machine: Machine) -> list[str]:
    return machine.said(LEFT).splitlines()


def check_loader(target: Machine, since: float) -> None:
    """The boot loader is the new system's own, installed after ``since`` (epoch): what is on the disk is what its
    grub-install made, and the menu starts the new root, with nothing of the take-over left in it."""
    profile = target.profile
    menu = target.said("cat /boot/grub/grub.cfg")
    assert "livelift" not in menu and target.said("findmnt -no UUID /") in menu
    assert not target.said("grub-editenv list | grep -i -e next_entry=. -e livelift; true")
    if profile.uefi:
        image = "/boot/grub/x86_64-efi/core.efi"
        changed = target.said(f"stat -c %Y {image}")
        assert int(changed) >= since, f"core.efi is from {changed}"
        target.ssh(f"cmp {image} /boot/efi/EFI/debian/grubx64.efi")
        # The source has no efibootmgr, so the firmware's variables are read as they are: UTF-16.
        names = target.said("cat /sys/firmware/efi/efivars/Boot[0-9]*-* | tr -d '\\0'")
        assert "debian" in names and "grubx64.efi" in names.lower(), repr(names)
        return
    size, changed = target.said("stat -c '%s %Y' /boot/grub/i386-pc/core.img").split()
    assert int(changed) >= since, f"core.img is from {changed}"
    # Its first sector holds the list of the others, and the next 20 bytes what it was protected with on the way to the
    # disk (GRUB 2.06, grub-core/boot/i386/pc/startup_raw.S): these differ by design.
    own = f"--ignore-initial=532 --bytes={int(size) - 532}"
    target.ssh(f"cmp {own} /boot/grub/i386-pc/core.img {profile.partition('bios')}")
    packed = target.said("md5sum /usr/lib/grub/i386-pc/normal.mod /boot/grub/i386-pc/normal.mod").split()
    assert packed[0] == packed[2], "GRUB's modules in /boot are not those of the installed package"

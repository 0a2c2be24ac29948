"""The whole of it: from a planted machine, from this one, and through JSON and back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from livelift.cli.main import main
from livelift.facts.collect import collect
from livelift.facts.host import Host
from livelift.model.facts import ServerFacts
from tests.facts.tree import plant, programs

DISK = "/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/block/sda"
LSBLK = json.dumps(
    {
        "blockdevices": [
            {"name": "sda", "kname": "sda", "pkname": None, "type": "disk", "size": 1},
            {"name": "sda1", "kname": "sda1", "pkname": "sda", "type": "part", "size": 1, "fstype": "ext4"},
        ]
    }
)


def test_the_way_of_the_root_disk(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "/etc/hostname": "web1",
            "/etc/fstab": "# c\nUUID=1 / ext4 defaults 0 1\n",
            "/proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
            "/proc/modules": "ahci 1 0 - Live 0x0\next4 2 1 - Live 0x0\n",
            "/proc/meminfo": "MemTotal:        1024 kB\n",
            "/dev/sda1": "",
            f"{DISK}/sda1/partition": "1",
            "/sys/class/block/sda1": f"-> ../../{DISK[5:]}/sda1",
            "/sys/class/block/sda": f"-> ../../{DISK[5:]}",
            "/sys/devices/pci0000:00/0000:00:1f.2/modalias": "pci:v00008086d00002922",
            "/sys/devices/pci0000:00/0000:00:1f.2/driver": "-> ../../../bus/pci/drivers/ahci",
            "/sys/bus/pci/drivers/ahci/module": "-> ../../../../module/ahci",
            "/sys/module/ahci": None,
        },
    )
    facts = collect(Host(str(tmp_path), programs({"lsblk --json": LSBLK, "ip": ""})))
    assert [(k.modalias, k.module) for k in facts.root_links] == [("pci:v00008086d00002922", "ahci")]
    assert facts.modules == ("ahci", "ext4") and facts.memory == 1 << 20
    assert facts.fstab[0].spec == "UUID=1" and facts.hostname == "web1"
    assert facts.unread == ()


def test_this_machine_through_json_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["facts", "--json"]) == 0
    text = capsys.readouterr().out
    facts = msgspec.json.decode(text.encode(), type=ServerFacts)
    assert facts.running_kernel == os.uname().release
    assert facts.architecture == os.uname().machine
    assert facts.memory > 1 << 20
    assert facts.clock.now > 1_600_000_000 * 10**9
    assert any(nic.kind == "loopback" for nic in facts.interfaces)


def test_a_tree_that_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(tmp_path, {"/etc/hostname": "old", "/etc/os-release": "ID=debian\nVERSION_ID=11\nPRETTY_NAME=Eleven\n"})
    assert main(["facts", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "old (Eleven" in out and "not read     lsblk: this root is not a running machine" in out
    assert main(["facts", "--root", str(tmp_path / "missing")]) == 2

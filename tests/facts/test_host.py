"""A host reads what lies below its root and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livelift.facts.host import Host, run_program
from tests.facts.tree import plant


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "secret").write_text("outside")
    plant(
        tmp_path / "root",
        {
            "/etc/hostname": "web1\n",
            "/etc/absolute": "-> /etc/hostname",
            "/etc/up": "-> ../../../../secret",
            "/etc/out": f"-> {tmp_path}/secret",
            "/usr/lib/os-release": "ID=x\n",
            "/etc/os-release": "-> ../usr/lib/os-release",
            "/lib": "-> usr/lib",
            "/boot/vmlinuz-1": "",
            "/boot/vmlinuz-2": "",
            "/boot/.vmlinuz-3": "",
            "/etc/bytes": b"a\xffb\n",
        },
    )
    return Host(str(tmp_path / "root"))


def test_symlinks_stay_inside(host: Host) -> None:
    assert host.text("/etc/absolute") == "web1\n"
    assert host.line("/etc/os-release") == "ID=x"
    assert host.text("/etc/up") == "" and host.text("/etc/out") == ""
    assert host.real("/lib/os-release") == "/usr/lib/os-release"
    assert host.real("/nothing") == ""


def test_names_and_patterns(host: Host) -> None:
    assert list(host.glob("/boot/vmlinuz-*")) == ["/boot/vmlinuz-1", "/boot/vmlinuz-2"]
    assert list(host.glob("/*/hostname")) == ["/etc/hostname"]
    assert list(host.glob("/etc/out")) == [], "a dangling link is no file"
    assert host.names("/boot") == [".vmlinuz-3", "vmlinuz-1", "vmlinuz-2"]
    assert host.is_dir("/lib") and not host.is_dir("/etc/hostname")


def test_bytes_that_are_no_utf8_can_be_told_as_json(host: Host) -> None:
    assert host.line("/etc/bytes") == "a\\xffb"


def test_a_missing_file_is_a_fact_and_an_unreadable_one_is_told(host: Host) -> None:
    assert host.text("/no/such") == "" and host.unread == []
    assert host.text("/etc") == ""
    assert host.unread == ["/etc: Is a directory"]


def test_programs_of_a_tree_that_does_not_run(host: Host) -> None:
    assert host.run("lsblk") == ""
    assert host.unread == ["lsblk: this root is not a running machine"]


def test_real_programs() -> None:
    assert run_program(("printf", "%s", "a b")) == "a b"
    assert run_program(("false",)) is None
    assert run_program(("/no/such/program",)) is None


def test_proc_sys_is_read(tmp_path: Path) -> None:
    """The kernel refuses to answer from /proc/sys into a buffer of megabytes."""
    assert Host().line("/proc/sys/kernel/osrelease") == os.uname().release

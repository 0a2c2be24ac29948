"""Small facts, each from the file that real systems have."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from livelift.facts import system
from livelift.facts.host import Host
from livelift.model.facts import CloudInit, Kernel, Release
from tests.facts.tree import plant, programs

UBUNTU = """PRETTY_NAME="Ubuntu 22.04.4 LTS"
NAME="Ubuntu"
VERSION_ID="22.04"
VERSION_CODENAME=jammy
ID=ubuntu
ID_LIKE=debian
"""
ROCKY = 'NAME="Rocky Linux"\nVERSION_ID="9.3"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'
LEAP = 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.5"\n'


@pytest.mark.parametrize(
    ("text", "family", "major"),
    [
        (UBUNTU, "debian", "22.04"),
        ("ID=debian\nVERSION_ID='12'\n", "debian", "12"),
        (ROCKY, "redhat", "9"),
        (LEAP, "suse", "15"),
        ("ID=arch\n", "", ""),
    ],
)
def test_releases(text: str, family: str, major: str) -> None:
    release = system.parse_release(text)
    assert (release.family, release.major) == (family, major)


def test_release_before_os_release(tmp_path: Path) -> None:
    plant(tmp_path, {"/etc/redhat-release": "CentOS release 6.10 (Final)\n"})
    assert system.release(Host(str(tmp_path))) == Release(
        id="centos", like=("rhel", "fedora"), version="6.10", name="CentOS release 6.10 (Final)"
    )


def test_shell_values_do_not_expand() -> None:
    text = 'A="x \\"y\\" \\$z"\nB=\'it\\n\'\n# C=1\nA2=plain\nA2=last\n not a line\n'
    assert system.shell_values(text) == {"A": 'x "y" $z', "B": "it\\n", "A2": "last"}


def test_kernels_of_three_families(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "/boot/vmlinuz-6.1.0-1-amd64": "",
            "/boot/initrd.img-6.1.0-1-amd64": "",
            "/usr/lib/modules/6.1.0-1-amd64/modules.dep": "",
            "/boot/vmlinuz-5.14.0-1.el9": "",
            "/boot/initramfs-5.14.0-1.el9.img": "",
            "/usr/lib/modules/5.0-gone/modules.dep": "",
            "/lib": "-> usr/lib",
        },
    )
    assert system.kernels(Host(str(tmp_path))) == (
        Kernel(version="5.0-gone", modules=True),
        Kernel(version="5.14.0-1.el9", image="/boot/vmlinuz-5.14.0-1.el9", initrd="/boot/initramfs-5.14.0-1.el9.img"),
        Kernel(
            version="6.1.0-1-amd64",
            image="/boot/vmlinuz-6.1.0-1-amd64",
            initrd="/boot/initrd.img-6.1.0-1-amd64",
            modules=True,
        ),
    )


@pytest.mark.parametrize(("raw", "on"), [(b"\6\0\0\0\1", True), (b"\6\0\0\0\0", False), (b"", None)])
def test_secure_boot(tmp_path: Path, raw: bytes, on: bool | None) -> None:
    plant(tmp_path, {system.SECURE_BOOT: raw})
    assert system.firmware(Host(str(tmp_path))).secure_boot is on


def test_bios(tmp_path: Path) -> None:
    assert system.firmware(Host(str(tmp_path))).kind == "bios"


def elf(machine: int, order: str) -> bytes:
    data = 1 if order == "little" else 2
    return b"\x7fELF\x02" + bytes([data]) + b"\0" * 12 + struct.pack("<H" if data == 1 else ">H", machine)


@pytest.mark.parametrize(
    ("machine", "order", "name"),
    [(62, "little", "x86_64"), (183, "little", "aarch64"), (21, "little", "ppc64le"), (21, "big", "ppc64")],
)
def test_libc(tmp_path: Path, machine: int, order: str, name: str) -> None:
    text = b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u7) stable release version 2.36.\n"
    plant(tmp_path, {"/lib64/libc.so.6": elf(machine, order) + text})
    assert system.libc(Host(str(tmp_path))) == (name, "2.36")


def test_no_libc(tmp_path: Path) -> None:
    assert system.libc(Host(str(tmp_path))) == ("", "")


@pytest.mark.parametrize(
    ("files", "selinux", "policy"),
    [
        ({"/etc/selinux/config": "SELINUX=enforcing\nSELINUXTYPE=targeted\n"}, "enforcing", "targeted"),
        (
            {"/etc/selinux/config": "SELINUX=enforcing\nSELINUXTYPE=mls\n", "/sys/fs/selinux/enforce": "0"},
            "permissive",
            "mls",
        ),
        ({}, "", ""),
    ],
)
def test_selinux(tmp_path: Path, files: dict[str, str], selinux: str, policy: str) -> None:
    found = system.security(Host(str(plant(tmp_path, files))))  # type: ignore[arg-type]
    assert (found.selinux, found.policy) == (selinux, policy)


def test_cloud_init(tmp_path: Path) -> None:
    assert system.cloud_init(Host(str(tmp_path))) == CloudInit()
    plant(
        tmp_path,
        {
            "/etc/cloud/cloud.cfg": "",
            "/var/lib/cloud/data/instance-id": "i-0abc\n",
            "/var/lib/cloud/instances/i-0abc/datasource": "DataSourceEc2Local: DataSourceEc2Local\n",
            "/var/lib/cloud/instance": "-> /var/lib/cloud/instances/i-0abc",
        },
    )
    found = system.cloud_init(Host(str(tmp_path)))
    assert found == CloudInit(present=True, instance="i-0abc", datasource="DataSourceEc2Local")


def test_services(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "/run/systemd/system": None,
            "/etc/systemd/system/multi-user.target.wants/nginx.service": "",
            "/etc/systemd/system/multi-user.target.wants/old.service": "",
        },
    )
    units = (
        "nginx.service loaded active running A server\n"
        "● bad.service loaded failed failed Broken\n"
        "idle.service loaded inactive dead Idle\n"
    )
    found = system.services(Host(str(tmp_path), programs({"systemctl list-units": units})))
    assert [(s.unit, s.state, s.enabled) for s in found] == [
        ("bad.service", "failed", False),
        ("nginx.service", "running", True),
        ("old.service", "", True),
    ]


def test_clock(tmp_path: Path) -> None:
    plant(tmp_path, {"/etc/adjtime": "0.0 0 0.0\n0\nLOCAL\n", "/usr/share/zoneinfo/Europe/Oslo": ""})
    plant(tmp_path, {"/etc/localtime": "-> /usr/share/zoneinfo/Europe/Oslo"})
    found = system.clock(Host(str(tmp_path)))
    assert (found.now, found.zone, found.rtc_local) == (0, "Europe/Oslo", True)


@pytest.mark.parametrize(
    ("vendor", "product", "kind"),
    [
        ("VMware, Inc.", "VMware7,1", "vmware"),
        ("Microsoft Corporation", "Virtual Machine", "microsoft"),
        ("Microsoft Corporation", "Surface", ""),
        ("QEMU", "Standard PC", "kvm"),
        ("Dell Inc.", "PowerEdge", ""),
    ],
)
def test_hypervisor(tmp_path: Path, vendor: str, product: str, kind: str) -> None:
    plant(tmp_path, {"/sys/class/dmi/id/sys_vendor": vendor, "/sys/class/dmi/id/product_name": product})
    assert system.hypervisor(Host(str(tmp_path))) == kind


def test_packages_by_their_files(tmp_path: Path) -> None:
    plant(tmp_path, {"/usr/bin/vmtoolsd": "", "/usr/lib/grub/i386-pc/modinfo.sh": ""})
    assert system.packages(Host(str(tmp_path))) == ("grub-pc", "open-vm-tools")


def test_listening_ports(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st\n"
    lines = "   0: 00000000:0016 00000000:0000 0A 0\n   1: 0100007F:1538 0100007F:9999 01 0\n"
    plant(tmp_path, {"/proc/net/tcp": head + lines, "/proc/net/tcp6": head + f"   0: {'0' * 32}:0050 {'0' * 32}:0 0A"})
    assert system.listening(Host(str(tmp_path))) == (22, 80)

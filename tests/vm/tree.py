"""The root tree of a Debian release, from packages alone: small, because every byte of it will be copied by an emulated
processor. The kernel is Debian's, unchanged; only modules that no profile can use are left out, as are documents and
translations, by dpkg's own means (dpkg(1), path-exclude), so that dpkg and debsums know about it."""

from __future__ import annotations

import hashlib
import inspect
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.vm.places import NoMirror, VmError, cache, key, locked, mirror, run
from tests.vm.profiles import Profile

PACKAGES: Final = """
    linux-image-amd64 systemd-sysv udev dbus libpam-systemd initramfs-tools zstd openssh-server python3 usr-is-merged
    iproute2 ifupdown iputils-ping rsync postgresql nginx-light e2fsprogs kmod procps attr acl libcap2-bin logrotate
    debsums apt
"""
MODULES_LEFT_OUT: Final = """
    drivers/gpu drivers/media drivers/infiniband drivers/staging drivers/iio drivers/isdn drivers/bluetooth drivers/usb
    drivers/net/wireless drivers/net/can drivers/net/usb drivers/net/ethernet/[!i]* drivers/hwmon drivers/mtd
    drivers/comedi drivers/scsi/[!s]* drivers/target drivers/hid drivers/input drivers/accel drivers/platform
    drivers/video drivers/leds drivers/w1 drivers/nfc drivers/atm drivers/i2c drivers/edac drivers/mmc drivers/memstick
    drivers/mfd drivers/pcmcia drivers/firewire drivers/net/phy drivers/net/hamradio drivers/net/fddi drivers/net/wan
    net/bluetooth net/wireless net/mac80211 net/sctp net/tipc net/atm net/ax25 net/rds net/sunrpc net/batman-adv sound
    fs/ocfs2 fs/smb fs/nfs fs/f2fs fs/ceph fs/gfs2 fs/nfsd fs/afs fs/reiserfs fs/ubifs fs/orangefs
"""
# The last line is the just-in-time compiler of PostgreSQL, 130 MB, without which it does when the file is not there.
LEFT_OUT: Final = """
    /usr/share/doc/* /usr/share/man/* /usr/share/info/* /usr/share/locale/* /usr/share/lintian/* /usr/share/bug/*
    /usr/share/i18n/* /usr/share/perl/*/pod/* /usr/share/grub/themes/* /usr/lib/udev/hwdb.d/* /lib/udev/hwdb.d/*
    /usr/share/zoneinfo/[A-D]*/* /usr/share/zoneinfo/Eu*/* /usr/share/zoneinfo/[F-Z]*/* /usr/lib/*/gconv/*
    /usr/share/zoneinfo/posix/* /usr/share/zoneinfo/right/* /usr/share/bash-completion/* /usr/share/zsh/*
    /usr/lib/*/libLLVM* /usr/lib/*/libz3* /usr/lib/postgresql/*/lib/llvmjit* /usr/lib/postgresql/*/lib/bitcode/*
"""
FILES: Final = {
    "etc/default/grub": (
        'GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT=""\n'
        'GRUB_CMDLINE_LINUX="console=ttyS0,115200 mitigations=off"\nGRUB_TERMINAL=serial\n'
        'GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"\nGRUB_DISABLE_OS_PROBER=true\n'
    ),
    "etc/ssh/sshd_config.d/vm.conf": "UseDNS no\n",
    "etc/systemd/journald.conf.d/vm.conf": "[Journal]\nStorage=persistent\n",
    "etc/initramfs-tools/conf.d/vm": "MODULES=dep\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\nRESUME=none\n",
    "etc/apt/sources.list": "",
}
UNITS_MASKED: Final = """
    apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer
"""


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def recipe(profile: Profile, suite: str) -> str:
    """Changes when a tree made now would differ (but for what the mirror has got since)."""
    public = key().with_suffix(".pub").read_text()
    code = inspect.getsource(_make), inspect.getsource(_configure)
    lists = [text.split() for text in (PACKAGES, MODULES_LEFT_OUT, LEFT_OUT, UNITS_MASKED)]
    return digest(suite, profile.packages, lists, FILES, code, public)


def tree(profile: Profile, suite: str) -> Path:
    """The tree for this profile, made on first use."""
    done = cache() / f"tree-{suite}-{recipe(profile, suite)}"
    with locked(done.name):
        if not done.exists():
            with archive():
                _make(profile, suite, done)
    return done


@contextmanager
def archive() -> Iterator[None]:
    """What is done with packages in it. NoMirror: Debian's archive cannot be had."""
    try:
        yield
    except VmError as error:
        if line := unreachable(str(error)):
            raise NoMirror(f"the Debian archive cannot be had ({line})") from error
        raise


def unreachable(said: str) -> str:
    """The line in which apt says that it cannot get at the archive, or an empty string: then it is something else."""
    return next((line for line in said.splitlines() if line.startswith("E: Failed to fetch ")), "")


def _make(profile: Profile, suite: str, done: Path) -> None:
    part = done.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    left_out = [*LEFT_OUT.split(), *(f"/lib/modules/*/kernel/{name}/*" for name in MODULES_LEFT_OUT.split())]
    # trixie's packages name their files below /usr (merged /usr), bookworm's kernel does not
    left_out += [f"/usr{name}" for name in left_out if name.startswith("/lib/")]
    log = done.with_suffix(".log")
    print(f"making the tree of {suite} with {' '.join(profile.packages)} (log: {log})", file=sys.stderr, flush=True)
    with log.open("w") as out:
        try:
            run(
                "mmdebstrap", "--mode=root", "--format=directory", "--variant=apt", "--components=main",
                "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
                f"--include={','.join([*PACKAGES.split(), *profile.packages])}",
                *(f"--dpkgopt=path-exclude={name}" for name in left_out),
                '--aptopt=Apt::Install-Recommends "false"', suite, part, mirror(), stdout=out, stderr=out,
            )  # fmt: skip
        except VmError as error:
            raise VmError(f"{error}\n{log.read_text()[-2000:]}") from None
    _configure(part)
    part.rename(done)


def _configure(root: Path) -> None:
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    (root / "root/.ssh/authorized_keys").write_bytes(key().with_suffix(".pub").read_bytes())
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for cluster in root.glob("etc/postgresql/*/main"):
        (cluster / "conf.d/vm.conf").write_text("listen_addresses = '*'\n")
        with (cluster / "pg_hba.conf").open("a") as rules:  # 10.0.2.2: the host, to QEMU's user network
            rules.write("host all all 10.0.2.0/24 trust\n")
    run("chroot", root, "passwd", "-q", "-d", "root")  # for a look through the serial console
    run("chroot", root, "systemctl", "mask", "-q", *UNITS_MASKED.split())

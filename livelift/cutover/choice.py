"""What the fence of a whole server freezes, and what has to live: a pure decision over the list of units.

Everything that holds processes is frozen, by default: a service that is not known here is the workload. Kept is only
what the operator's way in, the way to the target, and the machine itself need to stay reachable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

SSH: Final = "the operator's way in"
NETWORK: Final = "the way to the target and to the operator"
LOGIN: Final = "nobody could log in without it"
MACHINE: Final = "the machine itself: devices, disks, the watchdog that would reset it"
CLOUD: Final = "the hypervisor or the cloud watches it, and may reset a machine on which it is silent"

KEEP: Final[dict[str, tuple[str, ...]]] = {
    SSH: ("ssh.service", "sshd.service", "ssh@*.service", "sshd@*.service", "dropbear.service", "ssh.socket",
          "sshd.socket", "sshd-unix-local@*.service", "sshd-vsock@*.service", "amazon-ssm-agent.service",
          "snap.amazon-ssm-agent.amazon-ssm-agent.service", "google-guest-agent.service",
          "getty@*.service", "serial-getty@*.service", "autovt@*.service", "console-getty.service"),
    NETWORK: ("networking.service", "ifup@*.service", "systemd-networkd.service", "systemd-resolved.service",
              "systemd-networkd.socket", "NetworkManager.service", "NetworkManager-dispatcher.service",
              "wpa_supplicant.service", "wpa_supplicant@*.service", "wicked.service", "wickedd*.service",
              "ModemManager.service",
              "dhcpcd.service", "dhclient*.service", "firewalld.service", "nftables.service", "teamd@*.service",
              "openvswitch-switch.service", "ovs-vswitchd.service", "ovsdb-server.service", "network.service"),
    LOGIN: ("dbus.service", "dbus-broker.service", "dbus.socket", "systemd-logind.service", "polkit.service",
            "systemd-journald*.service", "systemd-journald*.socket", "systemd-userdbd.service",
            "systemd-userdbd.socket", "user-runtime-dir@*.service", "systemd-user-sessions.service",
            "systemd-hostnamed.service", "oddjobd.service", "fprintd.service", "pcscd.service",
            "sssd*.service", "nscd.service", "unscd.service", "nslcd.service", "winbind.service", "auditd.service"),
    MACHINE: ("systemd-udevd.service", "systemd-udevd*.socket", "multipathd.service", "multipathd.socket",
              "iscsid.service", "iscsid.socket", "iscsiuio.service", "dm-event.service", "dm-event.socket",
              "lvm2-lvmetad.service", "lvm2-lvmpolld.service", "mdmonitor.service", "mdadm.service", "thermald.service",
              "acpid.service", "systemd-homed.service", "zfs-zed.service", "*.mount", "watchdog.service",
              "wd_keepalive.service", "sbd.service"),
    CLOUD: ("qemu-guest-agent.service", "open-vm-tools.service", "vmtoolsd.service", "walinuxagent.service",
            "waagent.service", "hypervkvpd.service", "hv-*-daemon.service", "hv_*_daemon.service"),
}  # fmt: skip
"""Why, and the names (as fnmatch(3)). A mount unit holds the daemon of a FUSE file system: whoever touches that would
hang; those who write to it stand still. The journal and the audit daemon are here because a login blocks on a full
queue of theirs; sssd and its like because the look-up of a user waits for them, of root's groups too. Not here, and so
frozen: cron and at (they start the workload's jobs), rsyslog (it writes; the journal drops what it does not take),
time synchronisation, mail, container runtimes, local name servers (the target's address is remembered)."""


LIVING: Final = (
    *("/var/log/btmp", "/var/log/wtmp", "/var/log/lastlog", "/var/log/faillog", "/var/log/tallylog"),
    *("/var/run/faillock/*", "/var/log/audit", "/var/log/audit/*", "/var/log/journal", "/var/log/journal/*"),
    *("/var/log/sssd/*", "/var/lib/sss/*", "/var/lib/dhcp/*", "/var/lib/NetworkManager/*", "/var/log/amazon/*"),
    *("/var/log/waagent.log", "/var/lib/waagent/*", "/var/cache/nscd/*", "/root/.bash_history"),
)
"""What the services that must live write (as fnmatch(3), * also matches slashes): a public machine's sshd notes a
failed login every second. Behind the fence these differ however often they are read again, and are no reason to refuse
a cut: they are named in its notes."""


def is_living(path: str) -> bool:
    """Whether this file is written by what lives behind the fence."""
    return any(fnmatchcase(path, pattern) for pattern in LIVING)


class Decision(NamedTuple):
    """``path``: the unit's cgroup. ``freeze``: or it is kept; ``reason`` says why."""

    path: str
    freeze: bool
    reason: str


def kept(unit: str) -> str:
    """Why this unit (by its name) has to live; empty for one that is frozen."""
    for reason, patterns in KEEP.items():
        if any(fnmatchcase(unit, pattern) for pattern in patterns):
            return reason
    return ""


def decide(
    paths: Iterable[str], own: Collection[str], ssh_sessions: Collection[str], keep: Collection[str] = ()
) -> list[Decision]:
    """One for each unit. ``paths``: cgroups of units, relative to the root of the tree (system.slice/nginx.service).
    ``own``: those in which Livelift itself runs, and the operator who asked. ``ssh_sessions``: session scopes that hold
    a running sshd. ``keep``: names or patterns of units that the operator wants to live, too."""
    return [Decision(path, *_decide(path, own, ssh_sessions, keep)) for path in paths]


def _decide(
    path: str, own: Collection[str], ssh_sessions: Collection[str], keep: Collection[str]
) -> tuple[bool, str]:
    unit = path.rpartition("/")[2]
    if path == "init.scope":
        return False, "systemd itself"
    if unit.startswith("livelift-") or any(f"{mine}/".startswith(f"{path}/") for mine in own):
        return False, "Livelift, or the operator who asked"
    if reason := kept(unit):
        return False, reason
    if any(fnmatchcase(unit, pattern) or unit == f"{pattern}.service" for pattern in keep):
        return False, "kept by the operator"
    if path == "user.slice/user-0.slice/user@0.service":
        return False, LOGIN
    if path.startswith("user.slice/"):
        if path in ssh_sessions and path.startswith("user.slice/user-0.slice/"):
            return False, "an ssh session of root"
        return True, "a user's session: what it writes or transfers"
    return True, "the workload"


def is_login(path: str) -> bool:
    """A login that comes while the fence is up is the operator's: what could start others (cron) stands still. With it
    comes the user's service manager, and logind lets nobody in before that has started."""
    unit = path.rpartition("/")[2]
    return path.startswith("user.slice/") and (unit.startswith("session-") or unit.startswith("user@"))

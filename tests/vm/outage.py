"""Where the time goes between the last answer of the old machine and the first of the new: from what the clients saw
and what the new machine's systemd remembers of its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.vm.answers import Gap
from tests.vm.machine import Machine

BY_HAND: Final = 57.0
"""Seconds from stopping the services to ssh, done by hand in such machines: rsync, chroot, exchange of directories."""


@dataclass(frozen=True)
class Outage:
    """Seconds. ``to_kernel``: fence, drain, verification, settling, hand-over, shutdown, firmware, boot loader.
    ``kernel``: with the initramfs, where the swap is. ``user_space``: until PostgreSQL is ready. ``clients``: until one
    of them had an answer."""

    whole: float
    to_kernel: float
    kernel: float
    user_space: float
    clients: float

    def text(self) -> str:
        return (
            f"outage {self.whole:.1f} s (by hand: {BY_HAND:.0f} s): until the kernel starts {self.to_kernel:.1f}, "
            f"kernel and swap {self.kernel:.1f}, user space {self.user_space:.1f}, clients {self.clients:.1f}"
        )


def outage(gap: Gap, target: Machine) -> Outage:
    """``gap``: of the commits. Asked of the target while it is in its first boot as the new system."""
    kernel, user_space = (_manager(target, name) for name in ("KernelTimestamp", "UserspaceTimestamp"))
    # It answers its first client some time before the unit is active.
    target.ssh("until systemctl is-active --quiet 'postgresql@*'; do sleep 0.2; done", timeout=120)
    show = "systemctl show --property=ActiveEnterTimestampMonotonic --value"
    since = float(target.said(f"{show} 'postgresql@*' | sort -n | tail -1"))
    ready = min(kernel + since / 1e6, gap.ends)
    return Outage(gap.seconds, kernel - gap.begins, user_space - kernel, ready - user_space, gap.ends - ready)


def _manager(target: Machine, name: str) -> float:
    """A time that systemd keeps (org.freedesktop.systemd1(5)), epoch."""
    words = "busctl get-property org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
    return int(target.said(f"{words} {name}").split()[1]) / 1e6

"""Two network namespaces joined by one virtual cable: the "two machines" of the demo.

Processes enter by ``nsenter --net``, not by ``ip netns exec``: the latter mounts a fresh sysfs over /sys (ip-netns(8)),
which hides /sys/fs/cgroup, and an agent that cannot see the cgroups cannot fence.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from livelift.demo.process import find_tool, run

NAMED = Path("/run/netns")
"""Where ip-netns(8) binds the namespaces."""


@dataclass(frozen=True)
class Host:
    """One of the two: its namespace, its address, and the words in front of a command that make it run there."""

    name: str
    address: str

    @property
    def enter(self) -> list[str]:
        return ["nsenter", f"--net={NAMED / self.name}", "--"] if self.name else []


LOCAL = Host("", "127.0.0.1")
"""Without root: this machine's own network."""


def make_hosts(undo: contextlib.ExitStack, key: int) -> tuple[Host, Host]:
    """Source and target host. ``key`` (the process id) keeps names apart from those of another demo."""
    ip = find_tool("ip", "iproute2")
    # TEST-NET-1 (RFC 5737): never in use on the machine, and nobody but the two sees it.
    hosts = (Host(f"livelift-{key}-source", "192.0.2.1"), Host(f"livelift-{key}-target", "192.0.2.2"))
    for host in hosts:
        run([ip, "netns", "add", host.name])
        undo.callback(run, [ip, "netns", "delete", host.name])
    ends = (f"ll{key}s", f"ll{key}t")  # at most 15 bytes (IFNAMSIZ)
    run([ip, "link", "add", ends[0], "netns", hosts[0].name, "type", "veth",
         "peer", "name", ends[1], "netns", hosts[1].name])  # fmt: skip
    for host, end in zip(hosts, ends, strict=True):
        run([ip, "-n", host.name, "address", "add", f"{host.address}/30", "dev", end])
        run([ip, "-n", host.name, "link", "set", end, "up"])
        run([ip, "-n", host.name, "link", "set", "lo", "up"])
    return hosts

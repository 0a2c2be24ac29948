"""Preflight rules for a whole server: do the two systems correspond, so that one can run on the other's kernel?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from livelift.checks.findings import Finding, Level
from livelift.model.facts import ServerFacts

AGENT_PORT = 4777
DAY = 86_400 * 10**9


def check_distribution(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    """The target's kernel and its initramfs serve the source's user space: both are of one release."""
    for side, facts in (("source", source), ("target", target)):
        if not facts.release.family:
            yield Finding(
                "distribution-unknown",
                Level.INHIBITOR,
                f"the {side} runs {facts.release.name or 'an unknown system'}, which the adaptation does not know",
                "known are Debian, Ubuntu, RHEL, Rocky, Alma, CentOS, Oracle and SUSE; use --map for the data alone",
            )
    one, other = source.release, target.release
    if one.family and other.family and (one.id, one.major) != (other.id, other.major):
        yield Finding(
            "distribution-differs",
            Level.INHIBITOR,
            f"the source runs {one.name or one.id}, the target {other.name or other.id}",
            f"install {one.id} {one.major} on the target",
        )
    elif one.version != other.version:
        yield Finding(
            "release-differs",
            Level.NOTE,
            f"the source is at {one.version}, the target at {other.version}: the target's kernel boots first",
        )
    if source.architecture != target.architecture:
        yield Finding(
            "architecture",
            Level.INHIBITOR,
            f"the source is {source.architecture or 'unknown'}, the target {target.architecture or 'unknown'}",
            "a system can only move to a machine of the same architecture",
        )
    if source.glibc and target.glibc and source.glibc != target.glibc:
        yield Finding(
            "glibc-differs",
            Level.WARNING,
            f"glibc is {source.glibc} on the source and {target.glibc} on the target",
            "bring both to the same patch level",
        )


def check_kernels(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    bootable = [k for k in target.kernels if k.image and k.initrd and k.modules]
    if not bootable:
        yield Finding(
            "target-kernel",
            Level.INHIBITOR,
            "the target has no kernel with image, initramfs and modules: nothing to boot the moved system with",
            "reinstall the target's kernel package",
        )
    elif target.running_kernel and target.running_kernel not in {k.version for k in bootable}:
        yield Finding(
            "target-kernel-pending",
            Level.WARNING,
            f"the target runs {target.running_kernel}, which is not among its installed kernels",
            "reboot the target, so that the kernel that is proven on this hardware is the one that will boot",
        )
    if older(target.running_kernel, source.running_kernel):
        yield Finding(
            "kernel-older",
            Level.WARNING,
            f"the target's kernel {target.running_kernel} is older than the source's {source.running_kernel}",
            "update the target's kernel: the source's programs may use what the older one lacks",
        )
    if "dkms" in source.packages:
        yield Finding(
            "dkms",
            Level.WARNING,
            "the source builds modules by DKMS; they are not there for the target's kernel",
            "install the target kernel's headers on the source: the modules are built when its kernel arrives",
        )


def check_environment(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    for side, facts in (("source", source), ("target", target)):
        if facts.unread:
            yield Finding(
                "facts-incomplete",
                Level.WARNING,
                f"on the {side} could not be read: {'; '.join(facts.unread[:5])}",
                "run livelift facts as root; what is missing here is not checked",
            )
    if source.machine_id and source.machine_id == target.machine_id:
        yield Finding(
            "same-machine-id",
            Level.WARNING,
            f"both machines have the machine-id {source.machine_id}: are these the facts of two machines?",
            "compare the facts files; clones have one machine-id",
        )
    if source.clock.now and target.clock.now and abs(source.clock.now - target.clock.now) > DAY:
        yield Finding(
            "clock-far",
            Level.WARNING,
            "the facts were taken more than a day apart, or a clock is wrong",
            "take both facts again; the agents compare the clocks to the millisecond when they pair",
        )
    if source.clock.rtc_local != target.clock.rtc_local:
        yield Finding(
            "clock-rtc", Level.NOTE, "one hardware clock is in local time, the other in UTC: the target's way is kept"
        )
    if source.memory and target.memory and target.memory * 2 < source.memory:
        yield Finding(
            "memory",
            Level.WARNING,
            f"the target has {target.memory >> 20} MiB of memory, the source {source.memory >> 20} MiB",
            "check the settings of the services that are sized by memory (shared_buffers, Java heaps, huge pages)",
        )
    if AGENT_PORT in target.listening:
        yield Finding(
            "port-taken",
            Level.WARNING,
            f"something listens on port {AGENT_PORT} of the target already",
            "is an agent running there? otherwise choose another port with --listen",
        )
    if source.listening and 22 not in source.listening:
        yield Finding(
            "no-sshd",
            Level.WARNING,
            "nothing listens on port 22 of the source, so after the move nothing will on the target",
            "make sure that you can reach the moved machine (console, another port)",
        )
    if source.security.selinux in ("enforcing", "permissive") and re.search(r"\bselinux=0\b", target.command_line):
        yield Finding(
            "selinux-off",
            Level.NOTE,
            "the source uses SELinux, the target's kernel was started without; the source's setting is taken",
        )


def older(one: str, other: str) -> bool:
    """Whether kernel version ``one`` is older than ``other`` in its first two numbers. False where one is unknown."""
    found = [re.match(r"(\d+)\.(\d+)", version) for version in (one, other)]
    if not (found[0] and found[1]):
        return False
    numbers = [(int(match[1]), int(match[2])) for match in found if match]
    return numbers[0] < numbers[1]

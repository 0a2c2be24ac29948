"""From the target's facts to what the take-over has to know, and what stands in its way: pure but for a few looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from livelift.adapt.linux.bootloader import after_boot
from livelift.adapt.linux.menus import boot_prefix, grub_modules
from livelift.checks.booting import why_grub_cannot_write
from livelift.checks.findings import Finding, Level
from livelift.facts.host import Host
from livelift.model.facts import FileSystem, Kernel, ServerFacts
from livelift.takeover import oneshot, switch
from livelift.takeover.records import Config, Confirm, Menu, Volume

SUPPORTED = ("ext2", "ext3", "ext4", "xfs", "btrfs")
AGENT = "/.livelift/livelift-agent"


class Options(NamedTuple):
    """``staged``: root in which the staged system is seen with all its file systems; empty: each one's part where it is
    staged. ``command_line``: of the kernel at the first start; empty: the target's own. The others as of
    `records.Config` and `records.Confirm`; ``failed`` and ``services`` are the source's. ``agent``: path of the agent
    file, the same in both systems."""

    staged: str = ""
    command_line: str = ""
    attempts: int = 2
    starts: int = 0
    tries: int = 2
    seconds: int = 600
    hardware: bool = True
    services: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    route: bool | None = None
    agent: str = AGENT


class Planned(NamedTuple):
    """``config`` is None if an inhibitor stands in the way."""

    config: Config | None
    shot: oneshot.Shot
    kernel: Kernel | None
    findings: tuple[Finding, ...]


def plan(host: Host, facts: ServerFacts, mounts: Sequence[str], options: Options, relabel: bool) -> Planned:
    """``mounts``: mount points of the file systems that take part. ``relabel``: the staged system will label its files
    and reboot at its first start, so that it is given two."""
    loader = facts.boot_loader
    kernel = next((k for k in facts.kernels if k.version == facts.running_kernel), None)
    menu = host.text(loader.config) if loader.config else ""
    holder = facts.holder(loader.config) if loader.config else None
    findings = [
        *_check_loader(facts, menu),
        *_check_kernel(facts, kernel),
        *_check_volumes(facts, mounts, holder),
    ]
    shot = oneshot.Shot(oneshot.SWITCH)
    if any(finding.level is Level.INHIBITOR for finding in findings) or kernel is None or holder is None:
        return Planned(None, shot, kernel, tuple(findings))
    shot = oneshot.choose(host, facts, menu)
    counting = "stage" if _why_not_counted(host, facts) else "grub"
    findings += [*_tell_shot(shot), *_tell_counting(host, facts), *_tell_hardware(host, options)]
    device = facts.device(holder.device)
    config = Config(
        volumes=tuple(_volume(facts, mountpoint) for mountpoint in sorted(mounts)),
        boot=holder.mountpoint,
        directory=_below(loader.config.rpartition("/")[0], holder.mountpoint),
        kernels=_below(kernel.image.rpartition("/")[0], holder.mountpoint),
        menu=Menu(
            prefix=boot_prefix(facts),
            uuid=device.uuid if device else "",
            modules=tuple(grub_modules(facts)),
            terminal=switch.terminal_lines(menu),
            command_line=switch.watched_line(options.command_line or facts.command_line),
        ),
        confirm=Confirm(
            services=options.services,
            failed=options.failed,
            addresses=options.addresses,
            route=options.route if options.route is not None else _has_route(facts),
        ),
        attempts=options.attempts,
        starts=options.starts or (2 if relabel else 1),
        tries=options.tries,
        counting=counting,
        seconds=options.seconds,
        hardware=options.hardware,
        esp=loader.esp,
        after_commit=after_boot(facts),
        disks=loader.stage1 if facts.release.family == "debian" and facts.firmware.kind == "bios" else (),
    )
    return Planned(config, shot, kernel, tuple(findings))


def _below(path: str, mountpoint: str) -> str:
    return path[len(mountpoint.rstrip("/")) :].strip("/")


def _has_route(facts: ServerFacts) -> bool:
    return any(route.destination == "default" for route in facts.routes)


def _volume(facts: ServerFacts, mountpoint: str) -> Volume:
    system = facts.mounted(mountpoint)
    assert system is not None, "checked by _check_volumes"
    device = facts.device(system.device)
    spec = f"UUID={device.uuid}" if device and device.uuid and device.kind != "lvm" else system.source
    data = [option for option in system.options if option.startswith(("subvol=", "subvolid="))]
    return Volume(mountpoint, spec, system.fstype, ",".join(data[:1]))


def _stop(id: str, diagnosis: str, remedy: str) -> Finding:
    return Finding(id, Level.INHIBITOR, diagnosis, remedy)


def _check_loader(facts: ServerFacts, menu: str) -> Iterator[Finding]:
    loader = facts.boot_loader
    if loader.kind != "grub2":
        yield _stop(
            "takeover-boot-loader",
            f"the take-over knows GRUB 2 only, the target has {loader.kind or 'none that is known'}",
            "install GRUB 2 on the target, or move by hand",
        )
    elif not menu:
        yield _stop(
            "takeover-menu", f"{loader.config} cannot be read", "run update-grub or grub2-mkconfig on the target"
        )
    elif not switch.sources_custom(menu):
        yield _stop(
            "takeover-menu",
            f"{loader.config} does not source {switch.CUSTOM}",
            "put 41_custom back into /etc/grub.d and run update-grub or grub2-mkconfig on the target",
        )
    elif facts.firmware.kind == "uefi" and loader.config.startswith(f"{loader.esp}/"):
        yield _stop(
            "takeover-menu-on-esp",
            f"the menu {loader.config} is on the ESP, which both systems share",
            "move the menu to /boot (RHEL 9 does: a small grub.cfg on the ESP that loads the other)",
        )


def _check_kernel(facts: ServerFacts, kernel: Kernel | None) -> Iterator[Finding]:
    if kernel is None or not kernel.image or not kernel.initrd:
        yield _stop(
            "takeover-kernel",
            f"the running kernel {facts.running_kernel} has no image or no initramfs in /boot",
            "reinstall its package, or boot the newest kernel once",
        )


def _check_volumes(facts: ServerFacts, mounts: Iterable[str], holder: FileSystem | None) -> Iterator[Finding]:
    wanted = sorted(mounts)
    if "/" not in wanted:
        yield _stop("takeover-root", "the root's file system does not take part", "leave it in")
    if holder is not None and holder.mountpoint not in wanted:
        yield _stop(
            "takeover-boot-left-out", f"{holder.mountpoint}, which GRUB reads, does not take part", "leave it in"
        )
    opened = {device.name for device in facts.root_stack()}
    for mountpoint in wanted:
        system = facts.mounted(mountpoint)
        if system is None:
            yield _stop("takeover-volume", f"nothing is mounted at {mountpoint}", "mount it, or leave it out")
            continue
        if system.fstype not in SUPPORTED:
            yield _stop(
                "takeover-file-system",
                f"{mountpoint} is {system.fstype}, on which names cannot be exchanged",
                f"leave it out; what takes part is {', '.join(SUPPORTED)}",
            )
        for device in facts.stack(system.device):
            if device.kind == "crypt" and device.name not in opened:
                yield _stop(
                    "takeover-crypt",
                    f"{mountpoint} lies on {device.name}, which is encrypted and which the initramfs does not open",
                    "leave it out, or have it opened together with the root (crypttab option initramfs)",
                )


def _why_not_counted(host: Host, facts: ServerFacts) -> str:
    why = why_grub_cannot_write(facts)
    if why:
        return why
    return f"{facts.boot_loader.environment} is a link" if host.link(facts.boot_loader.environment) else ""


def _tell_shot(shot: oneshot.Shot) -> Iterator[Finding]:
    if shot.way == oneshot.BOOTNEXT:
        yield Finding(
            "takeover-one-shot",
            Level.NOTE,
            f"GRUB cannot boot an entry just once: {shot.why}. The firmware does (BootNext)",
        )
    elif shot.way == oneshot.SWITCH:
        yield Finding(
            "takeover-one-shot",
            Level.WARNING,
            f"the machine cannot boot an entry just once: {shot.why}. Once armed, every boot leads to the stage until"
            " the stage has run",
            "a machine that hangs before the stage needs somebody at the boot menu",
        )


def _tell_counting(host: Host, facts: ServerFacts) -> Iterator[Finding]:
    if why := _why_not_counted(host, facts):
        yield Finding(
            "takeover-counting",
            Level.WARNING,
            f"GRUB cannot count boots: {why}. Until the commit the new system starts by way of the stage, which counts;"
            " its own initramfs is tried by the commit only",
            "look at the new system's initramfs before the commit",
        )


def _tell_hardware(host: Host, options: Options) -> Iterator[Finding]:
    if not options.hardware or not host.exists("/sys/class/watchdog/watchdog0"):
        yield Finding(
            "takeover-watchdog",
            Level.NOTE,
            "no hardware watchdog is used: a kernel that hangs as a whole needs a power cycle, which then leads back",
        )

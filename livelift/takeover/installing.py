"""Puts the take-over onto the old system and into the staged one, and takes it off again. Nothing leads to it yet."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence

from livelift.checks.findings import Finding, Level
from livelift.errors import CorruptError, LiveliftError, PreflightError, StateError
from livelift.facts.host import Host
from livelift.model.facts import ServerFacts
from livelift.platform.linux import files
from livelift.takeover import closure, drivers, fit, image, oneshot, reserve
from livelift.takeover.confirm import SYSTEMD
from livelift.takeover.places import System
from livelift.takeover.plan_config import Options, Planned, plan
from livelift.takeover.records import ARMED, CONFIG, INSTALLED, RETURNED, Config, Records, State
from livelift.takeover.site import Site

HEADROOM = 32 << 20
"""Bytes that stay free in the boot file system."""


def install(site: Site, facts: ServerFacts, mounts: Sequence[str], options: Options, dry_run: bool) -> list[Finding]:
    """Image, boot switch and unit, in the live and the staged system.

    ``facts``: of this machine, of now. With an inhibitor among the findings, or ``dry_run``, nothing is changed.
    StateError: the new system stands. OSError, PreflightError, CorruptError: a disk is full, the private Python does
    not run, the target's initramfs is damaged; what was put may stay, and a second call goes on."""
    if (system := site.system()) != "old":
        raise StateError(f"the {system} system stands", remedy="commit it, or go back first")
    host = Host(site.root)
    try:
        findings = [*_check_staged(site, mounts, options)]
        planned = plan(host, facts, mounts, options, not findings and _relabels(site, options))
        findings += planned.findings
        if planned.config is None or dry_run or any(f.level is Level.INHIBITOR for f in findings):
            return findings
        return [*findings, *_put(site, host, facts, planned, options)]
    finally:
        host.close()


def _check_staged(site: Site, mounts: Sequence[str], options: Options) -> Iterator[Finding]:
    missing = [path for m in mounts if not os.path.isdir(path := site.staged(m, options.staged))]
    for path in missing:
        yield Finding(
            "takeover-staged",
            Level.INHIBITOR,
            f"nothing is staged: {path} is missing",
            "replicate first, or leave this file system out",
        )
    if missing:
        return
    with System(site.staged("/", options.staged)) as staged:
        if not any(staged.has(path) for path in SYSTEMD):
            yield Finding(
                "takeover-init",
                Level.INHIBITOR,
                "the staged system is not started by systemd, so it could not tell that it has come up",
                "upgrade the source to a release with systemd first",
            )
    with System(site.root) as live:
        if not live.has(options.agent):
            yield Finding(
                "takeover-agent",
                Level.INHIBITOR,
                f"the agent file {options.agent} is missing, which confirms from within the new system",
                f"make agent, and copy dist/livelift-agent to {options.agent}",
            )


def _relabels(site: Site, options: Options) -> bool:
    """SELinux: the first start writes labels and reboots."""
    with System(site.staged("/", options.staged)) as staged:
        return staged.has(".autorelabel")


def _check_exchange(site: Site, config: Config) -> Iterator[Finding]:
    """Where room is held. RENAME_EXCHANGE (Linux 3.15; btrfs 4.7): without it a name is nowhere for a moment."""
    for volume in config.volumes:
        work = tempfile.mkdtemp(prefix="exchange-", dir=os.path.join(site.top(volume.mountpoint), reserve.PLACE))
        fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in ("one", "two"):
                os.mkdir(name, dir_fd=fd)
            files.renameat2(fd, b"one", fd, b"two", files.RENAME_EXCHANGE)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            yield Finding(
                "takeover-exchange",
                Level.WARNING,
                f"names cannot be exchanged on {volume.mountpoint} with this kernel: each is renamed three times"
                + (
                    ", and a power cut just then leaves GRUB without its menu"
                    if volume.mountpoint == config.boot
                    else ""
                ),
                "boot a newer kernel of the target's distribution",
            )
        finally:
            os.close(fd)
            shutil.rmtree(work)


def _put(site: Site, host: Host, facts: ServerFacts, planned: Planned, options: Options) -> list[Finding]:
    config, kernel = planned.config, planned.kernel
    if config is None or kernel is None:
        raise StateError("there is no plan", remedy="see the findings")
    python = closure.python_files()
    wanted = drivers.wanted(host, facts, [volume.mountpoint for volume in config.volumes])
    modules = drivers.module_files(host, facts.running_kernel, wanted)
    built = image.build(host.bytes(kernel.initrd, 1 << 31), [*python, *modules])
    program = host.bytes(kernel.image, 1 << 28)
    if not program:
        raise StateError(f"{kernel.image} cannot be read", remedy="reinstall the kernel package")
    live, staged = site.top(config.boot), site.staged(config.boot, options.staged)
    _check_room(live, staged, config, len(built) + len(program))
    fresh = not _is_written_down(site)
    try:
        os.makedirs(site.own(), mode=0o700, exist_ok=True)
        _check_python(site, python)
        _write_config(site, config)
        reserve.hold(site.tops(config))
        findings = list(_check_exchange(site, config))
        for top in (live, staged):
            fit.put_images(top, config, built, program)
        fit.fit_staged(staged, config, live)
        fit.put_unit(site.staged("/", options.staged), options.agent)
        _write_state(site, planned.shot)
        fit.fit_live(live, config)
        if planned.shot.way == oneshot.BOOTNEXT:
            with System(site.top(facts.boot_loader.esp)) as esp:
                esp.write(f"{oneshot.ESP_DIRECTORY}/{oneshot.ESP_IMAGE}", built)
                esp.write(f"{oneshot.ESP_DIRECTORY}/{oneshot.ESP_KERNEL}", program)
        site.sync(config)
        return findings
    except BaseException as error:
        if fresh:
            _take_back(site, options.staged, error)
        raise


def _take_back(site: Site, view: str, error: BaseException) -> None:
    """After a first install that failed. What cannot be taken off is left to `uninstall`, which knows it."""
    try:
        _take_off(site, view)
    except (OSError, LiveliftError) as more:
        error.add_note(f"and what was put could not be taken off: {more}")


def _check_room(live: str, staged: str, config: Config, size: int) -> None:
    """Before anything is written. The staged copy lies on the same file system; each is written beside an old one."""
    missing = [top for top in (live, staged) if not fit.has_images(top, config)]
    found = os.statvfs(live)
    wanted = size * len(missing) + size + HEADROOM
    if missing and found.f_bavail * found.f_frsize < wanted:
        raise PreflightError(
            f"{config.boot} has {found.f_bavail * found.f_frsize >> 20} MiB free, the take-over's images need"
            f" {wanted >> 20}",
            remedy="remove old kernels on the target",
        )


def _check_python(site: Site, python: list[closure.File]) -> None:
    work = tempfile.mkdtemp(prefix="check-", dir=site.own())
    try:
        image.check(python, work)
    finally:
        shutil.rmtree(work)


def _write_config(site: Site, config: Config) -> None:
    """Before anything is put anywhere, so that whatever ends this call `uninstall` knows where to look."""
    records = Records(site.root)
    try:
        for mountpoint in _mountpoints(records) - {volume.mountpoint for volume in config.volumes}:
            _remove_journals(site.top(mountpoint))  # it does not take part any more
        records.write_config(config)
    finally:
        records.close()


def _mountpoints(records: Records) -> set[str]:
    """Of an earlier install; one that cannot be read is written anew."""
    try:
        config = records.config()
    except CorruptError:
        return set()
    return {volume.mountpoint for volume in config.volumes} if config else set()


def _write_state(site: Site, shot: oneshot.Shot) -> None:
    """An armed take-over stays armed; the reason why an earlier one came back stays to be read."""
    records = Records(site.root)
    try:
        state = records.state() or State()
        phase = state.phase if state.phase in (ARMED, RETURNED) else INSTALLED
        records.write_state(
            state._replace(phase=phase, at=time.time_ns(), shot=shot.way, disk=shot.disk, part=shot.part)
        )
    finally:
        records.close()


def uninstall(site: Site) -> None:
    """Nothing of it is left but the staged tree itself. StateError: the old system does not stand, or it is armed."""
    if (system := site.system()) != "old":
        raise StateError(f"the {system} system stands", remedy="commit it, or go back first")
    _take_off(site)


def _take_off(site: Site, view: str = "") -> None:
    """``view``: as of `Options.staged`."""
    if not _is_written_down(site):
        shutil.rmtree(site.own(), ignore_errors=True)  # an earlier call came as far as that, or nothing was installed
        return
    with site.opened() as (_, config, state):
        if state.phase == ARMED:
            raise StateError("the take-over is armed", remedy="livelift takeover disarm")
        fit.unfit_live(site.top(config.boot), config)
        fit.remove_images(site.top(config.boot), config)
        if state.shot == oneshot.BOOTNEXT:
            remove_from_esp(site, config)
        if os.path.isdir(site.staged(config.boot, view)):
            fit.unfit(site.staged(config.boot, view), config)
        if os.path.isdir(site.staged("/", view)):
            fit.remove_unit(site.staged("/", view))
        clear(site, config)


def _is_written_down(site: Site) -> bool:
    return os.path.exists(os.path.join(site.own(), CONFIG))


def remove_from_esp(site: Site, config: Config) -> None:
    oneshot.disarm_bootnext(site.run)
    shutil.rmtree(os.path.join(site.top(config.esp), oneshot.ESP_DIRECTORY), ignore_errors=True)


def clear(site: Site, config: Config) -> None:
    """What is written down: last of all, so that everything before can be repeated."""
    for top in site.tops(config):
        _remove_journals(top)
    site.sync(config)
    os.unlink(os.path.join(site.own(), CONFIG))
    shutil.rmtree(site.own())


def _remove_journals(top: str) -> None:
    """And the room that is kept beside them."""
    shutil.rmtree(os.path.join(top, ".livelift", "swap"), ignore_errors=True)

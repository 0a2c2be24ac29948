"""In the new system: it confirms, or goes back, or is made final."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

from livelift.checks.findings import Finding, Level
from livelift.errors import ProgramError, StateError
from livelift.facts.collect import collect
from livelift.facts.host import Host
from livelift.takeover import confirm, fit, installing, oneshot, reserve, switch, watchdog
from livelift.takeover.boot_files import BootDirectory
from livelift.takeover.freeing import delete_tree
from livelift.takeover.probe import check_boot
from livelift.takeover.records import BACK, COMMITTING, CONFIRMED, FAILING, TRYING, Config, Records
from livelift.takeover.site import Opened, Site
from livelift.takeover.swap import place_for
from livelift.takeover.swap_journal import write_durably

LASTING: Final = ("probe-initramfs", "probe-modules")
"""Findings of `check_boot` that no program of a commit mends."""


def confirm_now(site: Site, host: Host) -> list[str]:
    """Look once. What is missing, one line each: then nothing is confirmed. Empty: it is, or this boot of a confirmed
    system is acknowledged. StateError: the new system does not stand, or is on its way back."""
    with _standing_new(site) as opened:
        records, config, state = opened
        if state.phase == COMMITTING:
            return []
        if state.phase not in (TRYING, CONFIRMED):
            raise StateError(f"the take-over is {state.phase}", remedy="reboot")
        missing = (
            confirm.look(host, config.confirm)
            if state.phase == TRYING
            else confirm.look_at_network(host, config.confirm)
        )
        if missing:
            write_durably(records.fd, FAILING, "\n".join(missing).encode("utf-8", "backslashreplace"))
            return missing
        if state.phase == TRYING or state.starts:
            records.write_state(state._replace(phase=CONFIRMED, starts=0, reason="", at=time.time_ns()))
        _become_default(site, host, records, config)
        watchdog.ask("confirmed")
        _remove(os.path.join(records.path, FAILING))
        return []


def _become_default(site: Site, host: Host, records: Records, config: Config) -> None:
    """The new system's own menu, counted by GRUB; where that cannot be, every boot leads over the stage."""
    with BootDirectory(site.top(config.boot), config.directory) as directory:
        directory.drop(switch.TRIES)
        if directory.mode() == switch.COUNTED:
            return
        if config.counting == "stage":
            why = "GRUB cannot count"
        elif not directory.has(switch.ADAPTED):
            why = "there is no menu that was adapted"
        else:
            why = "; ".join(finding.diagnosis for finding in wrong_menu(host))
        if why:
            records.log(f"the new system starts by way of the stage until the commit: {why}")
            if config.counting != "stage":
                records.write_config(config._replace(counting="stage"))
            return
        directory.put_adapted_menu(counted=True)
        directory.set_mode(switch.COUNTED, config)
    site.sync(config)


def wrong_menu(host: Host) -> list[Finding]:
    """Why the menu of the system that runs, or the adapted one that waits, would not start it."""
    return [finding for finding in check_boot(host, collect(host)) if finding.level is Level.INHIBITOR]


def back(site: Site) -> None:
    """The next boot leads back to the old system; the caller reboots. StateError: the new system does not stand, or was
    committed."""
    with _standing_new(site) as (records, config, state):
        if state.phase == COMMITTING:
            raise StateError("the new system has been committed", remedy="the old system is gone")
        reserve.release(site.tops(config))
        records.write_state(state._replace(phase=BACK, reason="asked for", at=time.time_ns()))
        with BootDirectory(site.top(config.boot), config.directory) as directory:
            directory.set_mode(switch.STAGE, config)
        site.sync(config)


def commit(
    site: Site, host: Host, free: bool, ignored: Collection[str] = (), begins: Callable[[], None] = lambda: None
) -> list[Finding]:
    """The new system is final. ``free``: the old tree is deleted. ``ignored``: ids of findings of `check_boot`,
    which are among the answer's then. ``begins``: called before the first thing that cannot be gone back from.

    A program that fails is a finding. StateError: it has not confirmed, or its initramfs would not start it: nothing
    has been done. Or its menu would not: until it would every boot still leads to it by way of the stage. Call it
    again."""
    with site.opened() as (records, config, state):
        system = site.system()
        if state.phase != COMMITTING and (system, state.phase) != ("new", CONFIRMED):
            raise StateError(
                f"the {system} system stands, the take-over is {state.phase}", remedy="see livelift takeover status"
            )
        if state.phase == CONFIRMED:
            _refuse([finding for finding in wrong_menu(host) if finding.id in LASTING], ignored)
        begins()
        findings = list(_tell_own_boot())
        top = site.top(config.boot)
        records.write_state(state._replace(phase=COMMITTING, at=time.time_ns()))
        fit.show_menu(top, config)
        findings += _renew(site, config)
        if not fit.has_menu(top, config):
            raise StateError("the new system has no boot menu of its own", remedy="run update-grub, then commit again")
        findings += _refuse(wrong_menu(host), ignored)
        fit.unfit(top, config)
        fit.remove_unit(site.root)
        if state.shot == oneshot.BOOTNEXT:
            installing.remove_from_esp(site, config)
        fit.unfit(place_for(top), config)
        if free:
            for volume in config.volumes:
                delete_tree(place_for(site.top(volume.mountpoint)))
        installing.clear(site, config)
        return findings


def _refuse(wrong: Collection[Finding], ignored: Collection[str]) -> list[Finding]:
    """What is left of them: the ignored ones. StateError: there are others."""
    if found := [finding for finding in wrong if finding.id not in ignored]:
        raise StateError(
            "the new system's own menu would not start it: "
            + "; ".join(f"{finding.diagnosis} [{finding.id}]" for finding in found),
            remedy="mend that, then commit again (or --ignore ID)",
        )
    return list(wrong)


def _tell_own_boot() -> Iterator[Finding]:
    with open("/proc/cmdline", encoding="utf-8", errors="replace") as file:
        by_stage = oneshot.is_of_stage(file.read())
    if by_stage:
        yield Finding(
            "takeover-own-boot",
            Level.WARNING,
            "the new system has not been started by its own initramfs yet, or not this time",
            "reboot soon, while somebody can look at the console",
        )


def _renew(site: Site, config: Config) -> list[Finding]:
    """grub-install and its like, by the new system's own tools. The target's loader and the adapted menu fit together,
    so a failure leaves a machine that boots."""
    findings = []
    commands = list(config.after_commit)
    if config.disks:
        answer = f"grub-pc grub-pc/install_devices multiselect {', '.join(config.disks)}\n"
        path = os.path.join(site.own(), "debconf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(answer)
        commands.insert(0, ("debconf-set-selections", path))
    for words in commands:
        try:
            site.run(words)
        except ProgramError as error:
            findings.append(
                Finding("takeover-renew", Level.WARNING, str(error.args[0]), f"run it by hand: {' '.join(words)}")
            )
    return findings


@contextmanager
def _standing_new(site: Site) -> Iterator[Opened]:
    """`Site.opened`, if the new system stands."""
    if (system := site.system()) != "new":
        raise StateError(f"the {system} system stands", remedy="see livelift takeover status")
    with site.opened() as opened:
        yield opened


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return

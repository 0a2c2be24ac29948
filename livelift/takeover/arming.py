"""Sets the one boot that takes over, and takes it back. In the old system."""

from __future__ import annotations

import os
import time

from livelift.errors import StateError
from livelift.platform.linux.host import boot_id
from livelift.takeover import fit, oneshot, reserve, switch
from livelift.takeover.boot_files import BootDirectory
from livelift.takeover.records import ARMED, INSTALLED, INTERRUPTED, RETURNED, Config, State
from livelift.takeover.site import Site


def arm(site: Site) -> None:
    """The next boot takes over, whoever starts it. First it is written down, then the boot loader is told.

    StateError: not installed, not staged, or the old system does not stand. PreflightError: `reserve.hold`."""
    if (system := site.system()) != "old":
        raise StateError(f"the {system} system stands", remedy="commit it, or go back first")
    with site.opened() as (records, config, state):
        _check(site, config, state)
        reserve.hold(site.tops(config))
        armed = State(ARMED, at=time.time_ns(), boot=boot_id(), shot=state.shot, disk=state.disk, part=state.part)
        records.write_state(armed)
        shot = oneshot.Shot(armed.shot, disk=armed.disk, part=armed.part)
        if shot.way == oneshot.BOOTNEXT:
            oneshot.arm_bootnext(shot, config.menu.command_line, site.run)
        else:
            with BootDirectory(site.top(config.boot), config.directory) as directory:
                if shot.way == oneshot.GRUBENV:
                    directory.change_environment(lambda variables: variables.update(next_entry=switch.ENTRY))
                else:
                    directory.set_mode(switch.STAGE, config)
        site.sync(config)


def check(site: Site) -> None:
    """Whether `arm` would do, without doing it. StateError: why not."""
    if (system := site.system()) != "old":
        raise StateError(f"the {system} system stands", remedy="commit it, or go back first")
    with site.opened() as (_, config, state):
        _check(site, config, state)


def _check(site: Site, config: Config, state: State) -> None:
    """What the stage will need."""
    if not state.shot:
        raise StateError("the take-over is installed in part", remedy="livelift takeover install, again")
    for volume in config.volumes:
        staged = site.staged(volume.mountpoint)
        if not os.path.isdir(staged):
            raise StateError(f"{staged} is missing", remedy="stage the new system first")
    if not fit.has_images(site.top(config.boot), config):
        raise StateError("the image of the take-over is missing in /boot", remedy="livelift takeover install")
    if not fit.is_fitted(site.staged(config.boot), config):
        raise StateError(
            "the staged boot directory would not lead back", remedy="livelift takeover install, once all is staged"
        )


def disarm(site: Site) -> None:
    """Nothing leads to the stage any more; nothing happens if it was not armed. First the boot loader is told."""
    if (system := site.system()) != "old":
        raise StateError(f"the {system} system stands", remedy="livelift takeover back, and reboot")
    with site.opened() as (records, config, state):
        with BootDirectory(site.top(config.boot), config.directory) as directory:
            if directory.environment().get("next_entry") == switch.ENTRY:
                directory.drop("next_entry")
            directory.set_mode(switch.IDLE, config)
        if state.shot == oneshot.BOOTNEXT:
            oneshot.disarm_bootnext(site.run)
        site.sync(config)
        if state.phase not in (INSTALLED, RETURNED):  # after an interrupted stage it is trying or back
            phase, reason = (INSTALLED, "") if state.phase == ARMED else (RETURNED, state.reason or INTERRUPTED)
            records.write_state(state._replace(phase=phase, reason=reason, at=time.time_ns()))

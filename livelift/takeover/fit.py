"""Puts the boot switch and the stage into a boot directory, and takes them out: the old system's, the staged one's."""

from __future__ import annotations

import os
import stat

from livelift.takeover import switch
from livelift.takeover.boot_files import BootDirectory
from livelift.takeover.confirm import LINK_PATH, UNIT_PATH, unit_text
from livelift.takeover.places import System
from livelift.takeover.records import Config
from livelift.takeover.swap_journal import read_whole, write_durably

FILES = (switch.IMAGE, switch.KERNEL)


def put_images(top: str, config: Config, image: bytes, kernel: bytes) -> None:
    """``top``: the live or staged place of the file system that GRUB reads."""
    with System(top) as system:
        for name, raw in ((switch.IMAGE, image), (switch.KERNEL, kernel)):
            system.write(_kernel_path(config, name), raw)


def has_images(top: str, config: Config) -> bool:
    with System(top) as system:
        return all(system.has(_kernel_path(config, name)) for name in FILES)


def remove_images(top: str, config: Config) -> None:
    with System(top) as system:
        for name in FILES:
            system.remove(_kernel_path(config, name))


def _kernel_path(config: Config, name: str) -> str:
    return f"{config.kernels}/{name}".lstrip("/")


def fit_live(top: str, config: Config) -> None:
    """The old system: two entries more, which nothing leads to."""
    with BootDirectory(top, config.directory) as directory:
        directory.set_mode(switch.IDLE, config)
        directory.write(switch.CUSTOM, switch.with_block(directory.text(switch.CUSTOM)))


def unfit_live(top: str, config: Config) -> None:
    with BootDirectory(top, config.directory) as directory:
        if directory.environment().get("next_entry") == switch.ENTRY:
            directory.drop("next_entry")
        _remove_switch(directory)


def fit_staged(top: str, config: Config, live: str) -> None:
    """The new system: a menu that leads to the stage and nowhere else. ``live``: the old system's place, whose modules
    of GRUB are those that its first stage on the disk was built with."""
    with System(top) as system:
        os.close(system.directory(config.directory, make=True))
    with BootDirectory(top, config.directory) as directory, BootDirectory(live, config.directory) as theirs:
        for name in platforms(theirs.fd):
            copy_modules(theirs.fd, directory.fd, name)
        directory.set_mode(switch.STAGE, config)
        directory.write(switch.CUSTOM, switch.with_block(directory.text(switch.CUSTOM)))
        directory.put_own_menu(config)
        directory.drop("next_entry", switch.TRIES)


def show_menu(top: str, config: Config) -> None:
    """The adapted menu takes the place of ours, if there is one; the mode stays what it is."""
    with BootDirectory(top, config.directory) as directory:
        if switch.is_own_menu(directory.text(switch.MENU)) and directory.has(switch.ADAPTED):
            directory.put_adapted_menu(counted=True)


def has_menu(top: str, config: Config) -> bool:
    """One that is not ours."""
    with BootDirectory(top, config.directory) as directory:
        text = directory.text(switch.MENU)
        return bool(text) and not switch.is_own_menu(text)


def is_fitted(top: str, config: Config) -> bool:
    """The staged system finds the way back."""
    try:
        with BootDirectory(top, config.directory) as directory:
            own = switch.is_own_menu(directory.text(switch.MENU))
            return own and directory.mode() == switch.STAGE and has_images(top, config)
    except (FileNotFoundError, NotADirectoryError):
        return False


def unfit(top: str, config: Config) -> None:
    """The new system, staged or final: its adapted menu and nothing of ours."""
    try:
        with BootDirectory(top, config.directory) as directory:
            text = directory.text(switch.MENU)
            plain = switch.without_block(text)
            waits = directory.has(switch.ADAPTED)
            adapted = directory.text(switch.ADAPTED)
            if waits and (switch.is_own_menu(text) or text == switch.adapted_menu(adapted) or plain == adapted):
                directory.put_adapted_menu(counted=False)
            elif switch.is_own_menu(text):
                directory.remove(switch.MENU)
            elif plain != text:
                directory.write(switch.MENU, plain)
            directory.remove(switch.ADAPTED)
            directory.drop(switch.TRIES)
            _remove_switch(directory)
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.isdir(top):
            return
    remove_images(top, config)


def _remove_switch(directory: BootDirectory) -> None:
    text = switch.without_block(directory.text(switch.CUSTOM))
    if text.strip():
        directory.write(switch.CUSTOM, text)
    else:
        directory.remove(switch.CUSTOM)
    directory.remove(switch.MODE)


def put_unit(root: str, agent: str) -> None:
    with System(root) as system:
        system.write(UNIT_PATH, unit_text(agent).encode(), 0o644)
        system.link(LINK_PATH, f"../{os.path.basename(UNIT_PATH)}")


def remove_unit(root: str) -> None:
    with System(root) as system:
        system.remove(LINK_PATH)
        system.remove(UNIT_PATH)


# GRUB's modules


def platforms(fd: int) -> list[str]:
    """Directories of modules (i386-pc, x86_64-efi, ...): normal.mod is what GRUB's first stage looks for."""
    found = []
    for name in sorted(os.listdir(fd)):
        try:
            if stat.S_ISREG(os.stat(f"{name}/normal.mod", dir_fd=fd, follow_symlinks=False).st_mode):
                found.append(name)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found


def copy_modules(from_fd: int, to_fd: int, name: str) -> bool:
    """Whether anything had to be copied. Files that only the other build has do no harm, and stay."""
    try:
        os.mkdir(name, 0o755, dir_fd=to_fd)
    except FileExistsError:
        pass
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    theirs = os.open(name, flags, dir_fd=from_fd)
    try:
        ours = os.open(name, flags, dir_fd=to_fd)
        try:
            changed = False
            for file in sorted(os.listdir(theirs)):
                if not stat.S_ISREG(os.stat(file, dir_fd=theirs, follow_symlinks=False).st_mode):
                    continue
                raw = read_whole(theirs, file)
                if raw is not None and read_whole(ours, file) != raw:
                    write_durably(ours, file, raw, 0o644)
                    changed = True
            return changed
        finally:
            os.close(ours)
    finally:
        os.close(theirs)

"""Runs a program of the staged system in its root: own mount namespace, /proc, /sys, /dev and /run of this machine.

The staged root becomes a mount point of its own, which grub-probe and mkinitramfs expect of "/". All mounts end with
the program. What it prints is kept for the report.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import livelift
from livelift.errors import CommandError
from livelift.platform.linux import namespaces
from livelift.platform.linux.confine import open_in_root

SECONDS: Final = 1800
"""Of one program: an initramfs of a big kernel on a slow machine takes minutes."""
BOUND: Final = (b"proc", b"sys", b"dev")
MEMORY: Final = (b"run", b"tmp")
ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "LVM_SUPPRESS_FD_WARNINGS": "1",  # lvm(8) complains of descriptors that it has inherited
}


def run_inside(
    root_fd: int, arguments: tuple[str, ...], seconds: float = SECONDS, inherited: tuple[int, ...] = ()
) -> str:
    """Output of the program (both streams). ``inherited``: descriptors that it, and what it starts, keep open.
    CommandError: it failed, is missing, or took too long. Needs root."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(livelift.__file__)))
    starter = [sys.executable, "-P", "-c", "from livelift.platform.linux.inside import main; main()"]
    shown = " ".join(arguments)
    try:
        done = subprocess.run(
            [*starter, str(root_fd), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(root_fd, *inherited),
            env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([home, *sys.path])},
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{shown} took longer than {seconds:.0f} s", remedy="run it by hand and look") from error
    text = done.stdout.decode("utf-8", "backslashreplace")
    if done.returncode:
        last = " / ".join(text.strip().splitlines()[-5:])
        raise CommandError(f"{shown} ended with {done.returncode}: {last}", remedy="run it by hand in the staged root")
    return text


def main() -> None:
    """In the child: enter the root and become the program. Exit code 127: it is missing or cannot be started."""
    root_fd, arguments = int(sys.argv[1]), sys.argv[2:]
    try:
        enter(root_fd)
        os.set_inheritable(root_fd, False)
        os.execvpe(arguments[0], arguments, ENVIRONMENT)
    except OSError as error:
        # A missing program and a missing loader (ELF interpreter) are both ENOENT.
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(127)


def enter(root_fd: int) -> None:
    """This process gets the staged root as its "/". Names in it are never followed out of it."""
    # A descriptor from outside belongs to the other namespace's mounts: by its path, and checked to be the same. The
    # path is asked for before, for afterwards it is not told from this process's root if that is a chroot.
    top = os.readlink(b"/proc/self/fd/%d" % root_fd)
    namespaces.own_mounts()
    namespaces.bind(top, top)
    inside = os.open(top, os.O_PATH | os.O_DIRECTORY)
    if (os.fstat(inside).st_dev, os.fstat(inside).st_ino) != (os.fstat(root_fd).st_dev, os.fstat(root_fd).st_ino):
        raise OSError(f"{os.fsdecode(top)} was exchanged meanwhile")
    for name in (*BOUND, *MEMORY):
        target = b"/proc/self/fd/%d" % open_in_root(inside, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        if name in BOUND:
            namespaces.bind(b"/" + name, target)
        else:
            namespaces.mount(b"none", target, b"tmpfs")
    os.fchdir(inside)
    os.chroot(b".")
    os.chdir(b"/")

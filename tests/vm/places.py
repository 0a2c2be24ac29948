"""Where things lie: the cache of images, the directory of what runs, the Debian mirror."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class VmError(Exception):
    """A machine, or the making of one, went wrong. The text holds what there is to see, with the end of its log."""


class NoMirror(VmError):
    """The Debian archive cannot be had from here. A test skips then: that says nothing about what it tests."""


def cache() -> Path:
    """LIVELIFT_VM_CACHE, or a directory for this user. Images, trees and the key that opens every machine; shared by
    all who work on this host (`image.build` locks)."""
    named = os.environ.get("LIVELIFT_VM_CACHE")
    if named:
        return Path(named).absolute()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "livelift-vm"
    return Path("/var/cache/livelift-vm") if os.geteuid() == 0 else Path.home() / ".cache/livelift-vm"


def home() -> Path:
    """LIVELIFT_VM_HOME, or one in the temporary folder: the machines that run, each in a directory. One set of
    machines (a source and a target) to a home; whoever wants a second set names a second home. Short, because there
    are sockets in it (unix(7): 107 bytes)."""
    named = os.environ.get("LIVELIFT_VM_HOME")
    return Path(named).absolute() if named else Path(tempfile.gettempdir()) / f"livelift-vm-{os.geteuid()}"


def mirror() -> str:
    """LIVELIFT_VM_MIRROR, or the first plain Debian archive of apt's sources (deb822 or one-line)."""
    if os.environ.get("LIVELIFT_VM_MIRROR"):
        return os.environ["LIVELIFT_VM_MIRROR"]
    for path in [*sorted(Path("/etc/apt").glob("sources.list*/*")), Path("/etc/apt/sources.list")]:
        for line in path.read_text().splitlines() if path.is_file() else []:
            hit = re.match(r"(?:URIs:|deb(?: \[[^]]*\])?)\s+(\S+/debian)/?(?:\s|$)", line)
            if hit:
                return hit[1]
    raise VmError("apt has no Debian mirror here: name one in LIVELIFT_VM_MIRROR")


def key() -> Path:
    """The private key that opens every machine; the images hold its public half (``.pub`` beside it)."""
    path = cache() / "id_ed25519"
    with locked(path.name):  # images are made side by side
        if not path.with_suffix(".pub").exists():
            path.unlink(missing_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "livelift-vm", "-f", path)
    return path


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One maker at a time; the others wait and find it made."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "mmdebstrap": "mmdebstrap", "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "ssh": "openssh-client", "dpkg-deb": "dpkg",
}  # fmt: skip


def missing() -> str:
    """Why no machine can be made here, or an empty string."""
    lacking = sorted({package for program, package in PROGRAMS.items() if not shutil.which(program, path=path())})
    if lacking:
        return f"needs the Debian packages {' '.join(lacking)}"
    return "" if os.geteuid() == 0 else "needs root (to make the images)"


def path() -> str:
    """PATH with the directories that hold mke2fs and its like, which a user's own PATH lacks on Debian."""
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def run(*argv: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """A program that has to succeed. VmError with what it said."""
    words = list(strings(argv))
    options.setdefault("capture_output", "stdout" not in options and "stderr" not in options)
    done = subprocess.run(words, check=False, env={**os.environ, "PATH": path()}, **options)
    if done.returncode:
        said = b"".join(part for part in (done.stdout, done.stderr) if part).decode(errors="replace")
        raise VmError(f"{' '.join(words)}: exit {done.returncode}\n{said[-3000:]}")
    return done


def strings(words: Iterable[object]) -> Iterable[str]:
    return (os.fspath(word) if isinstance(word, Path) else str(word) for word in words)

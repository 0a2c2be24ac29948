"""The front of the agent file: unpacks the wheels that fit this Python once, then runs the command line.

The file is a ZIP application (PEP 441) with a shell script before it, made by `livelift.bootstrap.build`. This module
is in it as `livelift_front`, beside ``manifest.json`` and the archives (wheels, PEP 427, and the package itself). It
uses the standard library only and imports nothing of the package before that has been unpacked.

``manifest.json``: ``{"version": 1, "python": ["3.11", ...], "platforms": {"cp311-x86_64": {"glibc": [2, 17],
"archives": [[name in the file, SHA-256], ...], "files": {path: SHA-256}}}}``.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib
import io
import json
import os
import platform
import re
import shutil
import stat
import sys
import sysconfig
import time
import zipfile
from pathlib import Path
from typing import Any, NoReturn

CACHE = "LIVELIFT_CACHE"
"""Environment: the directory to unpack in, instead of `default_cache`."""
FORGET = "LIVELIFT_FORGET"
"""Environment, set by the command line for the front: nothing is to stay of what was unpacked."""
FILE = "LIVELIFT_AGENT_FILE"
"""Environment of the command line: the agent file that it runs from; `livelift migrate` copies it."""
_NEW = ".new-"
USED = ".used"
"""Locked (shared) by each process that runs from a cache."""
OURS = re.compile(r"[0-9a-f]{32}(\.seen)?|\.lock|\.new-.*|\.seen-.*")
"""Names of what is unpacked, and of what goes with it."""
ENDING = 10.0
"""Seconds for an agent that has let go of its state to be gone from the cache too: its interpreter has to end."""


class RefusedError(Exception):
    """This machine, or what is on it, cannot run the agent. The text says what to do."""


def platform_name() -> str:
    """As the keys of the manifest: ``cp313-aarch64``. RefusedError: not CPython with the global lock."""
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise RefusedError(
            f"{sys.executable} is not a standard CPython\n"
            "  what to do: install Debian's, Ubuntu's or RHEL's python3 package and start the agent with that"
        )
    return f"cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}"


def choose(manifest: dict[str, Any], name: str, libc: tuple[str, str]) -> dict[str, Any]:
    """The part of the manifest for this platform. ``libc``: as `platform.libc_ver`. RefusedError: there is none."""
    part: dict[str, Any] | None = manifest["platforms"].get(name)
    if part is None:
        machines = " and ".join(sorted({key.partition("-")[2] for key in manifest["platforms"]}))
        raise RefusedError(
            f"this agent file has nothing for {name} (Python and architecture)\n"
            f"  what to do: it needs CPython {', '.join(manifest['python'])} on {machines}; install one of them, or "
            "build an agent file for this machine (make agent)"
        )
    wanted = tuple(part["glibc"])
    if libc[0] != "glibc" or tuple(int(word) for word in libc[1].split(".")[:2]) < wanted:
        raise RefusedError(
            f"the C library here is {' '.join(libc).strip() or 'not glibc'}; the agent needs glibc "
            f"{wanted[0]}.{wanted[1]} or newer\n  what to do: install Livelift with pip on this machine"
        )
    return part


def default_cache(path: str) -> Path:
    """``path``: the agent file. Beside it, where a placed agent has its cache already: what is typed on that machine
    leaves no second one. Else FHS 3.0 5.5 for root; XDG Base Directory 0.8 for others."""
    if os.environ.get(CACHE):
        return Path(os.path.abspath(os.environ[CACHE]))
    beside = Path(os.path.dirname(path), "cache")
    if is_own(beside) and (beside / USED).exists():
        return beside
    if os.geteuid() == 0:
        return Path("/var/cache/livelift")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "livelift"


def own(directory: Path) -> None:
    """Make it, or see that nobody else can enter it: what is in there is executed. RefusedError: somebody could."""
    os.makedirs(directory.parent, exist_ok=True)
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    if not is_own(directory):
        raise RefusedError(
            f"{directory} is not a directory that only this user can enter\n"
            f"  what to do: see who made it and remove it, or name another one in the environment: {CACHE}=DIR"
        )


def is_own(directory: Path) -> bool:
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077


def used(cache: Path) -> int:
    """The cache is there, and stays while the descriptor is open: `forget` of another process sees the lock."""
    before = os.umask(0o077)
    try:
        while True:
            own(cache)
            try:
                fd = os.open(cache / USED, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:  # it was forgotten just now
                continue
            fcntl.flock(fd, fcntl.LOCK_SH)
            if os.fstat(fd).st_nlink:
                return fd
            os.close(fd)
    finally:
        os.umask(before)


def forget(cache: Path, fd: int) -> None:
    """Take away what was unpacked, if nobody else runs from it, and the directory if nothing else is in it: an operator
    may have named one that holds other things. ``fd``: of `used`; who comes meanwhile waits for its lock."""
    end = time.monotonic() + ENDING
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                return
            time.sleep(0.1)
    if not os.fstat(fd).st_nlink:
        return
    for path in cache.iterdir():
        if OURS.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    os.unlink(cache / USED)  # last: from here on another process makes one of its own
    try:
        os.rmdir(cache)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
            raise


def unpacked(archive: zipfile.ZipFile, part: dict[str, Any], cache: Path) -> Path:
    """The directory for sys.path: named by the digest of its listing. Every file in it was compared with that since
    the machine started, and has its stamp of then."""
    before = os.umask(0o077)
    try:
        return _unpacked(archive, part, cache)
    finally:
        os.umask(before)  # the agent makes files of its own


def _unpacked(archive: zipfile.ZipFile, part: dict[str, Any], cache: Path) -> Path:
    listing = json.dumps(part, sort_keys=True).encode()
    place = cache / hashlib.sha256(listing).hexdigest()[:32]
    seen = cache / f"{place.name}.seen"
    stamps = stamps_of(place, part["files"])
    if stamps and seen.exists() and seen.read_bytes() == stamps:
        return place
    if is_whole(place, part["files"]):
        remember(seen, stamps)
        return place
    with open(cache / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_whole(place, part["files"]):  # another one that started at the same time
            return place
        for stale in cache.glob(f"{_NEW}*"):  # of one that was killed: nobody else holds the lock
            shutil.rmtree(stale)
        fresh = cache / f"{_NEW}{os.getpid()}"
        fresh.mkdir(0o700)
        for name, digest in part["archives"]:
            _unpack(archive, name, digest, fresh)
        if not is_whole(fresh, part["files"]):
            raise RefusedError(f"{archive.filename} is damaged\n  what to do: copy it again")
        if place.exists():  # damaged: aside, so that no half directory ever has the name
            damaged = cache / f"{_NEW}{os.getpid()}-damaged"
            os.rename(place, damaged)
            os.rename(fresh, place)
            shutil.rmtree(damaged)
        else:
            os.rename(fresh, place)
    return place


def stamps_of(place: Path, files: dict[str, str]) -> bytes:
    """Size, times and inode number of every file of the listing, in this boot of the machine; empty: one is missing.

    A power cut may leave a file that was unpacked with its size and without its content: no stamp outlives the boot.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        found = [os.lstat(place / name) for name in sorted(files)]
    except OSError:
        return b""
    return json.dumps([boot, *([st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino] for st in found)]).encode()


def remember(seen: Path, stamps: bytes) -> None:
    """All files had their digests when they had these stamps, which were taken before."""
    fresh = seen.with_name(f".seen-{os.getpid()}")
    fresh.write_bytes(stamps)
    os.rename(fresh, seen)


def is_whole(place: Path, files: dict[str, str]) -> bool:
    """Whether every file of the listing is there with its digest (49 MB: some 60 ms; 10 s where a processor is
    emulated)."""
    try:
        for name, digest in files.items():
            if hashlib.sha256((place / name).read_bytes()).hexdigest() != digest:
                return False
    except OSError:
        return False
    return True


def _unpack(archive: zipfile.ZipFile, name: str, digest: str, place: Path) -> None:
    content = archive.read(name)
    if hashlib.sha256(content).hexdigest() != digest:
        raise RefusedError(f"{name} in {archive.filename} is damaged\n  what to do: copy the agent file again")
    with zipfile.ZipFile(io.BytesIO(content)) as inner:
        for info in inner.infolist():
            if info.is_dir():
                continue
            target = place / info.filename
            if ".." in Path(info.filename).parts or not target.is_relative_to(place):
                raise RefusedError(f"{name} holds a path that leads out of it: {info.filename}")
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(target, "wb") as file:
                file.write(inner.read(info))
                file.flush()


def refuse(text: str) -> NoReturn:
    """Exit code 2, as for a usage error: nothing was begun."""
    sys.stderr.write(f"livelift-agent: {text}\n")
    raise SystemExit(2)


def main(path: str) -> int:
    """``path``: the agent file. Exit code of the command line."""
    path = os.path.abspath(path)
    try:
        with zipfile.ZipFile(path) as archive:
            part = choose(json.loads(archive.read("manifest.json")), platform_name(), platform.libc_ver())
            cache = default_cache(path)
            fd = used(cache)
            place = unpacked(archive, part, cache)
    except RefusedError as error:
        refuse(str(error))
    except zipfile.BadZipFile as error:
        refuse(f"{path} is damaged: {error}\n  what to do: copy it again")
    except OSError as error:
        refuse(f"{error}\n  what to do: make room, or name another directory in the environment: {CACHE}=DIR")
    sys.path[:] = [str(place), *(entry for entry in sys.path if os.path.abspath(entry) != path)]
    os.environ[FILE] = path
    try:
        import msgspec  # noqa: F401  # the first compiled module
    except ImportError as error:
        refuse(f"{error}\n  what to do: if {place} is mounted noexec, name another directory: {CACHE}=DIR")
    # By name: this module is outside of the package when it runs, so the floors of the package do not bind it.
    code = int(importlib.import_module("livelift.cli.main").main(sys.argv[1:]))
    if os.environ.get(FORGET):
        forget(cache, fd)
    return code

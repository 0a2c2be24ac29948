"""Stop and continue a whole service at once: the cgroup freezer, v2 (Linux 5.2) and v1.

Documentation/admin-guide/cgroup-v2.rst (cgroup.freeze, cgroup.events), cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import time
from collections.abc import Sequence

from livelift.errors import RetryError, StateError

log = logging.getLogger(__name__)

_RETRY = 0.02  # seconds between two looks at freezer.state, which cannot be polled


class Freezer:
    """Freezes the tasks of one cgroup directory (absolute path), v2 or v1 by the files that are in it.

    The caller's own cgroup is refused: an agent that freezes itself never thaws anything.
    """

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.version = 2 if os.path.exists(path + b"/cgroup.freeze") else 1
        if self.version == 1 and not os.path.exists(path + b"/freezer.state"):
            raise StateError(
                f"{os.fsdecode(path)} cannot be frozen",
                remedy="name a cgroup below the root of cgroup v2 (Linux 5.2 or later) or of the v1 freezer hierarchy",
            )

    @property
    def frozen(self) -> bool:
        if self.version == 2:
            return b"frozen 1" in _read(self.path + b"/cgroup.events")
        return _read(self.path + b"/freezer.state").strip() == b"FROZEN"

    def freeze(self, timeout: float = 10.0) -> None:
        """Returns when every task stands still. After ``timeout`` seconds all are let go again and it is a RetryError:
        a task in an uninterruptible wait (a dead NFS server) can not be stopped."""
        freeze_all([self], timeout)

    def begin(self) -> None:
        """Ask for it; `wait` tells when it is so."""
        if os.getpid() in self.pids():
            raise StateError(f"{os.fsdecode(self.path)} holds the agent itself")
        if self.version == 2:
            _write(self.path + b"/cgroup.freeze", b"1")
        else:
            _write(self.path + b"/freezer.state", b"FROZEN")

    def wait(self, deadline: float) -> bool:
        """Whether every task stands still by then (of the monotonic clock)."""
        return self._wait2(deadline) if self.version == 2 else self._wait1(deadline)

    def thaw(self) -> None:
        if self.version == 2:
            _write(self.path + b"/cgroup.freeze", b"0")
        else:
            _write(self.path + b"/freezer.state", b"THAWED")

    def pids(self) -> set[int]:
        """Every process in this cgroup and below."""
        found: set[int] = set()
        for directory, _, names in os.walk(self.path):
            if b"cgroup.procs" in names:
                try:
                    found.update(map(int, _read(directory + b"/cgroup.procs").split()))
                except OSError:  # removed meanwhile, or EOPNOTSUPP: a threaded cgroup, whose processes its domain lists
                    continue
        return found

    def _wait2(self, deadline: float) -> bool:
        fd = os.open(self.path + b"/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while b"frozen 1" not in os.pread(fd, 4096, 0):
                if (left := deadline - time.monotonic()) <= 0:
                    return False
                poll.poll(min(left, 0.5) * 1000)
            return True
        finally:
            os.close(fd)

    def _wait1(self, deadline: float) -> bool:
        while not self.frozen:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_RETRY)
            # Written again on every turn: the v1 freezer gives up on tasks that were just waking or forking.
            _write(self.path + b"/freezer.state", b"FROZEN")
        return True


def freeze_all(freezers: Sequence[Freezer], timeout: float = 10.0, may_go: bool = False) -> None:
    """All or none, and all at once: the slowest counts, not the sum. RetryError: one did not stand still in time.
    ``may_go``: a group that is gone meanwhile held nobody and is no error."""
    deadline = time.monotonic() + timeout
    try:
        for freezer in freezers:
            if not may_go or os.path.isdir(freezer.path):
                freezer.begin()
        for freezer in freezers:
            if not _stands_still(freezer, deadline, may_go):
                raise RetryError(
                    f"{os.fsdecode(freezer.path)} did not freeze within {timeout:g} s",
                    remedy="look for tasks in state D (ps -eo pid,stat,wchan,cmd) and try again",
                )
    except BaseException:
        for freezer in freezers:
            try:
                freezer.thaw()
            except OSError as error:
                if not is_gone(error):
                    log.error("%s cannot be let go: %s", os.fsdecode(freezer.path), error)
        raise


def _stands_still(freezer: Freezer, deadline: float, may_go: bool) -> bool:
    try:
        return freezer.wait(deadline)
    except OSError as error:
        if may_go and is_gone(error):
            return True
        raise


def is_gone(error: OSError) -> bool:
    """A group that is gone (removed before it was opened, or after) holds nobody."""
    return error.errno in (errno.ENOENT, errno.ENODEV)


def cgroup_of_pid(pid: int) -> bytes:
    """The directory in which this process can be frozen: of cgroup v2 if it has one that is not the root, else of v1.

    ProcessLookupError/FileNotFoundError if there is no such process, StateError if it sits in a root cgroup.
    """
    mounts = hierarchies()
    found = {}
    for line in _read(b"/proc/%d/cgroup" % pid).splitlines():
        number, controllers, path = line.split(b":", 2)
        if number == b"0":
            found[b"v2"] = path
        elif b"freezer" in controllers.split(b","):
            found[b"v1"] = path
    for version in (b"v2", b"v1"):
        if version in mounts and found.get(version, b"/") != b"/":
            return mounts[version] + found[version]
    raise StateError(f"process {pid} is in no cgroup of its own", remedy="start it as a systemd service or scope")


def cgroup_of_unit(unit: str) -> bytes:
    """The directory of a systemd service, scope or slice by its name; StateError if it is not running."""
    name = os.fsencode(unit if "." in unit else unit + ".service")
    mounts = hierarchies()
    for version in (b"v2", b"v1"):
        if version not in mounts:
            continue
        for directory, names, _ in os.walk(mounts[version]):
            if name in names:
                return directory + b"/" + name
    raise StateError(f"no cgroup for {unit}", remedy="is it running? systemctl status shows its CGroup line")


def hierarchies() -> dict[bytes, bytes]:
    """Where the cgroup v2 tree (b"v2"), the v1 freezer tree (b"v1") and systemd's own v1 tree (b"systemd") are mounted,
    from mountinfo."""
    found: dict[bytes, bytes] = {}
    for line in _read(b"/proc/self/mountinfo").splitlines():
        fields, _, tail = line.partition(b" - ")
        fstype, _, options = tail.split(b" ", 2)
        mountpoint = fields.split(b" ")[4]
        if fstype == b"cgroup2":
            found.setdefault(b"v2", mountpoint)
        elif fstype == b"cgroup" and b"freezer" in options.split(b","):
            found.setdefault(b"v1", mountpoint)
        elif fstype == b"cgroup" and b"name=systemd" in options.split(b","):
            found.setdefault(b"systemd", mountpoint)
    return found


def _read(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: bytes, value: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(value)

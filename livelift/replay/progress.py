"""How far the names have come, told by the replica's own file system: so replay is exact after a crash.

Redo of content is harmless, redo of names is not: after ``rename f g; create f`` a second ``rename f g`` destroys g.
So each step that must not happen twice (rename, link, unlink, collapse, ...) is bracketed by a *mark*: before it,
the mtime of ``.livelift/mark-EPOCH`` is set to its LSN, after it the atime too. A mark is metadata of the same file
system as the names, and ext4, XFS and btrfs write metadata to their journal in order. So after a killed agent *and*
after a power cut, the names are exactly those after the marked LSN, or it is the one step in doubt, and looking at
the names decides that one.

The mark holds the LSN's low 31 bits in whole seconds, because old ext4 inodes and XFS without bigtime hold no more.
The epoch, random for every state directory, keeps the marks of an earlier job in the same place from being believed.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from typing import Final

from livelift.platform.linux.files import syncfs
from livelift.replay.directories import OURS
from livelift.replay.trouble import ReplicaError, replica_error

_BITS: Final = 31
_NS: Final = 1_000_000_000
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class Mark:
    """The mark of one file system. ``begun``: LSN of the last step begun; ``done``: of the last one that is
    finished."""

    def __init__(self, home: int, fd: int, near: int) -> None:
        self.home = home  # open .livelift
        self._fd = fd
        status = os.fstat(fd)
        self.begun = _widen(status.st_mtime_ns // _NS, near)
        self.done = _widen(status.st_atime_ns // _NS, near)
        self._token = b""

    def begin(self, lsn: int, value: int | None = None, done: int | None = None) -> None:
        """``done``: mark this earlier step as finished in the same call. ``value``: what `doubt` shall answer if we
        die now (only where looking at the names cannot decide)."""
        if value is not None:
            self._token = b"doubt-%d-%d" % (lsn, value)
            os.close(os.open(self._token, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=self.home))
        self._set(lsn, self.done if done is None else done)

    def end(self, lsn: int) -> None:
        self._set(lsn, lsn)
        if self._token:
            os.unlink(self._token, dir_fd=self.home)
            self._token = b""

    def doubt(self, lsn: int) -> int | None:
        """The value that was given to `begin` for this step."""
        for name in os.listdir(self.home):
            if os.fsencode(name).startswith(b"doubt-%d-" % lsn):
                self._token = os.fsencode(name)
                return int(name.rsplit("-", 1)[1])
        return None

    def _set(self, begun: int, done: int) -> None:
        mask = (1 << _BITS) - 1
        os.utime(self._fd, ns=((done & mask) * _NS, (begun & mask) * _NS))
        self.begun, self.done = begun, done

    def close(self) -> None:
        os.close(self._fd)
        os.close(self.home)


def _widen(low: int, near: int) -> int:
    """The LSN with these low bits that is nearest to ``near`` (a checkpoint renews the mark, so it is never far
    away)."""
    half = 1 << _BITS - 1
    return max(0, near + (low - near + half) % (1 << _BITS) - half)


class Progress:
    """The marks and the file systems of a replica. ``tops``: an open descriptor for each map's target directory."""

    def __init__(
        self, tops: Sequence[int], paths: Sequence[bytes], epoch: str, durable: int, fresh: bool = True
    ) -> None:
        """``fresh``: a new epoch, so there is no mark yet. ReplicaError: the mark of a going job is not there."""
        self._tops = tops
        self._marks: dict[int, Mark] = {}
        self._filesystems: dict[int, int] = {}  # st_dev -> descriptor, all that syncfs must reach
        self.foreign = False  # the replica spans file systems that carry no mark
        name = b"mark-" + epoch.encode()
        for top in tops:
            _make_home(top)
            dev = os.fstat(top).st_dev
            if dev in self._marks:
                continue
            home = os.open(OURS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            fd = -1
            try:
                known = True
                try:
                    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=home)
                except FileNotFoundError:
                    if durable and not fresh:
                        where = os.fsdecode(os.readlink(b"/proc/self/fd/%d" % top))
                        raise ReplicaError(
                            f"{where} is not the replica of this job: its mark is missing",
                            remedy="is its disk mounted there? mount it, then start the target agent again",
                        ) from None
                    known = False
                    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                    fd = os.open(name, flags, 0o600, dir_fd=home)
                mark = self._marks[dev] = Mark(home, fd, durable)
            except BaseException:
                os.close(home)
                if fd >= 0:
                    os.close(fd)
                raise
            if not known:
                mark.end(durable)
            self.saw(dev, top)
        self._default = next(iter(self._marks.values()))
        for mountpoint in _mountpoints_below(paths):
            fd = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self.saw(os.fstat(fd).st_dev, fd)
            finally:
                os.close(fd)

    def mark(self, dev: int) -> Mark:
        """The mark for steps on this file system."""
        return self._marks.get(dev, self._default)

    @property
    def marks(self) -> list[Mark]:
        """In the order of the maps; maps on one file system share one."""
        return list(self._marks.values())

    @property
    def begun(self) -> int:
        """Everything before this LSN has been applied, if no page was lost since."""
        return max(mark.begun for mark in self._marks.values())

    def saw(self, dev: int, fd: int) -> None:
        """A directory of this file system takes part: `sync` must reach it."""
        if dev not in self._filesystems:
            self._filesystems[dev] = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            self.foreign = self.foreign or dev not in self._marks

    def sync(self, lsn: int) -> None:
        """Everything that was written is on the disks when this returns. ReplicaError: pages may be lost for good
        (after a failed write-back the kernel drops them: "fsyncgate", Linux 4.13 and later tells each opener once)."""
        for mark in self._marks.values():
            if mark.begun < lsn:  # after a crash the mark may be ahead of what has been folded
                mark.end(lsn)
        for fd in self._filesystems.values():
            try:
                syncfs(fd)
            except OSError as error:
                raise replica_error(error, "writing to disk") from error

    def clear(self) -> None:
        """Take ``.livelift`` away. ReplicaError if something still waits in limbo: a gap was open."""
        for top in self._tops:
            if waiting := _in_limbo(top):
                raise ReplicaError(
                    f"{len(waiting)} objects wait in limbo, e.g. {waiting[0]!r}",
                    remedy="let replay go on until every gap is closed, then cut again",
                )
        self._close_marks()  # FUSE keeps a removed file that is open under another name in its directory
        for top in self._tops:
            status = os.fstat(top)
            _remove_home(top)
            os.utime(top, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _close_marks(self) -> None:
        for mark in self._marks.values():
            mark.close()
        self._marks.clear()

    def close(self) -> None:
        self._close_marks()
        for fd in self._filesystems.values():
            os.close(fd)
        self._filesystems.clear()


def start_afresh(top: int) -> None:
    """What an earlier job left in ``.livelift`` is junk to a new one."""
    _remove_home(top)


def _make_home(top: int) -> None:
    for name in (OURS, OURS + b"/limbo"):
        try:
            os.mkdir(name, 0o700, dir_fd=top)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                raise ReplicaError(
                    f"{os.fsdecode(name)} in the target directory is no directory", remedy="move it away"
                ) from None


def _remove_home(top: int) -> None:
    try:
        shutil.rmtree(OURS, dir_fd=top)
    except FileNotFoundError:
        return
    except OSError as error:
        raise replica_error(error, "removing .livelift") from error


def _in_limbo(top: int) -> list[str]:
    fd = os.open(OURS + b"/limbo", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _mountpoints_below(paths: Sequence[bytes]) -> list[bytes]:
    """Mount points of disks (proc_pid_mountinfo(5)) below the maps' targets: they too must be synced."""
    found = []
    with open("/proc/self/mountinfo", "rb") as mounts:
        for line in mounts:
            fields, _, tail = line.partition(b" - ")
            mountpoint = _unescape(fields.split(b" ")[4])
            on_disk = tail.split(b" ")[1].startswith(b"/")
            if on_disk and any(mountpoint.startswith(path.rstrip(b"/") + b"/") for path in paths):
                found.append(mountpoint)
    return found


def _unescape(text: bytes) -> bytes:
    """mountinfo writes space, tab, newline and backslash as three octal digits."""
    head, *rest = text.split(b"\\")
    return head + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


def boot_id() -> str:
    """Another one after every boot: random(4)."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()

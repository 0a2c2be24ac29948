"""Last resort: a file whose normal read is refused, read from the sectors of its disk.

Only where a file's bytes lie as they are at the place that FIEMAP names: ext2/3/4 and XFS. On btrfs "physical" is an
address of its chunk tree, on overlay there is no disk. This passes by the page cache, so it is weaker than a normal
read, not stronger: the file is flushed first, and one that changed meanwhile is an error, not a mixture.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from livelift.errors import LiveliftError, RetryError
from livelift.facts.mountinfo import parse_mountinfo
from livelift.platform.linux import fiemap as fm
from livelift.platform.linux import handles, inode_flags
from livelift.platform.linux.files import EXT_MAGIC, XFS_MAGIC, aligned_buffer, statfs

REFUSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.EBUSY, errno.ETXTBSY})
"""What a normal read may say for `read_sectors` to be worth a try."""

CHUNK: Final = 1 << 20
_TICK: Final = 20_000_000  # ns; twice the longest tick that Linux can be built with (100 Hz)
_SECTOR: Final = 4096  # a multiple of every logical sector size, for O_DIRECT
_JOURNALLED: Final = 0x4000  # FS_JOURNAL_DATA_FL: the newest bytes may be in the journal only
_XFLAG_REALTIME: Final = 0x1  # the bytes lie on XFS's other device

_UNREADABLE: Final = {
    fm.UNKNOWN: "a place that the file system does not know",
    fm.DELALLOC: "no place on the disk yet",
    fm.ENCODED: "a compressed or otherwise encoded form",
    fm.DATA_ENCRYPTED: "an encrypted form",
    fm.NOT_ALIGNED: "a place that is not aligned",
    fm.DATA_INLINE: "the inode itself",
    fm.DATA_TAIL: "a block shared with other files' tails",
}


class SectorsError(LiveliftError):
    """cannot read {0} from the disk: {1}"""

    code = "sectors"


def read_locked(dir_fd: int, name: bytes) -> Iterator[tuple[int, bytes]]:
    """`read_sectors` of a name in an open directory."""
    return read_sectors(b"/proc/self/fd/%d/%s" % (dir_fd, name))


def read_sectors(path: bytes, device: bytes | None = None) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of the file's data in order, at most 1 MiB each; what is not in them is zeros.

    ``device``: the block device of its file system, by default the one that st_dev names.
    SectorsError: this cannot be done, and why. RetryError, possibly after some chunks: the file changed meanwhile, what
    came before is worth nothing. OSError: the disk refuses too.
    """
    with closing(_Descriptor(path)) as file:
        _check(file.fd, path)
        before, extents = _old_state(file.fd, path), fm.fiemap(file.fd)
        size = before[0]
        for extent in extents:
            for flag, what in _UNREADABLE.items():
                if extent.flags & flag:
                    raise SectorsError(os.fsdecode(path), f"it lies in {what}")
        with closing(_Disk(device or _device_of(os.fstat(file.fd).st_dev, path))) as disk:
            for extent in extents:
                if extent.flags & fm.UNWRITTEN:
                    continue
                position, stop = extent.logical, min(extent.logical + extent.length, size)
                while position < stop:
                    length = min(CHUNK, stop - position)
                    yield position, disk.read(extent.physical + position - extent.logical, length)
                    position += length
        # Flags are left out: LAST and MERGED depend on neighbours. Flushing again shows stores that came in between.
        after = [extent[:3] for extent in fm.fiemap(file.fd)]
        if after != [extent[:3] for extent in extents] or _state(file.fd) != before:
            raise RetryError(f"{os.fsdecode(path)} changed while its sectors were read")


def read_all_sectors(path: bytes, device: bytes | None = None, attempts: int = 3) -> bytes:
    """The whole content of a file that fits into memory; reads again while it changes, then RetryError."""
    for attempt in range(attempts):
        try:
            content = bytearray(os.stat(path, follow_symlinks=False).st_size)
            for offset, data in read_sectors(path, device):
                content[offset : offset + len(data)] = data
            return bytes(content)
        except RetryError:
            if attempt == attempts - 1:
                raise
    raise ValueError("attempts must be at least 1")


class _Descriptor:
    """A descriptor that FIEMAP accepts (not O_PATH), by name or, where the name is refused, by handle."""

    def __init__(self, path: bytes) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        directory, name = os.path.split(path)
        parent = os.open(directory or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            kind = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if not stat.S_ISREG(kind):
                raise SectorsError(os.fsdecode(path), "it is not a regular file")
            try:
                self.fd = os.open(name, flags, dir_fd=parent)
            except OSError as error:
                if error.errno not in REFUSED:
                    raise
                self.fd = handles.open_handle(parent, handles.handle_of(parent, name)[0], flags)
        finally:
            os.close(parent)

    def close(self) -> None:
        os.close(self.fd)


class _Disk:
    """The block device, past its page cache: that knows nothing of what the file system wrote."""

    def __init__(self, device: bytes) -> None:
        self.fd = os.open(device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            if not stat.S_ISBLK(os.fstat(self.fd).st_mode):
                raise SectorsError(os.fsdecode(device), "it is not a block device")
            self._window = aligned_buffer(CHUNK + 2 * _SECTOR)
        except BaseException:
            os.close(self.fd)
            raise

    def read(self, position: int, length: int) -> bytes:
        begin = position - position % _SECTOR
        end = -(-(position + length) // _SECTOR) * _SECTOR
        got = 0
        with memoryview(self._window) as view:
            while got < position + length - begin:
                count = os.preadv(self.fd, [view[got : end - begin]], begin + got)
                if count == 0:
                    raise OSError(errno.EIO, "the file's map points beyond the end of the device")
                got += count
            return bytes(view[position - begin : position - begin + length])

    def close(self) -> None:
        self._window.close()
        os.close(self.fd)


def _state(fd: int) -> tuple[int, int, int]:
    st = os.fstat(fd)
    return st.st_size, st.st_mtime_ns, st.st_ctime_ns


def _old_state(fd: int, path: bytes) -> tuple[int, int, int]:
    """A state after which every change gets another stamp. Stamps are taken from the clock's last tick (4 ms at 250 Hz,
    10 ms at 100 Hz; finer only on the file systems of Linux 6.13 and later that have multigrain times), or are whole
    seconds: a change within the tick of the one before it leaves no trace. RetryError: it changes all the time."""
    for _ in range(5):
        state = _state(fd)
        tick = 1_000_000_000 if state[2] % 1_000_000_000 == 0 else _TICK
        age = time.time_ns() - state[2]
        if age > tick or age < 0:  # a stamp of the future: the clock was set back, waiting would not help
            return state
        time.sleep((tick - age + 1_000_000) / 1e9)
    raise RetryError(f"{os.fsdecode(path)} changes all the time")


def _check(fd: int, path: bytes) -> None:
    """SectorsError unless the file lies plainly on one block device."""
    kind = statfs(fd).type
    shown = os.fsdecode(path)
    if kind not in (EXT_MAGIC, XFS_MAGIC):
        raise SectorsError(shown, f"its file system (type {kind:#x}) is neither ext2/3/4 nor XFS")
    if kind == EXT_MAGIC and (inode_flags.get_flags(fd) & _JOURNALLED or _mounted_journalled(os.fstat(fd).st_dev)):
        raise SectorsError(shown, "its newest bytes may be in the journal (data=journal)")
    if kind == XFS_MAGIC and inode_flags.get_xflags(fd) & _XFLAG_REALTIME:
        raise SectorsError(shown, "it lies on the realtime device")


def _mounted_journalled(device: int) -> bool:
    with open("/proc/self/mountinfo", "rb") as file:
        mounts = parse_mountinfo(file.read())
    return any(mount.super_options.count(b"data=journal") and os.makedev(*mount.device) == device for mount in mounts)


def _device_of(number: int, path: bytes) -> bytes:
    """The node of the file system's block device. Of LVM or RAID the assembled one: FIEMAP speaks of that."""
    try:
        with open(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/uevent", "rb") as file:
            names = [line[8:] for line in file.read().splitlines() if line.startswith(b"DEVNAME=")]
    except FileNotFoundError:
        names = []
    for name in names:
        node = b"/dev/" + name
        if os.path.exists(node) and os.stat(node).st_rdev == number:
            return node
    raise SectorsError(os.fsdecode(path), f"no block device {os.major(number)}:{os.minor(number)} here")

"""The live tree by object id: directories and files of the running system, reached through handles, never by long
paths.

A directory is opened from its parent's descriptor, one name at a time, and checked to be the inode that the index
names; if it is not (a rename whose event is still on its way) `Moved` is raised and the caller tries again after the
events. Open descriptors stay valid over renames, so they are kept (bounded) and shared by reference count.
"""

from __future__ import annotations

import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from livelift.index.tree import TreeIndex
from livelift.merge.names import Seen
from livelift.model.entry import Attributes, inode_of, object_id, volume_of
from livelift.platform.system import os

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOATIME
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME


class Moved(Exception):
    """The object is not where the index says: look again when the events in flight have been read."""


class Gone(Exception):
    """The index has no place for this object (any more)."""


class DirectoryHandle:
    """An open directory, shared by reference count."""

    __slots__ = ("dropped", "fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0
        self.dropped = False


def open_noatime(path: bytes, flags: int, dir_fd: int | None = None) -> int:
    """open(2) with O_NOATIME, without it where we do not own the file (EPERM, when not root)."""
    try:
        return os.open(path, flags, dir_fd=dir_fd)
    except PermissionError:
        if not flags & os.O_NOATIME:
            raise
        return os.open(path, flags & ~os.O_NOATIME, dir_fd=dir_fd)


class Live:
    """``roots``: object id of each map's root -> its path. ``volume_of_device``: st_dev -> volume index or None.
    ``attributes_at``: walk's reader of one name. ``lock``: the merge lock, taken around index questions."""

    def __init__(
        self,
        index: TreeIndex,
        lock: threading.RLock,
        roots: dict[int, bytes],
        volume_of_device: Callable[[int], int | None],
        attributes_at: Callable[[int, bytes], Attributes],
        limit: int = 400,
    ) -> None:
        self._index = index
        self._merge = lock
        self._roots = roots
        self._volume_of_device = volume_of_device
        self._attributes_at = attributes_at
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[int, DirectoryHandle] = OrderedDict()
        self._ahead: OrderedDict[int, int] = OrderedDict()  # descriptors of directories that are to be listed

    # -- directories -------------------------------------------------------------------------------------------------

    @contextmanager
    def directory(self, oid: int) -> Iterator[int]:
        """A descriptor of the directory for the length of the block. Moved, Gone, or OSError of the open."""
        handle = self.acquire(oid)
        try:
            yield handle.fd
        finally:
            self.release(handle)

    def acquire(self, oid: int) -> DirectoryHandle:
        with self._lock:
            handle = self._open.get(oid)
            if handle is not None:
                self._open.move_to_end(oid)
                handle.users += 1
                return handle
            ahead = self._ahead.pop(oid, -1)
        if ahead >= 0:
            return self._keep(oid, ahead)
        chain: list[bytes] = []
        at = oid
        start: DirectoryHandle | None = None
        while True:  # up to the nearest directory that is open, or a root
            if at in self._roots:
                break
            with self._lock:
                start = self._open.get(at)
                if start is not None:
                    start.users += 1
                    if at == oid:  # somebody else has just opened it
                        return start
                    break
            with self._merge:
                place = self._index.place(at)
            if place is None or place[0] < 0 or len(chain) > 100_000:
                raise Gone(oid)
            chain.append(place[1])
            at = place[0]
        fd = -1
        try:
            if start is None:
                fd = open_noatime(self._roots[at], _DIRECTORY & ~os.O_NOFOLLOW)
            for name in reversed(chain):
                try:
                    below = open_noatime(name, _DIRECTORY, start.fd if fd < 0 and start is not None else fd)
                except (FileNotFoundError, NotADirectoryError) as error:
                    raise Moved(oid) from error
                if fd >= 0:
                    os.close(fd)
                fd = below
            st = os.fstat(fd)
            if self.object_of(st) != oid:
                raise Moved(oid)
            return self._keep(oid, fd)
        except BaseException:
            if fd >= 0:
                os.close(fd)
            raise
        finally:
            if start is not None:
                self.release(start)

    def expect(self, oid: int, parent: int, name: bytes) -> None:
        """The directory that was just seen at this name is to be listed soon: hold it, so that it is found however
        often it moves until then. Of many the newest are held, as the walk goes depth first; the others have to be
        where the index says."""
        if self._limit < 2:
            return
        try:
            with self.directory(parent) as directory:
                fd = open_noatime(name, _DIRECTORY, directory)
        except (Moved, Gone, OSError):
            return  # whoever lists it finds out why
        if self.object_of(os.fstat(fd)) != oid:
            os.close(fd)
            return
        with self._lock:
            dropped = [fd] if oid in self._open or oid in self._ahead else []
            if not dropped:
                self._ahead[oid] = fd
                while len(self._ahead) > self._limit // 2:
                    dropped.append(self._ahead.popitem(last=False)[1])
        for each in dropped:
            os.close(each)

    def _keep(self, oid: int, fd: int) -> DirectoryHandle:
        with self._lock:
            handle = self._open.get(oid)
            if handle is None:
                handle = self._open[oid] = DirectoryHandle(fd)
            else:
                os.close(fd)
            handle.users += 1
            while len(self._open) > self._limit:
                _, old = self._open.popitem(last=False)
                old.dropped = True
                if not old.users:
                    os.close(old.fd)
            return handle

    def release(self, handle: DirectoryHandle) -> None:
        with self._lock:
            handle.users -= 1
            if handle.dropped and not handle.users:
                os.close(handle.fd)

    def forget(self, oid: int) -> None:
        """The directory is gone: do not hold its inode."""
        with self._lock:
            handle = self._open.pop(oid, None)
            if handle is not None:
                handle.dropped = True
                if not handle.users:
                    os.close(handle.fd)
            ahead = self._ahead.pop(oid, -1)
        if ahead >= 0:
            os.close(ahead)

    def close(self) -> None:
        with self._lock:
            for handle in self._open.values():
                os.close(handle.fd)
            self._open.clear()
            for fd in self._ahead.values():
                os.close(fd)
            self._ahead.clear()

    # -- objects -----------------------------------------------------------------------------------------------------

    def object_of(self, st: os.stat_result) -> int:
        """Object id of a stat result; 0 if it lies on a volume that does not take part."""
        volume = self._volume_of_device(st.st_dev)
        return 0 if volume is None else object_id(volume, st.st_ino)

    def look(self, parent: int, name: bytes) -> Seen | None:
        """What is behind a name right now; None if nothing (or nothing of ours). Moved, Gone."""
        with self.directory(parent) as fd:
            try:
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                oid = self.object_of(st)
                if not oid:
                    return None
                attributes = self._attributes_at(fd, name)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return Seen(oid, attributes)

    def open_file(self, oid: int, parent: int, name: bytes) -> int:
        """A descriptor for reading the regular file ``oid``, checked to be it. Moved if another object has the name."""
        with self.directory(parent) as directory:
            try:
                st = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if not stat.S_ISREG(st.st_mode) or self.object_of(st) != oid:
                    raise Moved(oid)  # never opened: it may be a device by now
                fd = open_noatime(name, _FILE, directory)
            except FileNotFoundError as error:
                raise Moved(oid) from error
            except OSError as error:
                if error.errno == 40:  # ELOOP: a symlink has the name now
                    raise Moved(oid) from error
                raise
        if self.object_of(os.fstat(fd)) != oid:
            os.close(fd)
            raise Moved(oid)
        return fd

    def path_of(self, oid: int) -> bytes | None:
        """For messages: where the index has the object, as a path on the source."""
        with self._merge:
            names = self._index.path(oid)
            if names is None or not names or not names[0].isdigit():
                return None
            root = self._index.lookup(0, names[0])
        return b"/".join([self._roots.get(root, b"?").rstrip(b"/"), *names[1:]])


__all__ = ["Gone", "Live", "Moved", "inode_of", "open_noatime", "volume_of"]

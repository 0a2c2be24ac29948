"""Puts a sealed upper layer into the replica, and takes it out again: by renames, under a journal.

    M/.livelift/new/PATH            the replica
    M/.livelift/overlay/upper/PATH  the layer; a whiteout in it stays there
    M/.livelift/overlay/kept/N      what the layer's object took the place of

What is a directory in both and not opaque is merged; of anything else the layer's object takes the place of the
replica's as a whole. Both ways every step looks where an entry's two inodes are and makes the next rename, so it does
not matter how often, from where or in which direction it was interrupted. Nothing else may change these trees
meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from livelift.edits import settle_journal
from livelift.edits.copier import delete_at
from livelift.edits.overlay import LAYERS, STAGED, Part, is_whiteout, opaque_of
from livelift.edits.settle_journal import Above, Entry, Settling
from livelift.errors import CorruptError
from livelift.platform.linux import files, inode_flags

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
KEPT: Final = b"kept"


class Settler:
    """One file system."""

    def __init__(self, part: Part) -> None:
        self._part = part
        opened: list[int] = []
        try:
            for path in (STAGED, LAYERS, LAYERS + b"/upper"):
                opened.append(os.open(os.fsencode(part.place) + b"/" + path, _DIRECTORY))
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise
        self._replica, self._layers, self._upper = opened

    def close(self) -> None:
        for fd in (self._upper, self._layers, self._replica):
            os.close(fd)

    def state(self) -> str:
        """out: nothing is settled; in: all of it is; between: neither, after a crash."""
        found = settle_journal.read(self._layers)
        if found is None:
            return "out"
        return "in" if found.forward and found.done else "between"

    def settle(self) -> int:
        """Durable on return; the number of entries. CorruptError: something else stands where an entry was."""
        found = settle_journal.read(self._layers)
        if found is None:
            found = self._survey()
            settle_journal.write(self._layers, found)
        elif not found.forward:
            found = self._turn(found, True)
        if not found.done:
            self._make(found)
            settle_journal.write(self._layers, Settling(found.entries, found.above, True, True))
        return len(found.entries)

    def unsettle(self, used: bool = False) -> int:
        """The replica as it was, with its own inodes; the layer as it was, ready for another time. Durable on return.
        ``used``: the tree has been a running system meanwhile. What it has put in the place of an entry goes, and what
        has nowhere to go back to is given up: both are then compared with the source as all else. The layer is of no
        use any more."""
        found = settle_journal.read(self._layers)
        if found is None:
            return 0
        if found.forward:
            found = self._turn(found, False)
        self._make(found, used)
        try:
            os.rmdir(KEPT, dir_fd=self._layers)
        except FileNotFoundError:
            pass
        os.unlink(settle_journal.NAME, dir_fd=self._layers)
        os.fsync(self._layers)
        return len(found.entries)

    def _turn(self, found: Settling, forward: bool) -> Settling:
        turned = Settling(found.entries, found.above, forward, False)
        settle_journal.write(self._layers, turned)
        return turned

    # what is to be done

    def _survey(self) -> Settling:
        entries: list[Entry] = []
        above: list[Above] = []
        self._compare(self._upper, self._replica, b"", opaque_of(self._part), entries, above)
        return Settling(tuple(entries), tuple(above))

    def _compare(
        self,
        upper: int,
        replica: int,
        path: bytes,
        opaque: frozenset[bytes],
        entries: list[Entry],
        above: list[Above],
    ) -> None:
        """``path``: of both directories, below the top."""
        before = len(entries)
        for text in sorted(os.listdir(upper)):
            name = os.fsencode(text)
            inside = path + b"/" + name if path else name
            new = os.stat(name, dir_fd=upper, follow_symlinks=False)
            old = _look(replica, name)
            gone = is_whiteout(new)
            if old is None and gone:
                continue
            if old is not None and stat.S_ISDIR(old.st_mode) and stat.S_ISDIR(new.st_mode) and inside not in opaque:
                with _opened(upper, name) as one, _opened(replica, name) as other:
                    self._compare(one, other, inside, opaque, entries, above)
                continue
            entries.append(
                Entry(
                    inside,
                    old.st_ino if old else 0,
                    0 if gone else new.st_ino,
                    _barriers(replica, name, old),
                    _times(old),
                    None if gone else _times(new),
                )
            )
        if len(entries) > before:
            st = os.fstat(replica)
            flags = inode_flags.get_flags(replica) & inode_flags.BARRIERS
            above.append(Above(path, st.st_atime_ns, st.st_mtime_ns, flags))

    # doing it, in both directions

    def _make(self, found: Settling, used: bool = False) -> None:
        try:
            os.mkdir(KEPT, 0o700, dir_fd=self._layers)
        except FileExistsError:
            pass
        foreign: list[str] = []
        with _opened(self._layers, KEPT) as kept:
            above = [d for d in found.above if not used or self._has(d.path)]
            for directory in above:
                with self._replica_at(directory.path) as fd:
                    _set_barriers(fd, 0)
            for number, entry in enumerate(found.entries):
                if used and not self._clear_the_way(entry, b"%d" % number, kept):
                    continue
                try:
                    self._step(entry, b"%d" % number, kept, found.forward)
                except CorruptError as error:
                    foreign.append(str(error.args[0]))
            for directory in reversed(above):
                with self._replica_at(directory.path) as fd:
                    os.utime(fd, ns=(directory.atime, directory.mtime))
                    _set_barriers(fd, directory.flags)
            os.fsync(kept)
        files.syncfs(self._replica)
        if foreign:
            raise CorruptError("; ".join(foreign), remedy="put it aside by hand, then run this again")

    def _step(self, entry: Entry, number: bytes, kept: int, forward: bool) -> None:
        parent, _, name = entry.path.rpartition(b"/")
        with self._replica_at(parent) as replica, self._upper_at(parent) as upper:
            for _ in range(3):
                here, aside = _inode(replica, name), _inode(kept, number)
                layer = _inode(upper, name) if entry.after else 0
                if forward:
                    if here == entry.after and aside == entry.before:
                        break
                    if here == entry.before and here and not aside:
                        _lift(replica, name)
                        os.rename(name, number, src_dir_fd=replica, dst_dir_fd=kept)
                    elif not here and layer == entry.after and layer:
                        os.rename(name, name, src_dir_fd=upper, dst_dir_fd=replica)
                    else:
                        raise self._foreign(entry, here)
                else:
                    if here == entry.before and not aside:
                        break
                    if here == entry.after and here and not layer:
                        os.rename(name, name, src_dir_fd=replica, dst_dir_fd=upper)
                    elif not here and aside == entry.before and aside:
                        os.rename(number, name, src_dir_fd=kept, dst_dir_fd=replica)
                    else:
                        raise self._foreign(entry, here)
            if forward:
                _restore(replica, name, entry.new_times, 0)
            else:
                _restore(replica, name, entry.times, entry.flags)
                if entry.after and _inode(upper, name) == entry.after:
                    _restore(upper, name, entry.new_times, 0)

    def _has(self, path: bytes) -> bool:
        try:
            with self._replica_at(path):
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _clear_the_way(self, entry: Entry, number: bytes, kept: int) -> bool:
        """After it a step back can do what is left to do: whether there is anything."""
        parent, _, name = entry.path.rpartition(b"/")
        if not self._has(parent):
            delete_at(kept, number)
            return False
        with self._replica_at(parent) as replica:
            if _inode(replica, name) not in (0, entry.before, entry.after):
                delete_at(replica, name)
            gone = not _inode(replica, name) and not _inode(kept, number)
        if gone:
            return False
        with self._upper_at(parent) as upper:  # what it was made from may have been put in its place again
            if entry.after and _inode(upper, name) not in (0, entry.after):
                delete_at(upper, name)
        return True

    def _foreign(self, entry: Entry, here: int) -> CorruptError:
        path = f"{self._part.place}/new/{os.fsdecode(entry.path)}"
        known = f"known are {entry.before} and {entry.after}"
        return CorruptError(f"{path} is not what the journal knows (inode {here}; {known})")

    def _replica_at(self, path: bytes) -> AbstractContextManager[int]:
        return _opened(self._replica, path)

    def _upper_at(self, path: bytes) -> AbstractContextManager[int]:
        return _opened(self._upper, path)


@contextmanager
def _opened(above: int, path: bytes) -> Iterator[int]:
    fd = os.open(path or b".", _DIRECTORY, dir_fd=above)
    try:
        yield fd
    finally:
        os.close(fd)


def _look(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _inode(directory: int, name: bytes) -> int:
    found = _look(directory, name)
    return found.st_ino if found else 0


def _times(st: os.stat_result | None) -> tuple[int, int] | None:
    return (st.st_atime_ns, st.st_mtime_ns) if st is not None and stat.S_ISDIR(st.st_mode) else None


def _has_flags(st: os.stat_result | None) -> bool:
    return st is not None and (stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode))


def _barriers(directory: int, name: bytes, st: os.stat_result | None) -> int:
    if not _has_flags(st):
        return 0
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        return inode_flags.get_flags(fd) & inode_flags.BARRIERS
    finally:
        os.close(fd)


def _set_barriers(fd: int, barriers: int) -> None:
    now = inode_flags.get_flags(fd)
    if now & inode_flags.BARRIERS != barriers:
        inode_flags.set_flags(fd, now & ~inode_flags.BARRIERS | barriers)


def _lift(directory: int, name: bytes) -> None:
    """An immutable or append-only object cannot be renamed (EPERM). The journal remembers the flags."""
    if _has_flags(_look(directory, name)):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            _set_barriers(fd, 0)
        finally:
            os.close(fd)


def _restore(directory: int, name: bytes, times: tuple[int, int] | None, flags: int) -> None:
    """What the renames have changed of the object itself."""
    if times is not None:
        os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)
    if flags:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            _set_barriers(fd, flags)
        finally:
            os.close(fd)

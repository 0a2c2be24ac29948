"""Scans a tree into directory manifests, through directory descriptors, in a fixed order, with content read by
several threads.

Order: a directory before what is in it, names compared as bytes. One thread lists; the objects of the listed
directories go in lots to a pool that reads attributes and content; results come out in order. So a cold disk sees
many requests at once, and what is in flight is bounded by `AHEAD` objects.

An object that vanishes between listing and looking is not in the manifest: it is not there. One that cannot be read,
or that keeps changing, is there with its trouble, and never counts as equal.
"""

from __future__ import annotations

import errno
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from enum import IntEnum
from typing import NamedTuple

from livelift.platform.system import open_beneath, os
from livelift.verify.content import open_quietly
from livelift.verify.links import LinkTable
from livelift.verify.manifest import LISTING, DirectoryManifest, ManifestEntry, encode_entry, join
from livelift.verify.measure import Lot, Measurer, reason

AHEAD = 4096
"""Objects listed ahead of the one that is yielded: keeps a pool of 8 busy over small directories, costs about 2 MiB."""

AHEAD_DIRECTORIES = 128
"""Each directory in flight holds a descriptor; the soft limit is 1024 by default (getrlimit(2))."""

LOT = 64
"""Objects per task: a task costs about 20 us to hand over."""

ANCHOR = 2048
"""Paths longer than this are opened in parts (PATH_MAX is 4096); the directories at the seams stay open."""


class Scope(IntEnum):
    """What the ``ignore`` callable answers for a path below the root. A plain bool does too."""

    FULL = 0
    SKIP = 1  # not there for the comparison
    BARE = 2  # must exist and be of the same type, nothing else: the mount point of a memory-only file system


Ignore = Callable[[bytes], int]


class _Listing(NamedTuple):
    path: bytes
    fd: int
    names: list[bytes]  # sorted; b"" first for the root's own row
    bare: frozenset[bytes]
    directories: list[bytes]  # paths to descend into, sorted
    trouble: str = ""  # why it could not be listed; then fd is -1

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class Scanner:
    """One map's tree. Not thread-safe: one caller. ``close`` releases the root's descriptor (the pool belongs to the
    caller)."""

    def __init__(
        self,
        map_index: int,
        root: bytes,
        measurer: Measurer,
        links: LinkTable,
        ignore: Ignore,
        pool: ThreadPoolExecutor | None,
    ) -> None:
        """Raises OSError if the root cannot be opened."""
        self.map = map_index
        self._measurer = measurer
        self._links = links
        self._ignore = ignore
        self._pool = pool
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._anchors: list[tuple[bytes, int]] = []

    def directories(self) -> Iterator[DirectoryManifest]:
        """Every directory of the tree."""
        for _, manifest in self._measured(self._descend()):
            if manifest is not None:
                yield manifest

    def lookup(self, paths: Iterable[bytes]) -> Iterator[DirectoryManifest | None]:
        """These directories, in the order asked for; None for one that is not there or is no
        directory."""
        for _, manifest in self._measured((path, self._list(path)) for path in paths):
            yield manifest

    def listings(self) -> Iterator[tuple[bytes, int, list[bytes]]]:
        """(path, descriptor, names) of every directory without looking at anything in them; closed when the next is
        taken."""
        for _, listing in self._descend():
            if listing is not None:
                try:
                    yield listing.path, listing.fd, [name for name in listing.names if name not in listing.bare]
                finally:
                    listing.close()

    def open_parent(self, path: bytes) -> int:
        """A descriptor of the directory that this path is in. OSError."""
        return self._open(path.rpartition(b"/")[0])

    def close(self) -> None:
        self._drop_anchors(b"")
        os.close(self._root)

    def _descend(self) -> Iterator[tuple[bytes, _Listing | None]]:
        stack = [b""]
        while stack:
            path = stack.pop()
            listing = self._list(path)
            if listing is not None:
                stack.extend(reversed(listing.directories))
            yield path, listing

    def _list(self, path: bytes) -> _Listing | None:
        """None: no such directory."""
        try:
            fd = self._open(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            return _Listing(path, -1, [], frozenset(), [], reason(error))
        try:
            return self._read(path, fd)
        except OSError as error:
            os.close(fd)
            return _Listing(path, -1, [], frozenset(), [], reason(error))
        except BaseException:
            os.close(fd)
            raise

    def _read(self, path: bytes, fd: int) -> _Listing:
        names: list[bytes] = []
        bare: set[bytes] = set()
        directories: list[bytes] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                inside = join(path, name)
                scope = self._ignore(inside)
                if scope == Scope.SKIP:
                    continue
                names.append(name)
                if scope == Scope.BARE:
                    bare.add(name)
                elif entry.is_dir(follow_symlinks=False):
                    directories.append(inside)
        names.sort()
        directories.sort()
        if not path:
            names.insert(0, b"")
        return _Listing(path, fd, names, frozenset(bare), directories)

    def _measured(
        self, listings: Iterable[tuple[bytes, _Listing | None]]
    ) -> Iterator[tuple[bytes, DirectoryManifest | None]]:
        waiting: deque[tuple[bytes, _Listing | None, Lot, list[Future[None]]]] = deque()
        objects = 0
        try:
            for path, listing in listings:
                waiting.append((path, listing, *self._begin(listing)))
                objects += len(waiting[-1][2].rows)
                while waiting and (
                    all(future.done() for future in waiting[0][3])
                    or objects > AHEAD
                    or len(waiting) > AHEAD_DIRECTORIES
                ):
                    objects -= len(waiting[0][2].rows)
                    yield self._finish(waiting)
            while waiting:
                yield self._finish(waiting)
        finally:
            for _, listing, _, futures in waiting:  # somebody stopped in the middle
                for future in futures:
                    if not future.cancel():
                        future.exception()
                if listing is not None:
                    listing.close()

    def _begin(self, listing: _Listing | None) -> tuple[Lot, list[Future[None]]]:
        """Ask the cache at once (nothing is faster than that, and threads would only wait for each other); pool the
        rest."""
        if listing is None or listing.trouble:
            return Lot([]), []
        try:
            lot = self._measurer.look(listing.fd, listing.path, listing.names, listing.bare, whole=True)
            parts = [lot.unread[at : at + LOT] for at in range(0, len(lot.unread), LOT)]
            if self._pool is None:
                for part in parts:
                    self._measurer.read(listing.fd, listing.path, lot, part)
                return lot, []
        except BaseException:
            listing.close()
            raise
        read = self._measurer.read
        return lot, [self._pool.submit(read, listing.fd, listing.path, lot, part) for part in parts]

    def _finish(
        self, waiting: deque[tuple[bytes, _Listing | None, Lot, list[Future[None]]]]
    ) -> tuple[bytes, DirectoryManifest | None]:
        path, listing, lot, futures = waiting[0]
        for future in futures:
            future.result()
        waiting.popleft()
        if listing is None:
            return path, None
        listing.close()
        if listing.trouble:
            row = encode_entry(ManifestEntry(LISTING, stat.S_IFDIR, trouble=listing.trouble))
            return path, DirectoryManifest(self.map, path, (row,), True)
        self._links.put(self.map, path, lot.links)
        if lot.whole is not None:
            known, count = lot.whole.digest, len(listing.names)
            return path, DirectoryManifest(self.map, path, None, False, known, count, lambda: self._again(path))
        manifest = DirectoryManifest(self.map, path, tuple(filter(None, lot.rows)), lot.troubled)
        self._measurer.keep(lot, manifest.digest)
        return path, manifest

    def _again(self, path: bytes) -> tuple[bytes, ...]:
        """The rows of a directory of which only the digest was looked up."""
        listing = self._list(path)
        if listing is None or listing.trouble:
            return ()
        try:
            measurer = self._measurer.twin()
            lot = measurer.look(listing.fd, path, listing.names, listing.bare)
            measurer.read(listing.fd, path, lot, lot.unread)
            return tuple(filter(None, lot.rows))
        finally:
            listing.close()

    def _open(self, path: bytes) -> int:
        self._drop_anchors(path)
        prefix, fd = self._anchors[-1] if self._anchors else (b"", self._root)
        rest = path[len(prefix) + 1 :] if prefix else path
        while len(rest) > ANCHOR:
            cut = rest.rindex(b"/", 0, ANCHOR)  # a name has at most 255 bytes, so there is one
            fd = open_beneath(fd, rest[:cut], os.O_PATH | os.O_DIRECTORY)
            prefix = join(prefix, rest[:cut])
            self._anchors.append((prefix, fd))
            rest = rest[cut + 1 :]
        if not rest:
            return open_quietly(fd, b".", os.O_DIRECTORY)
        try:
            return open_beneath(fd, rest, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME)
        except PermissionError:  # see open_quietly
            return open_beneath(fd, rest, os.O_RDONLY | os.O_DIRECTORY)

    def _drop_anchors(self, path: bytes) -> None:
        while self._anchors and not path.startswith(self._anchors[-1][0] + b"/"):
            os.close(self._anchors.pop()[1])

"""Turns names of an open directory into manifest rows; what the cache vouches for is not read."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Final, NamedTuple

from livelift.model.entry import Attributes
from livelift.platform.system import os, stamp_clock
from livelift.verify.cache import NOTHING_MAPPED, Cached, DigestCache, Key, Mapped, may_keep
from livelift.verify.content import EMPTY, content_steps
from livelift.verify.directories import LARGEST, Seen, Whole, stamps_of, whole_of
from livelift.verify.manifest import CHANGING, ManifestEntry, encode_entry, entry_of, join, meta_of, row_of

ATTEMPTS: Final = 5
"""How often to look again at an object that changes while it is read. At a cut nothing changes; while following,
something may."""

AttributesAt = Callable[[int, bytes], Attributes]
"""(descriptor of the directory, name) -> attributes; an empty name is the directory itself. Raises OSError."""


class Unread(NamedTuple):
    """An object that the cache does not vouch for: its place in the lot, and what is known of it."""

    place: int
    name: bytes
    seen: os.stat_result
    known: Cached | None


@dataclass(slots=True)
class Lot:
    """Some names of one directory, in order. A name that is gone has an empty row."""

    rows: list[bytes]
    unread: list[Unread] = field(default_factory=list)
    links: list[tuple[bytes, int, int]] = field(default_factory=list)  # (name, st_dev, st_ino) with several links
    troubled: bool = False
    whole: Whole | None = None  # the rows are not made: this is known of all of them
    key: Key = (0, 0)  # of the directory
    seen: list[Seen] = field(default_factory=list)
    stamps: bytes = b""  # of ``seen``; empty: nothing is kept of the directory as a whole


@dataclass(slots=True)
class Counts:
    """Work done: bytes that were read and hashed, files and bytes that the cache vouched for."""

    objects: int = 0
    files: int = 0
    bytes_hashed: int = 0
    files_cached: int = 0
    bytes_cached: int = 0
    troubles: int = 0

    def add(self, other: Counts) -> None:
        self.objects += other.objects
        self.files += other.files
        self.bytes_hashed += other.bytes_hashed
        self.files_cached += other.files_cached
        self.bytes_cached += other.bytes_cached
        self.troubles += other.troubles


class Measurer:
    """First `look`, then `read` what the cache did not know; both may run in several threads at once.

    ``sampled``: whether the content of a path is to be read (None: of all). ``mapped`` may be replaced between two
    passes.
    """

    def __init__(self, attributes_at: AttributesAt, cache: DigestCache) -> None:
        self.mapped: Mapped = NOTHING_MAPPED
        self.sampled: Callable[[bytes], bool] | None = None
        self._attributes_at = attributes_at
        self._cache = cache
        self._lock = Lock()
        self._total = Counts()

    @property
    def counts(self) -> Counts:
        with self._lock:
            return replace(self._total)

    def reset(self) -> None:
        """Count anew."""
        with self._lock:
            self._total = Counts()

    def twin(self) -> Measurer:
        """One that sees the same and counts for itself."""
        other = Measurer(self._attributes_at, self._cache)
        other.mapped, other.sampled = self.mapped, self.sampled
        return other

    def look(
        self, dir_fd: int, directory: bytes, names: Sequence[bytes], bare: Collection[bytes] = (), whole: bool = False
    ) -> Lot:
        """Rows of these names as far as the cache vouches for them; b"" stands for the directory itself. ``whole``:
        they are all that is in it, and if the cache vouches for that, no row is made.

        Trouble with an object is in its row; trouble with the cache raises StoreError.
        """
        lot = Lot([b""] * len(names))
        counts = Counts()
        seen: list[Seen] = []
        kinds: list[tuple[bytes, int]] = []
        for index, name in enumerate(names):
            try:
                status = os.stat(name or b".", dir_fd=dir_fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                _trouble(lot, counts, index, name, 0, reason(error))
                continue
            if name in bare:
                kinds.append((name, stat.S_IFMT(status.st_mode)))
                lot.rows[index] = encode_entry(ManifestEntry(*kinds[-1]))
            else:
                seen.append((index, name, status))
        if whole and self.sampled is None and not lot.troubled and len(seen) <= LARGEST:
            lot.seen, lot.stamps = seen, stamps_of(seen, kinds)
            if self._vouched(dir_fd, lot, counts):
                self._add(counts)
                return lot
        known = self._cache.lookup([(status.st_dev, status.st_ino) for _, _, status in seen])
        for index, name, status in seen:
            key = (status.st_dev, status.st_ino)
            cached = known.get(key)
            if cached is not None and (not cached.matches(status) or key in self.mapped.files):
                cached = None
            row = None if cached is None else self._from_cache(directory, name, status, cached, counts)
            if row is None:
                lot.unread.append(Unread(index, name, status, cached))
            else:
                lot.rows[index] = row
                _note_link(lot, name, status)
        self._add(counts)
        return lot

    def _vouched(self, dir_fd: int, lot: Lot, counts: Counts) -> bool:
        """Whether nothing in this directory has changed since its manifest was kept."""
        status = os.fstat(dir_fd)
        lot.key = status.st_dev, status.st_ino
        known = self._cache.whole(lot.key) if lot.stamps else None
        if known is None or known.stamps != lot.stamps:
            return False
        mapped = self.mapped.files
        if mapped and not mapped.isdisjoint((st.st_dev, st.st_ino) for _, _, st in lot.seen):
            return False
        lot.whole = known
        for _, name, st in lot.seen:
            _note_link(lot, name, st)
        counts.objects += known.objects
        counts.files_cached += known.files
        counts.bytes_cached += known.bytes
        return True

    def keep(self, lot: Lot, digest: bytes) -> None:
        """The manifest of a directory was made; it is kept if every object in it was."""
        if lot.stamps and not lot.troubled:
            self._cache.store_whole(lot.key, whole_of(lot.stamps, digest, lot.seen))

    def read(self, dir_fd: int, directory: bytes, lot: Lot, unread: Iterable[Unread]) -> None:
        """Fill in the rows of these objects."""
        for item in unread:
            for _ in self.steps(dir_fd, directory, lot, item):
                pass

    def steps(self, dir_fd: int, directory: bytes, lot: Lot, item: Unread) -> Generator[int, None, None]:
        """The same for one object, with a pause after each read of up to 1 MiB: yields the bytes read."""
        index, name, seen, known = item
        counts = Counts()
        kept = False
        try:
            for attempt in range(ATTEMPTS):
                began = stamp_clock()
                attributes = self._attributes_at(dir_fd, name)
                stamp = (attributes.size, attributes.mtime, attributes.ctime)
                if stamp == (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns):
                    content = yield from self._content(dir_fd, directory, name, seen, known, counts)
                    if content is not None:
                        row = encode_entry(entry_of(name, attributes, *content))
                        lot.rows[index] = row
                        counts.objects += 1
                        _note_link(lot, name, seen)
                        if may_keep(seen, began, self.mapped):
                            cached = Cached(*stamp, *content, meta_of(row, name, *content))
                            self._cache.store([((seen.st_dev, seen.st_ino), cached)])
                            kept = not attempt
                        return
                seen, known = os.stat(name or b".", dir_fd=dir_fd, follow_symlinks=False), None
        except FileNotFoundError:
            return
        except OSError as error:
            _trouble(lot, counts, index, name, seen.st_mode, reason(error))
        except OverflowError:
            _trouble(lot, counts, index, name, seen.st_mode, "a time or number beyond 64 bits")
        else:
            _trouble(lot, counts, index, name, seen.st_mode, CHANGING)
        finally:
            self._add(counts)
            if not kept:
                lot.stamps = b""

    def _content(
        self, dir_fd: int, directory: bytes, name: bytes, seen: os.stat_result, known: Cached | None, counts: Counts
    ) -> Generator[int, None, tuple[bytes, bytes] | None]:
        """(digest, layout), both empty where there is nothing to read; None if the file changed under our hands."""
        if not stat.S_ISREG(seen.st_mode) or not self._wants(directory, name):
            return b"", b""
        if not seen.st_size:
            return EMPTY, b""
        if known is not None and known.content:
            return known.content, known.layout
        content = yield from content_steps(dir_fd, name, seen)
        if content is None:
            return None
        counts.files += 1
        counts.bytes_hashed += content.read
        return content.digest, content.layout

    def _from_cache(
        self, directory: bytes, name: bytes, seen: os.stat_result, cached: Cached, counts: Counts
    ) -> bytes | None:
        content, layout = cached.content, cached.layout
        if stat.S_ISREG(seen.st_mode):
            if not self._wants(directory, name):
                content = layout = b""
            elif not content:
                return None
            elif seen.st_size:
                counts.files_cached += 1
                counts.bytes_cached += seen.st_size
        counts.objects += 1
        return row_of(name, cached.meta, content, layout)

    def _wants(self, directory: bytes, name: bytes) -> bool:
        return self.sampled is None or self.sampled(join(directory, name))

    def _add(self, counts: Counts) -> None:
        with self._lock:
            self._total.add(counts)


def _note_link(lot: Lot, name: bytes, seen: os.stat_result) -> None:
    if seen.st_nlink > 1 and not stat.S_ISDIR(seen.st_mode):
        lot.links.append((name, seen.st_dev, seen.st_ino))


def _trouble(lot: Lot, counts: Counts, index: int, name: bytes, mode: int, text: str) -> None:
    lot.rows[index] = encode_entry(ManifestEntry(name, stat.S_IFMT(mode), trouble=text))
    lot.troubled = True
    counts.objects += 1
    counts.troubles += 1


def reason(error: OSError) -> str:
    """The trouble of an object, in ASCII (`compare` relies on it)."""
    text = f"{errno.errorcode.get(error.errno or 0, 'error')}: {error.strerror}"
    return text.encode("ascii", "backslashreplace").decode("ascii")

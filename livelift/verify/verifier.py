"""One side of a verification: the maps' trees, the digest cache, the hard links and the counts, under one roof."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from blake3 import blake3

from livelift.errors import WireError
from livelift.platform.system import os
from livelift.verify.cache import NOTHING_MAPPED, DigestCache, Mapped
from livelift.verify.links import LinkTable
from livelift.verify.manifest import DirectoryManifest
from livelift.verify.measure import AttributesAt, Counts, Measurer
from livelift.verify.messages import Finished
from livelift.verify.pieces import Pieces, read_pieces
from livelift.verify.rolling import Progress, Rolling
from livelift.verify.scan import Ignore, Scanner

Sampled = Callable[[bytes], bool]
Manifest = TypeVar("Manifest", bound=DirectoryManifest | None)


class TreeVerifier:
    """Used by one thread; inside, ``threads`` read attributes and content (1: none beside the caller's).

    ``roots``: (map index, absolute path). ``ignore(map, path)``: a `Scope`, or True to leave the path out; it must
    answer alike on both sides, so it sees paths below the root only. Raises OSError if a root cannot be opened. Use
    as a context manager or ``close``; the cache belongs to the caller.
    """

    def __init__(
        self,
        roots: Sequence[tuple[int, bytes]],
        attributes_at: AttributesAt,
        cache: DigestCache,
        ignore: Callable[[int, bytes], int] = lambda _map, _path: 0,
        threads: int = 4,
    ) -> None:
        self.links = LinkTable()
        self._cache = cache
        self._pool = ThreadPoolExecutor(threads, "verify") if threads > 1 else None
        self._directories = 0
        self._sides: dict[int, tuple[Scanner, Measurer]] = {}
        self._rolling = Rolling([], cache)
        try:
            for index, root in roots:
                measurer = Measurer(attributes_at, cache)
                scanner = Scanner(index, root, measurer, self.links, _of_map(ignore, index), self._pool)
                self._sides[index] = scanner, measurer
        except OSError:
            self.close()
            raise
        # Its own measurers: it has its own counts and reads the content of all files, whatever the sample.
        self._rollers = [(scanner, Measurer(attributes_at, cache)) for scanner, _ in self._sides.values()]
        self._rolling = Rolling(self._rollers, cache)

    @property
    def maps(self) -> list[int]:
        return sorted(self._sides)

    @property
    def counts(self) -> Counts:
        """Work since ``begin``."""
        total = Counts()
        for _, measurer in self._sides.values():
            total.add(measurer.counts)
        return total

    def begin(self, fraction: float = 1.0, key: bytes = bytes(32)) -> None:
        """A verification begins: links and counts start anew. ``fraction`` of the files have their content read.

        Which ones follows from the key, the map and the path, so both sides choose the same. Metadata is always read.
        """
        self.links.clear()
        self._directories = 0
        for index, (_, measurer) in self._sides.items():
            measurer.reset()
            measurer.sampled = _sample(index, fraction, key) if fraction < 1 else None

    def mapped(self, mapped: Mapped = NOTHING_MAPPED) -> None:
        """Files that are mapped writable now: neither looked up in the cache nor kept. Call it before each pass on a
        live tree."""
        for _, measurer in (*self._sides.values(), *self._rollers):
            measurer.mapped = mapped

    def directory(self, map_index: int, path: bytes) -> DirectoryManifest | None:
        """One directory now; None if it is not there."""
        return next(iter(self.lookup(map_index, [path])))

    def lookup(self, map_index: int, paths: Sequence[bytes]) -> Iterable[DirectoryManifest | None]:
        """Many at once, in order, read in parallel. Raises WireError for a map that is not part of the job."""
        side = self._sides.get(map_index)
        if side is None:
            raise WireError(f"map {map_index} is not part of this verification")
        return self._counted(side[0].lookup(paths))

    def directories(self, map_index: int) -> Iterator[DirectoryManifest]:
        """Every directory of one map, parents first, names as bytes in order."""
        return self._counted(self._sides[map_index][0].directories())

    def everything(self) -> Iterator[DirectoryManifest]:
        """Every directory of every map: what an `exchange.Asker` wants."""
        for index in self.maps:
            yield from self.directories(index)

    def pieces(self, map_index: int, path: bytes, piece: int = 0) -> Pieces | None:
        """What the file at this path has in its pieces (`read_pieces`). What is kept of it is forgotten: the next
        comparison reads it, whatever its stamp says. OSError; WireError as for `lookup`."""
        side = self._sides.get(map_index)
        if side is None:
            raise WireError(f"map {map_index} is not part of this verification")
        fd = side[0].open_parent(path)
        try:
            name = path.rpartition(b"/")[2]
            status, directory = os.stat(name, dir_fd=fd, follow_symlinks=False), os.fstat(fd)
            key = status.st_dev, status.st_ino
            found = read_pieces(fd, name, piece, self._cache.lookup([key]).get(key))
            self._cache.forget(key, (directory.st_dev, directory.st_ino))
            return found
        finally:
            os.close(fd)

    def step(self, seconds: float) -> Progress:
        """Rolling mode: hash, for about this long, what changed since it was last hashed."""
        return self._rolling.step(seconds)

    def finished(self, tree: bytes = bytes(32)) -> Finished:
        """The counts of this side, as they travel and stand in the report. Writes the rest of the cache."""
        self._cache.flush()
        counts = self.counts
        return Finished(
            tree,
            self._directories,
            counts.objects,
            counts.files,
            counts.bytes_hashed,
            counts.files_cached,
            counts.bytes_cached,
            counts.troubles,
        )

    def close(self) -> None:
        self._rolling.close()
        if self._pool is not None:
            self._pool.shutdown()
        for scanner, _ in self._sides.values():
            scanner.close()
        self.links.close()

    def __enter__(self) -> TreeVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _counted(self, manifests: Iterator[Manifest]) -> Iterator[Manifest]:
        for manifest in manifests:
            self._directories += manifest is not None
            yield manifest


def _of_map(ignore: Callable[[int, bytes], int], index: int) -> Ignore:
    return lambda path: ignore(index, path)


def _sample(index: int, fraction: float, key: bytes) -> Sampled:
    limit = int(fraction * (1 << 64))
    prefix = index.to_bytes(2, "big")

    def sampled(path: bytes) -> bool:
        return int.from_bytes(blake3(prefix + path, key=key).digest(8), "big") < limit

    return sampled

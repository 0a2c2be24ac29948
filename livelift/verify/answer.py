"""The target's half of the dialogue: looks up what the source asks for and says what is different here. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from livelift.errors import StateError, VersionError, WireError
from livelift.verify.manifest import DirectoryManifest, TreeDigest
from livelift.verify.messages import (
    FORMAT,
    PAGE_BYTES,
    AskDirectories,
    AskLinks,
    Begin,
    Begun,
    Differing,
    Directories,
    FetchLinks,
    FetchRows,
    Finish,
    Finished,
    LinkRows,
    Links,
    Reply,
    Request,
    Rows,
    check_path,
    decode_request,
    encode,
    unpack_paths,
)
from livelift.verify.partition import Row

LINKS: Final = b"\0hard links"
"""Stands for a map's hard links in the tree digest; no path holds a NUL."""


class LinkSource(Protocol):
    """One side's hard links (`verify.links.LinkTable`), complete once every directory has been scanned."""

    def digest(self, map_index: int) -> bytes: ...

    def rows(self, map_index: int, after: bytes = b"") -> Iterator[Row]: ...


class Answering(Protocol):
    """What the answerer needs from the target's side (`verify.verifier.TreeVerifier`)."""

    @property
    def links(self) -> LinkSource: ...

    def begin(self, fraction: float, key: bytes) -> None:
        """A verification begins: forget links and counts of the one before, choose the sample."""

    def lookup(self, map_index: int, paths: Sequence[bytes]) -> Iterable[DirectoryManifest | None]:
        """The manifests of these directories, in order; None = no such directory. Raises WireError for an unknown
        map."""

    def finished(self) -> Finished: ...


class Answerer:
    """The target's half: one reply to each question. Lives for any number of verifications, one after the other."""

    def __init__(self, side: Answering) -> None:
        self._side = side
        self._begun = False
        self._tree = TreeDigest()
        self._held: dict[tuple[int, bytes], DirectoryManifest] = {}

    def answer(self, payload: bytes) -> bytes:
        """Raises WireError for a malformed question, VersionError for another format, StateError before Begin."""
        request = decode_request(payload)
        if not self._begun and not isinstance(request, Begin):
            raise StateError("a verification question before the beginning")
        return encode(self._reply(request))

    def _reply(self, request: Request) -> Reply:
        match request:
            case Begin(format=number, fraction=fraction, key=key):
                if number != FORMAT:
                    raise VersionError(f"verification format {number} there, {FORMAT} here")
                self._held.clear()
                self._tree = TreeDigest()
                self._side.begin(fraction, key)
                self._begun = True
                return Begun()
            case AskDirectories():
                return self._directories(request)
            case FetchRows(map=index, path=path, start=start):
                return self._fetch(index, path, start)
            case AskLinks(map=index, digest=theirs):
                ours = self._side.links.digest(index)
                self._tree.add(index, LINKS, ours)
                return Links(ours == theirs)
            case FetchLinks(map=index, after=after):
                return _link_page(self._side.links.rows(index, after))
            case Finish():
                self._held.clear()
                return msgspec.structs.replace(self._side.finished(), tree=self._tree.value())

    def _directories(self, request: AskDirectories) -> Directories:
        asked = unpack_paths(request.directories)
        manifests = self._side.lookup(request.map, [path for path, _ in asked])
        absent: list[int] = []
        differing: list[Differing] = []
        room = PAGE_BYTES
        for index, ((path, digest), manifest) in enumerate(zip(asked, manifests, strict=True)):
            if manifest is None:
                absent.append(index)
                continue
            self._tree.add(request.map, path, manifest.digest)
            if manifest.digest == digest and not manifest.troubled:
                continue
            rows = _fit(manifest.rows, 0, room) if room > 0 else ()
            room -= sum(map(len, rows))
            more = len(rows) < len(manifest.rows)
            if more:
                self._held[request.map, path] = manifest
            differing.append(Differing(index, rows, more))
        return Directories(tuple(absent), tuple(differing))

    def _fetch(self, index: int, path: bytes, start: int) -> Rows:
        check_path(path)
        manifest = self._held.get((index, path))
        if manifest is None:
            raise WireError("rows of a directory that was not in question")
        rows = _fit(manifest.rows, start, PAGE_BYTES)
        more = start + len(rows) < len(manifest.rows)
        if not more:
            del self._held[index, path]
        return Rows(rows, more)


def _fit(rows: Sequence[bytes], start: int, room: int) -> tuple[bytes, ...]:
    """Rows from ``start`` on while they fit; at least one."""
    end = start
    while end < len(rows) and (end == start or room >= len(rows[end])):
        room -= len(rows[end])
        end += 1
    return tuple(rows[start:end])


def _link_page(rows: Iterator[Row]) -> LinkRows:
    page: list[Row] = []
    room = PAGE_BYTES
    for row in rows:
        if room < 0:
            return LinkRows(tuple(page), True)
        page.append(row)
        room -= len(row[0]) + len(row[1])
    return LinkRows(tuple(page), False)

"""The comparison of two trees over a wire, as a dialogue of opaque payloads; the asker. Pure.

`Asker` (source) sends digests of its directories in order; `answer.Answerer` (target) says which of them differ at its
side and sends their rows. Equal trees cost about 40 bytes a directory. A directory that only the target has shows up in
the rows of its parent, which both sides have, by induction from the root. At the end the hard-link partitions are
compared by one digest a map. Who carries the payloads is not our business.

The asker may have several questions on their way; replies come in the order of the questions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from livelift.errors import StateError, WireError
from livelift.verify.answer import LINKS, LinkSource
from livelift.verify.compare import EXTRA, MISSING, Difference, Prefixes, compare_rows
from livelift.verify.manifest import DirectoryManifest, TreeDigest
from livelift.verify.messages import (
    FORMAT,
    PAGE_BYTES,
    PAGE_DIRECTORIES,
    AskDirectories,
    AskLinks,
    Begin,
    Begun,
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
    decode_reply,
    encode,
    pack_paths,
)
from livelift.verify.partition import LinkComparison

PAGE_ROWS: Final = 32768
"""Rows that a question may cover: they stay in the asker's memory until the answer is there."""

NO_SAMPLE: Final = bytes(32)


Handler = Callable[[Reply], list[Difference]]


class Outcome(NamedTuple):
    """``source_tree`` and ``target_tree``: equal if and only if nothing differs, not even the layout of holes."""

    source_tree: bytes
    target_tree: bytes
    target: Finished


class Asker:
    """The source's half. Alternate ``request`` and ``receive`` until ``outcome`` is there.

    ``directories``: all manifests of all ``maps``, map by map, each tree parents first (`TreeVerifier.everything`).
    """

    def __init__(
        self,
        directories: Iterable[DirectoryManifest],
        links: LinkSource,
        maps: Sequence[int],
        fraction: float = 1.0,
        key: bytes = NO_SAMPLE,
        window: int = 4,
    ) -> None:
        self.outcome: Outcome | None = None
        self._links = links
        self._window = window
        self._handlers: deque[Handler] = deque()
        self._fetches: deque[tuple[DirectoryManifest, list[bytes]]] = deque()
        self._absent: list[tuple[int, bytes]] = []
        self._gone = Prefixes()  # missing on the target, or of another type there
        self._extra = Prefixes()
        self._tree = TreeDigest()
        self._late: list[Difference] = []
        self._script = self._questions(iter(directories), list(maps), Begin(FORMAT, fraction, key))

    def request(self) -> bytes | None:
        """The next question, or None: receive a reply first (or, with an outcome, there is nothing left to ask)."""
        if len(self._handlers) >= self._window:
            return None
        question = next(self._script, None)
        if question is None:
            return None
        message, handler = question
        self._handlers.append(handler)
        return encode(message)

    def receive(self, payload: bytes) -> list[Difference]:
        """A reply. Returns the differences that are known now. Raises WireError; the dialogue is then over."""
        if not self._handlers:
            raise WireError("a verification reply that nobody asked for")
        found = self._handlers.popleft()(decode_reply(payload))
        for difference in found:
            if difference.field in (MISSING, "type"):
                self._gone.add(difference.map, difference.path)
            if difference.field in (EXTRA, "type"):
                self._extra.add(difference.map, difference.path)
        late, self._late = self._late, []
        return found + late

    def _questions(
        self, directories: Iterator[DirectoryManifest], maps: list[int], begin: Begin
    ) -> Iterator[tuple[Request, Handler] | None]:
        """Everything to ask, in order; None = wait for replies. A phase begins when the one before is answered."""
        yield begin, self._begun
        for page in pages(directories):
            yield from self._fetching()
            yield self._ask(page)
        while self._handlers or self._fetches:
            yield from self._fetching()
            if self._handlers:
                yield None
        self._late += [
            Difference(index, path, MISSING, "directory")
            for index, path in self._absent
            if not self._gone.covers(index, path)
        ]
        for index in maps:
            yield from self._partition(index)
        yield Finish(), self._finished

    def _ask(self, page: list[DirectoryManifest]) -> tuple[Request, Handler]:
        for manifest in page:
            self._tree.add(manifest.map, manifest.path, manifest.digest)
        digests = [(manifest.path, b"" if manifest.troubled else manifest.digest) for manifest in page]

        def answered(reply: Reply) -> list[Difference]:
            if not isinstance(reply, Directories):
                raise _unexpected(reply)
            found: list[Difference] = []
            try:
                for index in reply.absent:
                    where = (page[index].map, page[index].path)
                    if not self._absent or not Prefixes(self._absent[-1:]).covers(*where):
                        self._absent.append(where)
                for differing in reply.differing:
                    found += self._rows(page[differing.index], [], differing.rows, differing.more)
            except IndexError:
                raise WireError("a reply about a directory that was not in the question") from None
            return found

        return AskDirectories(page[0].map, pack_paths(digests)), answered

    def _rows(
        self, manifest: DirectoryManifest, before: list[bytes], rows: Sequence[bytes], more: bool
    ) -> list[Difference]:
        before.extend(rows)
        if more:
            self._fetches.append((manifest, before))
            return []
        return compare_rows(manifest.map, manifest.path, manifest.rows, before)

    def _fetching(self) -> Iterator[tuple[Request, Handler] | None]:
        while self._fetches:
            manifest, before = self._fetches.popleft()

            def answered(
                reply: Reply, manifest: DirectoryManifest = manifest, before: list[bytes] = before
            ) -> list[Difference]:
                if not isinstance(reply, Rows) or (reply.more and not reply.rows):
                    raise _unexpected(reply)
                return self._rows(manifest, before, reply.rows, reply.more)

            yield FetchRows(manifest.map, manifest.path, len(before)), answered

    def _partition(self, index: int) -> Iterator[tuple[Request, Handler] | None]:
        digest = self._links.digest(index)
        self._tree.add(index, LINKS, digest)
        replies: list[Reply] = []

        def answered(reply: Reply) -> list[Difference]:
            replies.append(reply)
            return []

        yield AskLinks(index, digest), answered
        while not replies:
            yield None
        first = replies.pop()
        if not isinstance(first, Links):
            raise _unexpected(first)
        if first.equal:
            return
        comparison = LinkComparison(index, self._links.rows(index))
        after, more = b"", True
        while more:
            yield FetchLinks(index, after), answered
            while not replies:
                yield None
            reply = replies.pop()
            if not isinstance(reply, LinkRows) or (reply.more and not reply.rows):
                raise _unexpected(reply)
            for path, _ in reply.rows:
                if path <= after:
                    raise WireError("hard links out of order")
                after = path
            comparison.feed(reply.rows)
            more = reply.more
        self._late += comparison.finish(
            lambda path: self._gone.covers(index, path), lambda path: self._extra.covers(index, path)
        )

    def _begun(self, reply: Reply) -> list[Difference]:
        if not isinstance(reply, Begun):
            raise _unexpected(reply)
        return []

    def _finished(self, reply: Reply) -> list[Difference]:
        if not isinstance(reply, Finished):
            raise _unexpected(reply)
        self.outcome = Outcome(self._tree.value(), reply.tree, reply)
        return []


def pages(directories: Iterable[DirectoryManifest]) -> Iterator[list[DirectoryManifest]]:
    """Pages of one map each, bounded in directories, in bytes of paths and in rows that wait for the answer."""
    page: list[DirectoryManifest] = []
    size = rows = 0
    for manifest in directories:
        if page and (
            len(page) == PAGE_DIRECTORIES
            or size + len(manifest.path) > PAGE_BYTES
            or rows + manifest.count > PAGE_ROWS
            or page[0].map != manifest.map
        ):
            yield page
            page, size, rows = [], 0, 0
        page.append(manifest)
        size += len(manifest.path)
        rows += manifest.count
    if page:
        yield page


def ask_all(asker: Asker, carry: Callable[[bytes], bytes]) -> list[Difference]:
    """The whole dialogue over a carrier that brings one question there and its reply back."""
    found: list[Difference] = []
    while asker.outcome is None:
        request = asker.request()
        if request is None:
            raise StateError("the verification has come to a halt")
        found += asker.receive(carry(request))
    return found


def _unexpected(reply: Reply) -> WireError:
    return WireError(f"a reply of type {type(reply).__name__} that does not fit the question")

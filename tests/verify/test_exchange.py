from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livelift.errors import LiveliftError, WireError
from livelift.verify import answer, exchange
from livelift.verify.answer import Answerer
from livelift.verify.compare import Difference, compare_trees
from livelift.verify.exchange import Asker, ask_all, pages
from livelift.verify.links import LinkTable
from livelift.verify.manifest import LISTING, DirectoryManifest, ManifestEntry, directory_manifest, join
from livelift.verify.messages import (
    Begun,
    Differing,
    Directories,
    FetchRows,
    Finished,
    Links,
    Rows,
    decode_request,
    encode,
)

KEY = bytes(32)


class Side:
    """A tree in memory. ``tree``: directory path -> its entries (with the root's own row, where wanted)."""

    def __init__(self, tree: dict[bytes, list[ManifestEntry]], links: Sequence[tuple[bytes, bytes, int]] = ()) -> None:
        self.manifests = {path: directory_manifest(0, path, entries) for path, entries in tree.items()}
        self.links = LinkTable()
        for directory in {directory for directory, _, _ in links}:
            self.links.put(0, directory, [(name, 1, inode) for where, name, inode in links if where == directory])
        self.began: list[tuple[float, bytes]] = []

    def begin(self, fraction: float, key: bytes) -> None:
        self.began.append((fraction, key))

    def lookup(self, map_index: int, paths: Sequence[bytes]) -> Iterator[DirectoryManifest | None]:
        return (self.manifests.get(path) for path in paths)

    def finished(self) -> Finished:
        return Finished(bytes(32), len(self.manifests), 0, 0, 0, 0, 0, 0)

    def preorder(self) -> list[DirectoryManifest]:
        paths = sorted(self.manifests, key=lambda path: path.split(b"/") if path else [])
        return [self.manifests[path] for path in paths]


def ask(source: Side, target: Side, window: int = 4) -> tuple[list[Difference], Asker]:
    asker = Asker(source.preorder(), source.links, [0], window=window)
    return ask_all(asker, Answerer(target).answer), asker


NAMES = [b"a", b"b", b"a-b", b"\xff"]
file_entries = st.builds(
    ManifestEntry,
    name=st.just(b""),
    mode=st.sampled_from([stat.S_IFREG | 0o644, stat.S_IFREG | 0o600, stat.S_IFLNK]),
    uid=st.integers(0, 1),
    content=st.sampled_from([b"x" * 32, b"y" * 32]),
    trouble=st.sampled_from(["", "", "", "EIO"]),
)


@st.composite
def trees(draw: st.DrawFn) -> dict[bytes, list[ManifestEntry]]:
    tree: dict[bytes, list[ManifestEntry]] = {}

    def grow(path: bytes, depth: int) -> None:
        entries = [] if path else [ManifestEntry(b"", stat.S_IFDIR | 0o755)]
        tree[path] = entries
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3)):
            if depth < 3 and draw(st.booleans()):
                entries.append(ManifestEntry(name, stat.S_IFDIR | draw(st.sampled_from([0o755, 0o700]))))
                grow(join(path, name), depth + 1)
            else:
                entry = draw(file_entries)
                entries.append(msgspec.structs.replace(entry, name=name))

    grow(b"", 0)
    return tree


@settings(deadline=None)
@given(trees(), trees(), st.integers(1, 5), st.integers(1, 4), st.integers(1, 200))
def test_the_dialogue_finds_exactly_what_a_direct_comparison_finds(
    one: dict[bytes, list[ManifestEntry]],
    other: dict[bytes, list[ManifestEntry]],
    window: int,
    directories: int,
    page_bytes: int,
) -> None:
    source, target = Side(one), Side(other)
    before = exchange.PAGE_DIRECTORIES, exchange.PAGE_BYTES
    exchange.PAGE_DIRECTORIES, exchange.PAGE_BYTES, answer.PAGE_BYTES = directories, page_bytes, page_bytes
    try:
        found, asker = ask(source, target, window)
    finally:
        exchange.PAGE_DIRECTORIES, exchange.PAGE_BYTES = before
        answer.PAGE_BYTES = before[1]
    direct = list(compare_trees(source.preorder(), lambda _map, path: target.manifests.get(path)))
    assert sorted(found) == sorted(direct)
    assert asker.outcome is not None
    trouble = any(entry.trouble for entries in one.values() for entry in entries)
    if not trouble:
        assert (asker.outcome.source_tree == asker.outcome.target_tree) == (found == [])
    source.links.close()
    target.links.close()


@settings(deadline=None)
@given(trees())
def test_a_tree_is_equal_to_itself(tree: dict[bytes, list[ManifestEntry]]) -> None:
    side = Side(tree)
    found, asker = ask(side, side)
    assert [difference for difference in found if difference.field != "unreadable"] == []
    assert asker.outcome is not None and asker.outcome.source_tree == asker.outcome.target_tree
    side.links.close()


def big(count: int, content: bytes = b"x" * 32) -> Side:
    entries = [ManifestEntry(b"%08d" % number, stat.S_IFREG, content=content) for number in range(count)]
    return Side({b"": entries})


def test_a_directory_larger_than_a_page_travels_in_parts() -> None:
    source, target = big(30_000), big(30_000)
    entries = source.manifests[b""].entries()
    entries[12_345] = msgspec.structs.replace(entries[12_345], uid=7)
    target.manifests[b""] = directory_manifest(0, b"", entries)
    sizes = []
    answerer = Answerer(target)

    def carry(request: bytes) -> bytes:
        reply = answerer.answer(request)
        sizes.append(len(reply))
        return reply

    found = ask_all(Asker(source.preorder(), source.links, [0]), carry)
    assert found == [Difference(0, b"00012345", "uid", "0", "7")]
    assert max(sizes) < 1_200_000 and sum(size > 500_000 for size in sizes) >= 2
    assert answerer._held == {}


def test_questions_may_overtake_replies_within_the_window() -> None:
    tree = {b"": [ManifestEntry(b"%02d" % n, stat.S_IFDIR) for n in range(20)], **{b"%02d" % n: [] for n in range(20)}}
    source = Side(dict(tree))
    target = Side({**tree, b"07": [ManifestEntry(b"x", stat.S_IFREG)]})
    exchange_pages = list(pages(source.preorder()))
    assert len(exchange_pages) == 1
    asker = Asker(source.preorder(), source.links, [0], window=3)
    answerer = Answerer(target)
    pipe: list[bytes] = []
    found: list[Difference] = []
    while asker.outcome is None:
        while (request := asker.request()) is not None:
            pipe.append(answerer.answer(request))
        assert 0 < len(pipe) <= 3
        found += asker.receive(pipe.pop(0))
    assert found == [Difference(0, b"07/x", "extra on target", "", "file of 0 bytes")]
    assert asker.request() is None


def test_pages_are_bounded_in_rows_and_maps() -> None:
    manifests = [directory_manifest(0, b"%d" % n, [ManifestEntry(b"f%d" % m, 0) for m in range(40)]) for n in range(5)]
    manifests += [directory_manifest(1, b"", [])]
    before, exchange.PAGE_ROWS = exchange.PAGE_ROWS, 100
    try:
        assert [len(page) for page in pages(manifests)] == [2, 2, 1, 1]
    finally:
        exchange.PAGE_ROWS = before


def test_hard_links_travel_only_when_they_differ() -> None:
    tree = {b"": [ManifestEntry(name, stat.S_IFREG) for name in (b"a", b"b", b"c")]}
    links = [(b"", b"a", 1), (b"", b"b", 1)]
    equal, _ = ask(Side(tree, links), Side(tree, [(b"", b"a", 8), (b"", b"b", 8)]))
    assert equal == []
    found, asker = ask(Side(tree, links), Side(tree, [(b"", b"b", 9), (b"", b"c", 9)]))
    assert found == [
        Difference(0, b"b", "hard link", "link to a", "no link"),
        Difference(0, b"c", "hard link", "no link", "link to b"),
    ]
    assert asker.outcome is not None and asker.outcome.source_tree != asker.outcome.target_tree


def test_hard_links_over_many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "PAGE_BYTES", 40)
    names = [b"%03d" % number for number in range(100)]
    tree = {b"": [ManifestEntry(name, stat.S_IFREG) for name in names]}
    links = [(b"", name, number // 10) for number, name in enumerate(names)]
    other = [(where, name, 99 if name == b"055" else inode) for where, name, inode in links]
    found, _ = ask(Side(tree, links), Side(tree, other))
    assert found == [Difference(0, b"055", "hard link", "link to 050", "no link")]


def test_a_directory_that_neither_side_can_list() -> None:
    unlisted = Side({b"": [ManifestEntry(LISTING, stat.S_IFDIR, trouble="EIO")]})
    found, _ = ask(unlisted, unlisted)
    assert found == [Difference(0, b"", "unreadable", "EIO", "EIO")]


def test_the_sample_reaches_the_target() -> None:
    side = Side({b"": []})
    asker = Asker(side.preorder(), side.links, [0], 0.25, b"k" * 32)
    ask_all(asker, Answerer(side).answer)
    assert side.began == [(0.25, b"k" * 32)]


@pytest.mark.parametrize(
    "reply",
    [
        Links(True),
        Directories((7,), ()),
        Directories((), (Differing(9, (), False),)),
        Directories((), (Differing(0, (b"noise",), False),)),
        Rows((), True),
    ],
)
def test_asker_refuses_a_reply_that_does_not_fit(reply: Directories) -> None:
    side = Side({b"": [ManifestEntry(b"f", stat.S_IFREG)]})
    asker = Asker(side.preorder(), side.links, [0])
    assert asker.request() is not None
    asker.receive(encode(Begun()))
    assert asker.request() is not None
    with pytest.raises(WireError):
        asker.receive(encode(reply))


def test_a_peer_that_promises_rows_forever_is_stopped() -> None:
    side = Side({b"": [ManifestEntry(b"f", stat.S_IFREG)]})
    asker = Asker(side.preorder(), side.links, [0])
    asker.request()
    asker.receive(encode(Begun()))
    asker.request()
    asker.receive(encode(Directories((), (Differing(0, (), True),))))
    question = asker.request()
    assert question is not None and decode_request(question) == FetchRows(0, b"", 0)
    with pytest.raises(WireError):
        asker.receive(encode(Rows((), True)))


def test_a_reply_that_nobody_asked_for() -> None:
    side = Side({b"": []})
    with pytest.raises(WireError, match="nobody"):
        Asker(side.preorder(), side.links, [0]).receive(encode(Begun()))


@settings(deadline=None)
@given(trees(), trees(), st.integers(0, 10), st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_reply_raises_or_shows_as_a_difference(
    one: dict[bytes, list[ManifestEntry]], other: dict[bytes, list[ManifestEntry]], which: int, where: int, flip: int
) -> None:
    """The wire is authenticated; still nothing that arrives may bring the asker down in an unforeseen way."""
    source, target = Side(one), Side(other)
    answerer = Answerer(target)
    count = 0

    def carry(request: bytes) -> bytes:
        nonlocal count
        reply = bytearray(answerer.answer(request))
        if count == which:
            reply[where % len(reply)] ^= flip
        count += 1
        return bytes(reply)

    try:
        ask_all(Asker(source.preorder(), source.links, [0]), carry)
    except LiveliftError:
        pass
    finally:
        source.links.close()
        target.links.close()

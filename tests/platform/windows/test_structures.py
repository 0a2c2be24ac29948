"""The readers of what Windows fills in, against structures packed by the documented layouts, and against anything."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.platform.windows import information as info
from livelift.platform.windows import moves, names, notify, reparse, security, usn

TEXT = st.text(st.characters(exclude_categories=(), exclude_characters="\0"), min_size=1, max_size=40)
"""Lone surrogates included: NTFS takes them."""


def utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


def chained(elements: list[bytes], alignment: int) -> bytes:
    """Elements without their first field, linked by distance; the last one by 0."""
    out = b""
    for number, body in enumerate(elements):
        size = len(body) + 4
        step = -(-size // alignment) * alignment if number < len(elements) - 1 else 0
        out += struct.pack("<I", step) + body + bytes(step - size if step else 0)
    return out


@given(TEXT)
def test_every_name_comes_back(text: str) -> None:
    name = names.to_bytes(utf16(text))
    assert names.to_utf16(name) == utf16(text)
    assert names.to_text(name) == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a\\b", b"a/b", b"a\0b"])
def test_what_is_not_one_name_is_refused(name: bytes) -> None:
    with pytest.raises(ValueError):
        names.one_name(name)


@given(st.integers(1, (1 << 40) - 1), st.integers(0, 0xFFFF))
def test_a_reference_folds_into_56_bits_and_back(index: int, sequence: int) -> None:
    reference = sequence << 48 | index
    folded = info.fold_reference(reference)
    assert 0 < folded < 1 << 56
    assert info.unfold_reference(folded) == reference


@pytest.mark.parametrize("reference", [0, 1 << 40, (1 << 48) - 1])
def test_a_reference_that_no_ntfs_has_is_refused(reference: int) -> None:
    with pytest.raises(ValueError):
        info.fold_reference(reference)


def test_times() -> None:
    assert info.to_ns(116444736000000000) == 0
    assert info.to_ns(info.to_filetime(1_500_000_000_123_456_700)) == 1_500_000_000_123_456_700
    assert info.to_filetime(-100) == 116444735999999999


def test_the_information_of_an_object() -> None:
    raw = struct.pack("<qqqqI4x", 1, 2, 3, 4, 0x420) + struct.pack("<qqIBB2x", 8192, 5000, 2, 0, 0)
    raw += struct.pack("<Q", 7 << 48 | 99) + struct.pack("<I", 30) + bytes(200)
    found = info.parse_all(raw)
    assert found == info.Information(1, 2, 3, 4, 0x420, 8192, 5000, 2, False, False, 7 << 48 | 99, 30)
    assert found.reparse


def test_a_directory_with_short_names_and_links() -> None:
    def entry(name: str, short: str, attributes: int, extra: int) -> bytes:
        head = struct.pack("<IqqqqqqIII", 0, 1, 2, 30, 40, 500, 512, attributes, len(utf16(name)), extra)
        return head + struct.pack("<Bx24s2xQ", len(utf16(short)), utf16(short), 77) + utf16(name)

    raw = chained([entry(".", "", 0x10, 0), entry("long name.text", "LONGNA~1.TEX", 0x20, 5),
                   entry("☃", "", 0x410, reparse.SYMLINK)], 8)  # fmt: skip
    one, two = info.parse_directory(raw)
    assert one == info.Entry(b"long name.text", b"LONGNA~1.TEX", 77, 0x20, 500, 30, 40, 0)
    assert (two.name, two.reparse_tag) == ("☃".encode(), reparse.SYMLINK)


def test_streams_and_extended_attributes() -> None:
    def stream(name: str) -> bytes:
        return struct.pack("<Iqq", len(utf16(name)), 10, 16) + utf16(name)

    raw = chained([stream("::$DATA"), stream(":Zone.Identifier:$DATA"), stream(":$I30:$INDEX_ALLOCATION")], 8)
    assert info.parse_streams(raw) == [info.Stream(b"", 10, 16), info.Stream(b"Zone.Identifier", 10, 16)]
    eas = chained([struct.pack("<BBH", 0x80, 3, 2) + b"ABC\0xy", struct.pack("<BBH", 0, 1, 0) + b"D\0"], 4)
    assert info.parse_eas(eas) == [
        info.ExtendedAttribute(b"ABC", b"xy", 0x80), info.ExtendedAttribute(b"D", b"", 0),
    ]  # fmt: skip


def test_ranges_and_pointers() -> None:
    assert info.parse_ranges(struct.pack("<qqqq", 0, 10, 20, 5)) == [(0, 10), (20, 5)]
    with pytest.raises(ValueError):
        info.parse_ranges(struct.pack("<qqqq", 0, 10, 5, 5))
    raw = struct.pack("<I4xq", 2, 0) + struct.pack("<qqqq", 16, 1000, 32, -1)
    assert info.parse_pointers(raw) == [info.Run(0, 1000, 16), info.Run(16, -1, 16)]


@pytest.mark.parametrize(
    ("tag", "relative", "substitute", "printed", "text"),
    [
        (reparse.SYMLINK, True, "..\\x", "..\\x", b"../x"),
        (reparse.SYMLINK, False, "\\??\\C:\\a", "C:\\a", b"C:/a"),
        (reparse.MOUNT_POINT, False, "\\??\\D:\\b", "", b"D:/b"),
    ],
)
def test_links(tag: int, relative: bool, substitute: str, printed: str, text: bytes) -> None:
    one, two = utf16(substitute), utf16(printed)
    data = struct.pack("<HHHH", 0, len(one), len(one), len(two))
    data += struct.pack("<I", relative) if tag == reparse.SYMLINK else b""
    data += one + two
    found = reparse.parse_reparse(struct.pack("<IHH", tag, len(data), 0) + data)
    assert found == reparse.Reparse(tag, substitute.encode(), printed.encode(), relative)
    assert reparse.link_text(found) == text
    assert reparse.is_surrogate(tag) and not reparse.is_surrogate(reparse.DEDUP)
    with pytest.raises(ValueError):
        reparse.parse_reparse(struct.pack("<IHH", tag, len(data), 0) + data[:-2])


@given(st.lists(st.tuples(st.integers(1, 8), TEXT), min_size=1, max_size=20))
def test_notices_come_back_in_order(notices: list[tuple[int, str]]) -> None:
    raw = chained([struct.pack("<II", action, len(utf16(t))) + utf16(t) for action, t in notices], 4)
    assert notify.parse_notices(raw) == [notify.Notice(a, names.to_bytes(utf16(t))) for a, t in notices]


def usn_record(major: int, reference: int, parent: int, number: int, reason: int, name: str) -> bytes:
    wide = "<Q" if major == 2 else "<QQ"
    ids = [struct.pack(wide, *([value] if major == 2 else [value, 0])) for value in (reference, parent)]
    body = b"".join(ids) + struct.pack("<qqIIIIHH", number, 1000, reason, 0, 0, 0x20, len(utf16(name)), 0)
    offset = 8 + len(body)
    body = body[:-2] + struct.pack("<H", offset) + utf16(name)
    size = -(-(8 + len(body)) // 8) * 8
    return (struct.pack("<IHH", size, major, 0) + body).ljust(size, b"\0")


@pytest.mark.parametrize("major", [2, 3])
def test_journal_records(major: int) -> None:
    unknown = struct.pack("<IHH", 16, 9, 0) + bytes(8)
    raw = struct.pack("<q", 4242) + usn_record(major, 5, 6, 100, usn.FILE_CREATE, "ä") + unknown
    raw += usn_record(major, 7, 6, 200, usn.CLOSE, "longer name")
    following, records = usn.parse_records(raw)
    assert following == 4242
    assert [(r.reference, r.parent, r.usn, r.reason, r.name) for r in records] == [
        (5, 6, 100, usn.FILE_CREATE, "ä".encode()), (7, 6, 200, usn.CLOSE, b"longer name"),
    ]  # fmt: skip


def test_journal_ranges_and_state() -> None:
    raw = struct.pack("<QQQQqIIIHH", 5, 0, 6, 0, 300, usn.DATA_OVERWRITE, 0, 0, 2, 16)
    raw += struct.pack("<qqqq", 0, 4096, 65536, 4096)
    answer = struct.pack("<q", 1) + struct.pack("<IHH", len(raw) + 8, 4, 0) + raw
    (record,) = usn.parse_records(answer)[1]
    assert record.ranges == ((0, 4096), (65536, 4096)) and record.version == 4
    assert usn.parse_state(struct.pack("<QqqqqQQ", 1, 2, 3, 4, 5, 6, 7)) == usn.JournalState(1, 2, 3, 4, 5, 6, 7)
    assert not usn.fits(1 << 64)


def test_who_is_in_a_descriptor() -> None:
    user = bytes([1, 5]) + (5).to_bytes(6, "big") + struct.pack("<IIIII", 21, 1, 2, 3, 1001)
    everyone = bytes([1, 1]) + (1).to_bytes(6, "big") + struct.pack("<I", 0)

    def descriptor(*aces: tuple[int, bytes]) -> bytes:
        body = b"".join(struct.pack("<BBHI", kind, 0, 8 + len(sid), 0x1F01FF) + sid for kind, sid in aces)
        acl = struct.pack("<BBHHH", 2, 0, 8 + len(body), len(aces), 0) + body
        return struct.pack("<BBHIIII", 1, 0, 0x8004, 20, 0, 0, 20 + len(user)) + user + acl

    private = descriptor((0, security.SYSTEM), (0, security.ADMINISTRATORS), (0, user), (1, everyone))
    assert security.owner_of(private) == user
    assert security.dacl_trustees(private) == {security.SYSTEM, security.ADMINISTRATORS, user}, "a denial gives nothing"
    assert everyone in (security.dacl_trustees(descriptor((0, everyone))) or ())
    assert security.dacl_trustees(struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0, 0, 0)) is None


MOVES = [
    moves.PendingMove("C:\\a b", "C:\\new", True),
    moves.PendingMove("C:\\gone", "", False),
    moves.PendingMove("C:\\x", "D:\\y", False),
]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_pending_renames_pack_as_the_session_manager_reads_them(count: int) -> None:
    assert moves.parse_pending(moves.pack_pending(MOVES[:count])) == MOVES[:count]


def test_what_wine_and_windows_write_for_pending_renames() -> None:
    text = "\\??\\C:\\old\0!\\??\\C:\\new\0\\??\\C:\\gone\0\0\0"
    assert moves.parse_pending(text.encode("utf-16-le")) == [
        moves.PendingMove("C:\\old", "C:\\new", True), moves.PendingMove("C:\\gone", "", False),
    ]  # fmt: skip
    assert moves.parse_pending(b"") == []


PARSERS: list[Callable[[bytes], object]] = [
    info.parse_all,
    lambda raw: list(info.parse_directory(raw)),
    info.parse_streams,
    info.parse_eas,
    info.parse_ranges,
    info.parse_pointers,
    reparse.parse_reparse,
    notify.parse_notices,
    usn.parse_records,
    usn.parse_state,
    security.dacl_trustees,
    security.owner_of,
    moves.parse_pending,
]


@pytest.mark.parametrize("parse", PARSERS, ids=lambda p: getattr(p, "__name__", "parse_directory"))
@given(st.binary(max_size=400))
def test_anything_is_read_or_refused(parse: Callable[[bytes], object], raw: bytes) -> None:
    try:
        parse(raw)
    except ValueError:
        pass


@given(st.binary(max_size=40), st.integers(0, 300), st.integers(0, 20))
def test_links_of_a_list_never_lead_back(body: bytes, step: int, count: int) -> None:
    raw = (struct.pack("<I", step) + body) * count
    for parse in (info.parse_streams, info.parse_eas, notify.parse_notices):
        try:
            parse(raw)
        except ValueError:
            pass

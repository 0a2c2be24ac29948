from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import WireError
from livelift.verify.messages import (
    MAX_PAYLOAD,
    AskDirectories,
    AskLinks,
    Begin,
    Begun,
    Differing,
    Digest,
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
    decode_reply,
    decode_request,
    encode,
    pack_paths,
    unpack_paths,
)

KEY = bytes(32)
REQUESTS: list[Request] = [
    Begin(1, 0.5, KEY),
    AskDirectories(0, (Digest(0, b"a", KEY), Digest(1, b"b", b""))),
    FetchRows(3, b"a/b", 7),
    AskLinks(0, KEY),
    FetchLinks(0, b"x"),
    Finish(),
]
REPLIES: list[Reply] = [
    Begun(),
    Directories((1, 2), (Differing(0, (b"row", b"row2"), True),)),
    Rows((b"row",), False),
    Links(True),
    LinkRows(((b"b", b"a"),), False),
    Finished(KEY, 1, 2, 3, 4, 5, 6, 7),
]


@pytest.mark.parametrize("message", REQUESTS, ids=lambda message: type(message).__name__)
def test_a_request_survives_the_way_and_is_no_reply(message: Request) -> None:
    assert decode_request(encode(message)) == message
    with pytest.raises(WireError):
        decode_reply(encode(message))


@pytest.mark.parametrize("message", REPLIES, ids=lambda message: type(message).__name__)
def test_a_reply_survives_the_way_and_is_no_request(message: Reply) -> None:
    assert decode_reply(encode(message)) == message
    with pytest.raises(WireError):
        decode_request(encode(message))


@given(st.sampled_from(REQUESTS + REPLIES), st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4))
def test_damage_is_refused_or_means_something_else_that_is_well_formed(
    message: Request | Reply, damage: list[tuple[int, int]]
) -> None:
    payload = bytearray(encode(message))
    for where, value in damage:
        payload[where % len(payload)] = value
    for decode in (decode_request, decode_reply):
        try:
            decoded = decode(bytes(payload))
        except WireError:
            continue
        assert decode(encode(decoded)) == decoded


@given(st.binary(max_size=100))
def test_noise(noise: bytes) -> None:
    for decode in (decode_request, decode_reply):
        try:
            decode(noise)
        except WireError:
            pass  # any other exception fails the test


@pytest.mark.parametrize(
    "bad",
    [
        Begin(1, 1.5, KEY),
        Begin(1, 0.5, b"short"),
        Begin(-1, 0.5, KEY),
        AskDirectories(1 << 16, ()),
        AskDirectories(0, (Digest(0, b"a", b"x" * 33),)),
        AskDirectories(0, (Digest(0, b"a", KEY),) * 513),
        FetchRows(0, b"x", -1),
        FetchRows(0, b"x" * ((1 << 20) + 1), 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_limits(bad: Request) -> None:
    with pytest.raises(WireError):
        decode_request(encode(bad))


def test_a_message_beyond_all_measure() -> None:
    with pytest.raises(WireError, match="bytes"):
        decode_reply(bytes(MAX_PAYLOAD + 1))


def test_trailing_bytes_and_fields_too_many() -> None:
    with pytest.raises(WireError):
        decode_request(encode(Finish()) + b"\xc0")
    with pytest.raises(WireError):
        decode_request(b"\x92\x06\x00")


names = (
    st.binary(min_size=1, max_size=3)
    .filter(lambda name: b"/" not in name and b"\0" not in name)
    .filter(lambda name: name not in (b".", b".."))
)
paths = st.lists(names, max_size=5).map(b"/".join)


@given(st.lists(st.tuples(paths, st.sampled_from([b"", KEY])), max_size=20))
def test_paths_are_packed_without_loss(directories: list[tuple[bytes, bytes]]) -> None:
    assert unpack_paths(pack_paths(directories)) == directories


def test_neighbours_cost_little() -> None:
    directories = [(b"usr/share/doc/package-number-%05d" % number, KEY) for number in range(512)]
    size = len(encode(AskDirectories(0, pack_paths(directories))))
    assert size / 512 < 45


@pytest.mark.parametrize("path", [b"/", b"/etc", b"a/", b"a//b", b"..", b"a/../b", b".", b"a/./b", b"a\0b", b"../x"])
def test_a_path_that_could_lead_elsewhere(path: bytes) -> None:
    with pytest.raises(WireError):
        check_path(path)
    with pytest.raises(WireError):
        unpack_paths((Digest(0, path, KEY),))


def test_pages_that_would_blow_up() -> None:
    with pytest.raises(WireError):
        unpack_paths((Digest(1, b"a", KEY),))
    bomb = (Digest(0, b"a" * (1 << 20), KEY), *[Digest(1 << 20, b"", KEY)] * 500)
    with pytest.raises(WireError, match="malformed page"):
        unpack_paths(bomb)

"""The NTFS reader on real volumes, and on volumes that somebody damaged."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from livelift.ntfs.errors import NtfsError
from livelift.ntfs.record import DATA, Attribute, Run
from livelift.ntfs.volume import Stream, Volume
from tests.ntfsfs import COMPRESSED, make_ntfs, set_attributes

pytestmark = pytest.mark.root

HIVE = Path(__file__).resolve().parents[3] / "shared" / "hives" / "SYSTEM_WIN_10_1709.xz"


class Made(NamedTuple):
    image: Path
    content: dict[str, bytes]
    references: dict[str, int]
    streams: dict[str, bytes]


def words(rng: random.Random, size: int) -> bytes:
    """Text that LZNT1 can make smaller, with stretches that it cannot."""
    parts = [b"SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion ", b"\0" * 300, b"abcabcabc", b"x" * 90]
    out = b""
    while len(out) < size:
        out += rng.choice(parts) if rng.random() < 0.97 else rng.randbytes(rng.randrange(1, 5000))
    return out[:size]


def write_into_holes(top: Path, name: str, data: bytes) -> None:
    """A file of which hardly two clusters are neighbours on the disk: when it is written, nothing else is free."""
    count = len(data) // 4096 + 100
    (top / name).touch()
    (top / "spare").mkdir()
    for number in range(2 * count):
        (top / "spare" / str(number)).write_bytes(bytes(4096))
    for size in (1 << 20, 65536, 4096):
        with open(top / f"filler-{size}", "wb", buffering=0) as filler:
            try:
                while filler.write(bytes(size)) == size:
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC
    for number in range(0, 2 * count, 2):
        (top / "spare" / str(number)).unlink()
    with open(top / name, "wb", buffering=0) as file:
        for at in range(0, len(data), 4096):
            file.write(data[at : at + 4096])
    for size in (1 << 20, 65536, 4096):
        (top / f"filler-{size}").unlink()
    shutil.rmtree(top / "spare")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Made:
    rng = random.Random(request.config.option.seed)
    ntfs = make_ntfs(tmp_path_factory.mktemp("ntfs"), 64, "-c", "4096")
    content: dict[str, bytes] = {
        "empty": b"",
        "resident": b"a few bytes",
        "odd": rng.randbytes(12345),
        "big": rng.randbytes(3_000_001),
    }
    streams: dict[str, bytes] = {"resident:short": b"zone", "odd:long": rng.randbytes(70_000)}
    references: dict[str, int] = {}
    if HIVE.exists():
        import lzma

        content["SYSTEM"] = lzma.decompress(HIVE.read_bytes())
    with ntfs.mounted() as top:
        for name, data in content.items():
            (top / name).write_bytes(data)
        for name, data in streams.items():
            (top / name).write_bytes(data)
        with open(top / "sparse", "wb") as file:
            file.truncate(9_000_000)
            for at in (0, 1_048_576, 5_000_000):
                file.seek(at)
                file.write(b"island" * 1000)
        content["sparse"] = (top / "sparse").read_bytes()
        (top / "packed").mkdir()
        set_attributes(top / "packed", COMPRESSED)
        for name, data in {
            "packed/text": words(rng, 1_500_000),
            "packed/noise": rng.randbytes(300_000),
            "packed/zeros": bytes(500_000),
            "packed/small": words(rng, 10_000),
        }.items():
            content[name] = data
            (top / name).write_bytes(data)
        content["fragmented"] = rng.randbytes(3000 * 4096 - 100)
        write_into_holes(top, "fragmented", content["fragmented"])
        for name in content:
            references[name] = (top / name).stat().st_ino
    return Made(ntfs.image, content, references, streams)


def reader(image: Path) -> Volume:
    fd = os.open(image, os.O_RDONLY)
    return Volume(lambda offset, length: os.pread(fd, length, offset))


def whole(stream: Stream) -> bytes:
    out = bytearray(stream.size)
    last = 0
    for offset, data in stream.chunks():
        assert offset >= last, "chunks must ascend"
        assert len(data) <= 1 << 20
        out[offset : offset + len(data)] = data
        last = offset + len(data)
    return bytes(out)


def test_every_kind_of_file_is_read_as_it_was_written(made: Made) -> None:
    volume = reader(made.image)
    for name, data in made.content.items():
        assert whole(volume.open(made.references[name])) == data, name


def test_alternate_streams_are_read(made: Made) -> None:
    volume = reader(made.image)
    for name, data in made.streams.items():
        file, stream = name.split(":")
        assert whole(volume.open(made.references[file], stream)) == data


def test_the_files_are_what_their_names_say(made: Made) -> None:
    """Otherwise the tests above would show nothing about fragments and compression."""
    volume = reader(made.image)

    def attributes(name: str) -> list[int]:
        record = volume.file(made.references[name])
        return [len(a.runs) for a in volume._parts(record, DATA, "")]

    assert len(attributes("fragmented")) > 1, "needs an attribute list with several pieces"
    assert sum(attributes("fragmented")) > 100
    assert next(a.resident for a in volume.file(made.references["resident"]).attributes if a.kind == DATA)
    packed = volume._parts(volume.file(made.references["packed/text"]), DATA, "")[0]
    assert packed.unit and sum(r.clusters for r in packed.runs if r.lcn >= 0) * volume.cluster < packed.size
    sparse = volume._parts(volume.file(made.references["sparse"]), DATA, "")[0]
    assert any(run.lcn < 0 for run in sparse.runs)


def test_a_reference_of_an_earlier_file_is_refused(made: Made) -> None:
    volume = reader(made.image)
    number = made.references["odd"]
    sequence = volume.file(number).sequence
    assert volume.open(number | sequence << 48).size == 12345
    with pytest.raises(NtfsError, match="another file"):
        volume.open(number | (sequence + 1) << 48)
    with pytest.raises(NtfsError, match="no such stream"):
        volume.open(number, "absent")
    with pytest.raises(NtfsError, match="outside"):
        volume.open(1 << 40)


def test_a_torn_record_is_refused(made: Made, tmp_path: Path) -> None:
    copy = tmp_path / "torn"
    copy.write_bytes(made.image.read_bytes())
    volume = reader(copy)
    number = made.references["odd"]
    raw = volume._record(number)
    at = made.image.read_bytes().index(raw)
    with copy.open("r+b") as file:
        file.seek(at + 510)
        file.write(bytes(b ^ 0xFF for b in raw[510:512]))
    with pytest.raises(NtfsError, match="torn"):
        volume.open(number)


def test_damage_gives_errors_and_nothing_else(made: Made, tmp_path: Path, rng: random.Random) -> None:
    """Flips in the records: the answer is the content, other content of the same bounds, or NtfsError."""
    image = bytearray(made.image.read_bytes())
    volume = Volume(lambda offset, length: bytes(image[offset : offset + length]))
    places = {name: image.index(volume._record(number)) for name, number in made.references.items()}
    refused = 0
    for _ in range(400):
        name = rng.choice(list(places))
        number, at = made.references[name], places[name]
        raw = volume._record(number)
        where = at + rng.randrange(len(raw))
        before = image[where]
        image[where] ^= 1 << rng.randrange(8)
        try:
            stream = volume.open(number)
            total = 0
            for _, data in stream.chunks():
                total += len(data)
                if total > 2 << 20:
                    break
        except NtfsError:
            refused += 1
        image[where] = before
    assert refused > 30


def test_what_is_no_volume_is_refused(rng: random.Random) -> None:
    for data in (b"", bytes(4096), rng.randbytes(4096), b"\xebR\x90NTFS    " + bytes(501)):
        with pytest.raises(NtfsError):
            Volume(lambda offset, length, data=data: data[offset : offset + length])


def test_an_encrypted_stream_is_refused(made: Made) -> None:
    volume = reader(made.image)
    record = volume.file(made.references["odd"])
    (part,) = (a for a in record.attributes if a.kind == DATA and not a.name)
    with pytest.raises(NtfsError, match="encrypted"):
        Stream([part._replace(flags=part.flags | 0x4000)], volume.cluster, volume._read, record.number)


def test_bytes_behind_the_valid_length_are_not_read() -> None:
    part = Attribute(DATA, "", 0, False, b"", 0, (Run(0, 1, 2),), 8192, 5000, 0)
    chunks = list(Stream([part], 4096, lambda offset, length: b"d" * length, 5).chunks())
    assert [(offset, len(data)) for offset, data in chunks] == [(0, 5000)]


def test_pieces_that_do_not_join_are_refused() -> None:
    first = Attribute(DATA, "", 0, False, b"", 0, (Run(0, 1, 2),), 40960, 40960, 0)
    second = first._replace(first_vcn=3, runs=(Run(3, 9, 7),))
    with pytest.raises(NtfsError, match="missing"):
        Stream([first, second], 4096, lambda offset, length: bytes(length), 5)
    with pytest.raises(NtfsError, match="end before"):
        Stream([first], 4096, lambda offset, length: bytes(length), 5)

"""Images in every compression that the kernel reads, with microcode in front; and every kind of damage is told."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import shutil
import subprocess
from collections.abc import Callable

import pytest
import zstandard

from livelift.errors import CorruptError
from livelift.takeover.cpio import entries
from tests.takeover.images import cpio

FILES = {"init": b"#!/bin/sh\n" * 3, "usr/lib/modules/6.1/a.ko": b"module" * 50_000, "x" * 300: b"", "odd": b"1"}
MICROCODE = cpio({"kernel/x86/microcode/GenuineIntel.bin": b"\x01" * 1000})


def lz4(options: list[str]) -> Callable[[bytes], bytes]:
    def compress(raw: bytes) -> bytes:
        if shutil.which("lz4") is None:
            pytest.skip("lz4 is not installed")
        return subprocess.run(["lz4", "-q", "-c", *options], input=raw, capture_output=True, check=True).stdout

    return compress


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda raw: raw,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(19).compress,
    "zstd in two frames": lambda raw: b"".join(map(zstandard.ZstdCompressor().compress, (raw[:5000], raw[5000:]))),
    "xz": lambda raw: lzma.compress(raw, check=lzma.CHECK_CRC32),
    "lzma": lambda raw: lzma.compress(raw, format=lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "lz4 legacy": lz4(["-l", "-9"]),
    "lz4 frame": lz4(["-1", "-BD", "-B4"]),
    "lz4 frame, independent": lz4(["-9", "-BX", "--content-size"]),
}


def names(raw: bytes) -> list[str]:
    return [entry.name.decode("utf-8", "backslashreplace") for entry in entries(io.BytesIO(raw))]


@pytest.mark.parametrize("way", WAYS)
def test_compressions(way: str) -> None:
    packed = WAYS[way](cpio(FILES))
    assert names(packed) == list(FILES)
    assert names(MICROCODE + packed) == ["kernel/x86/microcode/GenuineIntel.bin", *FILES]
    assert names(MICROCODE + bytes(4096) + packed) == ["kernel/x86/microcode/GenuineIntel.bin", *FILES]


def test_sizes_and_checksummed_archives() -> None:
    found = list(entries(io.BytesIO(cpio(FILES, b"070702"))))
    assert [(e.size, e.mode) for e in found] == [(len(content), 0o100644) for content in FILES.values()]


@pytest.mark.parametrize("way", WAYS)
def test_an_image_that_is_cut_off(way: str) -> None:
    """At the disk's end, as a full /boot leaves it."""
    packed = WAYS[way](cpio(FILES))
    body = len(packed.rstrip(b"\0"))
    for length in (0, 5, 60, body // 2, body - 124 if way == "none" else body - 20):
        with pytest.raises(CorruptError):
            names(packed[: max(length, 0)])


@pytest.mark.parametrize("number", [b"-0000001", b"+0000001", b" 0000001", b"0_000001", b"0000000g"])
def test_numbers_that_are_no_hexadecimal_digits(number: bytes) -> None:
    raw = bytearray(cpio({"a": b"x"}))
    raw[54:62] = number  # the size
    with pytest.raises(CorruptError):
        names(bytes(raw))


def test_an_image_that_is_full_of_zeros_or_of_something_else() -> None:
    for raw in (bytes(4096), b"MZ" + bytes(100), b"\x89LZO\0\r\n\x1a\n", MICROCODE + b"garbage"):
        with pytest.raises(CorruptError):
            names(raw)


@pytest.mark.parametrize("way", WAYS)
def test_flipped_bytes_end_in_names_or_in_an_error(way: str, rng: random.Random) -> None:
    packed = bytearray(WAYS[way](cpio({name: content[:2000] for name, content in FILES.items()})))
    for _ in range(60):
        damaged = bytearray(packed)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            names(bytes(damaged))
        except CorruptError:
            pass

from __future__ import annotations

import pytest

from livelift.registry.marvin import marvin

DOTNET = 0x004FB61A001BDBCC


@pytest.mark.parametrize(
    ("data", "result"), [(b"", 0x30ED35C100CD3C7D), (b"\xaf", 0x48E73FC77D75DDC1)], ids=["empty", "one byte"]
)
def test_the_vectors_of_dotnet(data: bytes, result: int) -> None:
    assert marvin(data, DOTNET) == result


def test_the_header_of_a_real_log_entry() -> None:
    """From a SYSTEM.LOG1 of Windows 10 1709: the 32 bytes, and the hash that follows them in the file."""
    header = bytes.fromhex("48764c45003e0000010000003b0800000030bd0003000000c4812cbea1b6704b")
    assert marvin(header) == int.from_bytes(bytes.fromhex("0af348dfd7c588dd"), "little")


def test_every_byte_counts() -> None:
    data = bytes(range(37))
    hashes = {marvin(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) for at in range(37)}
    assert len(hashes | {marvin(data)}) == 38

"""A hive put together by hand, cell by cell, from the specification alone: nothing of the writer is in it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

NONE = 0xFFFFFFFF
STAMP = 132_000_000_000_000_000
DESCRIPTOR = struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0, 0, 0)  # no owner, no lists: the shortest there is


def base_block(size: int, root: int, *, minor: int = 5, sequences: tuple[int, int] = (7, 7), kind: int = 0) -> bytes:
    head = struct.pack("<4sIIQIIIIIII", b"regf", *sequences, STAMP, 1, minor, kind, 1, root, size, 1)
    head += "by hand".encode("utf-16-le").ljust(64, b"\0")
    return sealed(head.ljust(508, b"\0")).ljust(4096, b"\0")


def sealed(block: bytes) -> bytes:
    """The first 508 bytes with the right checksum behind them."""
    total = 0
    for at in range(0, 508, 4):
        total ^= int.from_bytes(block[at : at + 4], "little")
    return block[:508] + {0: 1, NONE: NONE - 1}.get(total, total).to_bytes(4, "little") + block[512:]


class Raw:
    """One bin, as many blocks long as it needs to be."""

    def __init__(self) -> None:
        self.cells = bytearray()

    def cell(self, content: bytes, *, used: bool = True) -> int:
        offset = 32 + len(self.cells)
        size = -(-(len(content) + 4) // 8) * 8
        self.cells += struct.pack("<i", -size if used else size) + content.ljust(size - 4, b"\0")
        return offset

    def patch(self, offset: int, at: int, content: bytes) -> None:
        """Overwrite what is ``at`` bytes into the content of a cell."""
        start = offset - 32 + 4 + at
        self.cells[start : start + len(content)] = content

    def key(
        self, name: bytes, *, flags: int = 0x20, parent: int = NONE, subkeys: tuple[int, int] = (0, NONE),
        values: tuple[int, int] = (0, NONE), security: int = NONE, class_name: tuple[int, int] = (NONE, 0),
    ) -> int:  # fmt: skip
        return self.cell(
            struct.pack(
                "<2sHQIIIIIIIIIIIIIIIHH", b"nk", flags, STAMP, 0, parent, subkeys[0], 0, subkeys[1], NONE, *values,
                security, class_name[0], 0, 0, 0, 0, 0, len(name), class_name[1],
            ) + name
        )  # fmt: skip

    def value(self, name: bytes, kind: int, size: int, where: int | bytes, flags: int = 1) -> int:
        raw = where if isinstance(where, bytes) else where.to_bytes(4, "little")
        return self.cell(struct.pack("<2sHI4sIHH", b"vk", len(name), size, raw, kind, flags, 0) + name)

    def offsets(self, cells: Sequence[int]) -> int:
        return self.cell(struct.pack(f"<{len(cells)}I", *cells))

    def list(self, magic: bytes, cells: Sequence[int], hints: Sequence[int] = ()) -> int:
        words = [word for pair in zip(cells, hints, strict=True) for word in pair] if hints else list(cells)
        return self.cell(struct.pack(f"<2sH{len(words)}I", magic, len(cells), *words))

    def security(self, uses: int, descriptor: bytes = DESCRIPTOR) -> int:
        """A ring of one."""
        here = 32 + len(self.cells)
        return self.cell(struct.pack("<2sHIIII", b"sk", 0, here, here, uses, len(descriptor)) + descriptor)

    def bins(self) -> bytes:
        length = -(-(32 + len(self.cells) + 8) // 4096) * 4096
        rest = length - 32 - len(self.cells)
        head = struct.pack("<4sII8xQI", b"hbin", 0, length, STAMP, 0)
        return head + bytes(self.cells) + struct.pack("<i", rest).ljust(rest, b"\0")

    def hive(self, root: int, *, minor: int = 5, sequences: tuple[int, int] = (7, 7)) -> bytes:
        bins = self.bins()
        return base_block(len(bins), root, minor=minor, sequences=sequences) + bins


def sample(minor: int = 5) -> bytes:
    """Every kind of cell once: nk, vk, sk, li, lf, lh, ri, db, a class name, both kinds of names, free cells."""
    raw = Raw()
    security = raw.security(5)
    raw.cell(b"free", used=False)
    big = bytes(range(256)) * 80  # 20480 bytes: two segments
    segments = raw.offsets([raw.cell(big[:16344] + bytes(4)), raw.cell(big[16344:])])
    where = raw.cell(struct.pack("<2sHI", b"db", 2, segments)) if minor >= 4 else raw.cell(big)
    values = raw.offsets(
        [
            raw.value(b"", 1, 4, raw.cell(b"a\0\0\0"), 0),
            raw.value(b"number", 4, 0x80000004, b"\x2a\0\0\0"),
            raw.value(b"two", 3, 0x80000002, b"ab\xff\xff"),
            raw.value("Größe".encode("latin-1"), 0xFFFF0012, 0x80000000, 0),
            raw.value("naïve ż".encode("utf-16-le"), 7, 6, raw.cell(b"x\0\0\0\0\0"), 0),
            raw.value(b"big", 3, len(big), where),
        ]
    )
    root = raw.key(b"ROOT", flags=0x2C, security=security, subkeys=(4, 0), values=(6, values))
    class_cell = raw.cell("klass".encode("utf-16-le"))
    a = raw.key(b"Alpha", parent=root, security=security, class_name=(class_cell, 10))
    b = raw.key("Bé".encode("latin-1"), parent=root, security=security)
    c = raw.key("Ω".encode("utf-16-le"), flags=0, parent=root, security=security)
    d = raw.key("ώ2".encode("utf-16-le"), flags=0x10, parent=root, security=security)
    leaves = [
        raw.list(b"lh", [a], [_hash("ALPHA")]),
        raw.list(b"lf", [b], [int.from_bytes("Bé".encode("latin-1"), "little")]),
        raw.list(b"li", [d, c]),
    ]
    raw.patch(root, 28, struct.pack("<I", raw.list(b"ri", leaves)))
    return raw.hive(root, minor=minor)


def _hash(upper: str) -> int:
    total = 0
    for letter in upper:
        total = (total * 37 + ord(letter)) % 2**32
    return total

"""Initramfs images made here, byte by byte: the newc format of cpio(5)."""

from __future__ import annotations


def cpio(files: dict[str, bytes], magic: bytes = b"070701") -> bytes:
    """An archive with its trailer, padded to 512 as cpio does."""
    found = b""
    for number, (name, content) in enumerate([*files.items(), ("TRAILER!!!", b"")]):
        raw = name.encode() + b"\0"
        fields = [number, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), 0]
        found += magic + b"".join(b"%08X" % field for field in fields) + raw
        found += bytes(-len(found) % 4) + content
        found += bytes(-len(found) % 4)
    return found + bytes(-len(found) % 512)

"""GRUB's environment block. Pure, and nothing but the standard library: the take-over stage loads it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SIZE: Final = 1024
"""Bytes; GRUB writes into the blocks of a file of this size (grub manual, "Environment block")."""


def environment(text: str) -> dict[str, str]:
    """A GRUB environment block: a comment line, name=value lines, filled up with #."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return dict((pair[0], pair[1]) for pair in pairs)


def environment_block(pairs: Mapping[str, str]) -> str:
    """Exactly `SIZE` bytes. ValueError if it does not fit."""
    text = "# GRUB Environment Block\n" + "".join(f"{name}={value}\n" for name, value in pairs.items())
    if len(text.encode("utf-8", "surrogateescape")) > SIZE:
        raise ValueError(f"a GRUB environment block holds {SIZE} bytes")
    return text + "#" * (SIZE - len(text.encode("utf-8", "surrogateescape")))

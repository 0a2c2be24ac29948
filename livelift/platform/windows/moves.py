"""Renames that the session manager carries out at the next boot (MoveFileExW, PendingFileRenameOperations)."""

from __future__ import annotations

import ctypes
from typing import Final, NamedTuple

from livelift.platform.windows import dll

KEY: Final = "SYSTEM\\CurrentControlSet\\Control\\Session Manager"
VALUE: Final = "PendingFileRenameOperations"
_REPLACE: Final = 1
_AT_BOOT: Final = 4
_PREFIX: Final = "\\??\\"

_move = dll.win32("kernel32", "MoveFileExW", dll.TEXT, dll.TEXT, dll.DWORD)
_get = dll.plain(
    "advapi32", "RegGetValueW", dll.HANDLE, dll.TEXT, dll.TEXT, dll.DWORD, dll.POINTER, dll.POINTER, dll.POINTER,
    result=ctypes.c_long,
)  # fmt: skip


class PendingMove(NamedTuple):
    """``new`` empty: the file is deleted. ``replace``: an existing file of that name gives way."""

    old: str
    new: str
    replace: bool


def at_boot(old: str, new: str, *, replace: bool = True) -> None:
    """Both on one volume. Empty ``new``: delete. OSError: not an administrator, another volume."""
    _move(old, new or None, _AT_BOOT | (_REPLACE if replace and new else 0))


def pending() -> list[PendingMove]:
    """What is waiting for the next boot, in order."""
    size = ctypes.c_uint32()
    code = _get(0x80000002, KEY, VALUE, 0xFFFF, None, None, ctypes.byref(size))
    if code == 2:
        return []
    if code:
        raise dll.error(code)
    data = ctypes.create_string_buffer(size.value + 4096)
    size = ctypes.c_uint32(size.value + 4096)
    code = _get(0x80000002, KEY, VALUE, 0xFFFF, None, data, ctypes.byref(size))
    if code:
        raise dll.error(code)
    return parse_pending(data.raw[: size.value])


def parse_pending(raw: bytes) -> list[PendingMove]:
    """The value's pairs of strings. Pure. An empty second string means deletion, so this is not a list that ends at the
    first empty string. ValueError: not pairs."""
    texts = raw.decode("utf-16-le").split("\0")
    while texts and not texts[-1] and len(texts) % 2:
        texts.pop()
    if len(texts) >= 2 and not texts[-1] and not texts[-2]:
        texts = texts[:-2]
    if len(texts) % 2:
        raise ValueError("pending renames come in pairs")
    moves = []
    for old, new in zip(texts[::2], texts[1::2], strict=True):
        moves.append(PendingMove(_plain(old), _plain(new.removeprefix("!")), new.startswith("!")))
    return moves


def pack_pending(moves: list[PendingMove]) -> bytes:
    """The value for a hive that is written offline (REG_MULTI_SZ, UTF-16). Pure."""
    text = "".join(
        f"{_PREFIX}{move.old}\0{('!' if move.replace else '') + _PREFIX + move.new if move.new else ''}\0"
        for move in moves
    )
    return (text + "\0").encode("utf-16-le")


def _plain(path: str) -> str:
    return path.removeprefix(_PREFIX)

"""What an ELF file says about loading it: its interpreter, its own name as a library. elf(5), pure."""

from __future__ import annotations

import struct
from typing import Final

_PT_LOAD: Final = 1
_PT_DYNAMIC: Final = 2
_PT_INTERP: Final = 3
_DT_STRTAB: Final = 5
_DT_SONAME: Final = 14


def interpreter(head: bytes) -> str:
    """The program interpreter (dynamic loader) that an ELF file asks for; empty if it is static. ValueError: no ELF.

    ``head``: from its beginning, at least as far as the interpreter's name."""
    for kind, offset, _, size in _headers(head):
        if kind == _PT_INTERP:
            return head[offset : offset + size].rstrip(b"\0").decode("utf-8", "backslashreplace")
    return ""


def soname(content: bytes) -> str:
    """What other files that need this library call it (DT_SONAME); empty if it does not say. ValueError: no ELF."""
    order, wide = _form(content)
    headers = _headers(content)
    dynamic = next(((offset, size) for kind, offset, _, size in headers if kind == _PT_DYNAMIC), None)
    if dynamic is None:
        return ""
    form = struct.Struct(order + ("qQ" if wide else "iI"))
    values: dict[int, int] = {}
    for tag, value in form.iter_unpack(content[dynamic[0] : sum(dynamic)][: dynamic[1] // form.size * form.size]):
        values.setdefault(tag, value)
    if _DT_SONAME not in values or _DT_STRTAB not in values:
        return ""
    address = values[_DT_STRTAB] + values[_DT_SONAME]
    for kind, offset, start, size in headers:
        if kind == _PT_LOAD and start <= address < start + size:
            at = offset + address - start
            return content[at : content.index(b"\0", at)].decode("utf-8", "backslashreplace")
    return ""


def _form(head: bytes) -> tuple[str, bool]:
    """(byte order for struct, whether it is ELF-64)."""
    if head[:4] != b"\x7fELF" or len(head) < 64:
        raise ValueError("not an ELF file")
    return ("<" if head[5] == 1 else ">"), head[4] == 2


def _headers(head: bytes) -> list[tuple[int, int, int, int]]:
    """(type, offset in the file, address, size in the file) of each program header: e_phoff, e_phentsize, e_phnum."""
    order, wide = _form(head)
    (table,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
    size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    found = []
    for number in range(count):
        at = table + number * size
        (kind,) = struct.unpack_from(order + "I", head, at)
        if wide:
            offset, address, _, length = struct.unpack_from(order + "QQQQ", head, at + 8)
        else:
            offset, address, _, length = struct.unpack_from(order + "IIII", head, at + 4)
        found.append((kind, offset, address, length))
    return found

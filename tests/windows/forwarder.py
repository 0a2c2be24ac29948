"""A DLL without code: one export that is forwarded to another DLL's function (PE format, export forwarders).

Wine 8 has no bcryptprimitives.dll, which everything built with Rust 1.78 or later asks for one function, ProcessPrng
(fill a buffer with random bytes). advapi32's SystemFunction036 (RtlGenRandom) does the same with the same arguments.
"""

from __future__ import annotations

import struct

_FILE_ALIGNMENT = 0x200
_SECTION = 0x1000  # where the only section lies in memory


def forwarder(dll: str, export: str, to: str) -> bytes:
    """The bytes of an x86-64 DLL called ``dll`` whose ``export`` is ``to`` ("DLL.Function")."""
    strings = [text.encode() + b"\0" for text in (dll, export, to)]
    directory = 40 + 4 + 4 + 2  # IMAGE_EXPORT_DIRECTORY, one address, one name, one ordinal
    places = [_SECTION + directory + sum(map(len, strings[:i])) for i in range(3)]
    tables = [_SECTION + 40, _SECTION + 44, _SECTION + 48]
    section = struct.pack("<IIHHIIIIIII", 0, 0, 0, 0, places[0], 1, 1, 1, *tables)
    # An address that lies inside the export directory is a forwarder: it leads to the text, not to code.
    section += struct.pack("<IIH", places[2], places[1], 0) + b"".join(strings)
    size = len(section)
    raw = section.ljust(-(-size // _FILE_ALIGNMENT) * _FILE_ALIGNMENT, b"\0")

    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0x2022)
    optional = struct.pack("<HBBIIIII", 0x20B, 14, 0, 0, len(raw), 0, 0, _SECTION)
    optional += struct.pack("<QIIHHHHHHIIIIHH", 0x180000000, 0x1000, 0x200, 6, 0, 0, 0, 6, 0, 0, 0x2000, 0x200, 0, 2, 0)
    optional += struct.pack("<QQQQII", 0x100000, 0x1000, 0x100000, 0x1000, 0, 16)
    optional += struct.pack("<II", _SECTION, size) + bytes(15 * 8)
    header = struct.pack("<8sIIIIIIHHI", b".edata", size, _SECTION, len(raw), 0x200, 0, 0, 0, 0, 0x40000040)
    return (dos + coff + optional + header).ljust(0x200, b"\0") + raw

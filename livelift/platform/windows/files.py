"""Files and directories by handle: opened relative to a directory's handle, asked for all that belongs to them.

Always with FILE_OPEN_FOR_BACKUP_INTENT (with SeBackupPrivilege no ACL stands in the way) and all sharing, so that
reading never stands in the workload's way. Sources: NtCreateFile, NtQueryInformationFile, NtQueryDirectoryFile,
NtQueryEaFile, NtFsControlFile (wdm.h, ntifs.h), GetKernelObjectSecurity (Win32). All OSErrors carry ``winerror``.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable, Iterator
from typing import Final

from livelift.platform.windows import dll
from livelift.platform.windows.information import (
    Entry,
    ExtendedAttribute,
    Information,
    Run,
    Stream,
    parse_all,
    parse_directory,
    parse_eas,
    parse_pointers,
    parse_ranges,
    parse_streams,
)
from livelift.platform.windows.names import to_bytes, to_text

READ_DATA: Final = 0x1
READ_EA: Final = 0x8
READ_ATTRIBUTES: Final = 0x80
READ_CONTROL: Final = 0x20000
SYNCHRONIZE: Final = 0x100000
ACCESS_SYSTEM_SECURITY: Final = 0x1000000
GENERIC_READ: Final = 0x80000000
GENERIC_WRITE: Final = 0x40000000
LOOK: Final = READ_ATTRIBUTES | SYNCHRONIZE
READ: Final = READ_DATA | READ_EA | READ_ATTRIBUTES | READ_CONTROL | SYNCHRONIZE

SHARE_ALL: Final = 7
OPEN_EXISTING: Final = 1  # FILE_OPEN
_SYNCHRONOUS: Final = 0x20
_BACKUP: Final = 0x4000
_REPARSE: Final = 0x200000
_CASE_INSENSITIVE: Final = 0x40

_BASIC: Final = 4
_STANDARD: Final = 5
_INTERNAL: Final = 6
_EA: Final = 7
_ALL: Final = 18
_STREAMS: Final = 22
_SHORT: Final = 21
_TAG: Final = 35
_ID_BOTH: Final = 37
_NORMALIZED: Final = 48
_NAME: Final = 9
"""FILE_INFORMATION_CLASS."""

GET_REPARSE_POINT: Final = 0x900A8
QUERY_ALLOCATED_RANGES: Final = 0x940CF
GET_RETRIEVAL_POINTERS: Final = 0x90073
GET_OBJECT_ID: Final = 0x9009C

INVALID_FUNCTION: Final = 1
FILE_NOT_FOUND: Final = 2
ACCESS_DENIED: Final = 5
INVALID_HANDLE: Final = 6
SHARING_VIOLATION: Final = 32
LOCK_VIOLATION: Final = 33
HANDLE_EOF: Final = 38
NOT_SUPPORTED: Final = 50
INVALID_PARAMETER: Final = 87
MORE_DATA: Final = 234
NOT_A_REPARSE_POINT: Final = 4390
UNSUPPORTED: Final = frozenset({INVALID_FUNCTION, NOT_SUPPORTED, INVALID_PARAMETER, 124, 120})
"""What file systems (FAT, ReFS, network) and Wine say to an information class or FSCTL that they lack; 124 is
ERROR_INVALID_LEVEL, 120 ERROR_CALL_NOT_IMPLEMENTED."""


NAMELESS: Final = UNSUPPORTED | {INVALID_HANDLE}
"""What Wine 8 says to questions that need the name of an object below a directory that was renamed while open (STATUS_
OBJECT_TYPE_MISMATCH). Only for questions that a file system need not answer."""


class _UnicodeString(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("maximum", ctypes.c_uint16), ("buffer", ctypes.c_void_p))


class _ObjectAttributes(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_uint32),
        ("root", ctypes.c_void_p),
        ("name", ctypes.POINTER(_UnicodeString)),
        ("attributes", ctypes.c_uint32),
        ("security", ctypes.c_void_p),
        ("quality", ctypes.c_void_p),
    )


class _IoStatus(ctypes.Structure):
    _fields_ = (("status", ctypes.c_void_p), ("information", ctypes.c_void_p))


_P = dll.POINTER
_nt_create = dll.native(
    "NtCreateFile", _P, dll.ULONG, _P, _P, _P, dll.ULONG, dll.ULONG, dll.ULONG, dll.ULONG, _P, dll.ULONG
)
_nt_query = dll.native("NtQueryInformationFile", dll.HANDLE, _P, _P, dll.ULONG, dll.INT)
_nt_list = dll.native(
    "NtQueryDirectoryFile", dll.HANDLE, dll.HANDLE, _P, _P, _P, _P, dll.ULONG, dll.INT, ctypes.c_ubyte, _P,
    ctypes.c_ubyte,
)  # fmt: skip
_nt_eas = dll.native("NtQueryEaFile", dll.HANDLE, _P, _P, dll.ULONG, ctypes.c_ubyte, _P, dll.ULONG, _P, ctypes.c_ubyte)
_nt_control = dll.native("NtFsControlFile", dll.HANDLE, dll.HANDLE, _P, _P, _P, dll.ULONG, _P, dll.ULONG, _P, dll.ULONG)
_nt_volume = dll.native("NtQueryVolumeInformationFile", dll.HANDLE, _P, _P, dll.ULONG, dll.INT)
_create = dll.win32(
    "kernel32", "CreateFileW", dll.TEXT, dll.DWORD, dll.DWORD, _P, dll.DWORD, dll.DWORD, dll.HANDLE,
    result=dll.HANDLE, fails=lambda value: value == dll.INVALID,
)  # fmt: skip
_security = dll.win32("advapi32", "GetKernelObjectSecurity", dll.HANDLE, dll.DWORD, _P, dll.DWORD, _P)
_close = dll.win32("kernel32", "CloseHandle", dll.HANDLE)


def open_at(directory: int, name: bytes, access: int, *, follow: bool = False) -> int:
    """Handle of ``name`` (one name, or ``name:stream``; empty: the directory itself) in an open directory.

    Without ``follow`` a reparse point is opened itself. OSError: gone, or ACCESS_DENIED, SHARING_VIOLATION (never for
    LOOK access: attributes can always be read).
    """
    text = ctypes.create_unicode_buffer(to_text(name))
    size = ctypes.sizeof(text) - 2
    string = _UnicodeString(size, size + 2, ctypes.cast(text, ctypes.c_void_p))
    attributes = _ObjectAttributes(
        ctypes.sizeof(_ObjectAttributes), directory, ctypes.pointer(string), _CASE_INSENSITIVE, None, None
    )
    handle = ctypes.c_void_p()
    status = _IoStatus()
    options = _SYNCHRONOUS | _BACKUP | (0 if follow else _REPARSE)
    code = _nt_create(
        ctypes.byref(handle), access, ctypes.byref(attributes), ctypes.byref(status), None, 0, SHARE_ALL,
        OPEN_EXISTING, options, None, 0,
    )  # fmt: skip
    if code == dll.TYPE_MISMATCH:  # Wine: the path that the directory was opened with is gone
        raise FileNotFoundError(errno.ENOENT, "its directory was renamed", name)
    dll.check_status(code)
    return handle.value or 0


def open_path(
    path: str, access: int = GENERIC_READ, disposition: int = 3, flags: int = 0, share: int = SHARE_ALL
) -> int:
    """CreateFileW with FILE_FLAG_BACKUP_SEMANTICS, so directories open too. ``disposition`` 3: OPEN_EXISTING."""
    return int(_create(path, access, share, None, disposition, 0x02000000 | flags, None))


def close(handle: int) -> None:
    _close(handle)


def information(handle: int) -> Information:
    """All but the name in one call. OSError if the handle was opened without READ_ATTRIBUTES."""
    try:
        return parse_all(_query(handle, _ALL, 104 + 64, cut=True))
    except OSError as error:
        if dll.winerror(error) not in NAMELESS:
            raise
    # Wine refuses the whole when it has lost the name (a directory above was renamed): the parts, one by one.
    parts = [_query(handle, which, room) for which, room in ((_BASIC, 40), (_STANDARD, 24), (_INTERNAL, 8), (_EA, 4))]
    return parse_all(b"".join(parts))


def reparse_tag(handle: int) -> int:
    """0 if it is no reparse point, or the file system has none."""
    try:
        return int.from_bytes(_query(handle, _TAG, 8)[4:8], "little")
    except OSError as error:
        if dll.winerror(error) in UNSUPPORTED:
            return 0
        raise


def path_on_volume(handle: int) -> bytes:
    """The path below the volume's root, long names only where the system can (Windows 8 on: FileNormalizedName)."""
    try:
        raw = _query(handle, _NORMALIZED, 66000)
    except OSError as error:
        if dll.winerror(error) not in UNSUPPORTED:
            raise
        raw = _query(handle, _NAME, 66000)
    length = int.from_bytes(raw[:4], "little")
    return to_bytes(raw[4 : 4 + length])


def is_root(handle: int) -> bool:
    """Whether it is the root directory of its volume."""
    try:
        return path_on_volume(handle) == b"\\"
    except OSError as error:
        if dll.winerror(error) in NAMELESS:
            return False  # it lies below something that was renamed
        raise


def short_name(handle: int) -> bytes:
    """The 8.3 name; empty if it has none (FileAlternateNameInformation)."""
    try:
        raw = _query(handle, _SHORT, 4 + 24 + 4)
    except OSError as error:
        if dll.winerror(error) in NAMELESS | {FILE_NOT_FOUND}:
            return b""
        raise
    return to_bytes(raw[4 : 4 + int.from_bytes(raw[:4], "little")])


def streams(handle: int) -> list[Stream]:
    """Every data stream, the unnamed one included (a directory has none). Empty where the file system has no
    streams."""
    try:
        raw = _growing(lambda size: _query(handle, _STREAMS, size))
    except OSError as error:
        if dll.winerror(error) in NAMELESS | {HANDLE_EOF}:
            return []
        raise
    return parse_streams(raw)


def extended_attributes(handle: int, size: int) -> list[ExtendedAttribute]:
    """``size``: what `information` says, 0: none. The handle needs READ_EA."""
    if not size:
        return []
    buffer = ctypes.create_string_buffer(max(size * 2, 4096))
    status = _IoStatus()
    code = dll.check_status(
        _nt_eas(handle, ctypes.byref(status), buffer, ctypes.sizeof(buffer), 0, None, 0, None, 1),
        dll.NO_EAS,
        dll.NO_MORE_EAS,
    )
    return [] if code in (dll.NO_EAS, dll.NO_MORE_EAS) else parse_eas(buffer.raw[: status.information or 0])


OWNER: Final = 1
GROUP: Final = 2
DACL: Final = 4
SACL: Final = 8


def security_descriptor(handle: int, what: int = OWNER | GROUP | DACL | SACL) -> bytes:
    """Self-relative descriptor. SACL needs a handle opened with ACCESS_SYSTEM_SECURITY (SeSecurityPrivilege)."""
    buffer = ctypes.create_string_buffer(1024)
    needed = ctypes.c_uint32()
    try:
        _security(handle, what, buffer, ctypes.sizeof(buffer), ctypes.byref(needed))
    except OSError as error:
        if dll.winerror(error) != 122:  # ERROR_INSUFFICIENT_BUFFER
            raise
        buffer = ctypes.create_string_buffer(needed.value)
        _security(handle, what, buffer, ctypes.sizeof(buffer), ctypes.byref(needed))
    return buffer.raw[: needed.value]


def reparse_data(handle: int) -> bytes:
    """REPARSE_DATA_BUFFER, or empty if it is no reparse point (any more)."""
    try:
        return control(handle, GET_REPARSE_POINT, b"", 16384)
    except OSError as error:
        if dll.winerror(error) == NOT_A_REPARSE_POINT:
            return b""
        raise


def object_id(handle: int) -> bytes:
    """The 64 bytes of FILE_OBJECTID_BUFFER, or empty if it has none."""
    try:
        return control(handle, GET_OBJECT_ID, b"", 64)
    except OSError as error:
        if dll.winerror(error) in NAMELESS | {FILE_NOT_FOUND, 4420}:
            return b""
        raise


def allocated_ranges(handle: int, size: int) -> list[tuple[int, int]] | None:
    """(offset, length) of what a sparse file has allocated; None where the file system cannot tell."""
    found: list[tuple[int, int]] = []
    at = 0
    while at < size:
        question = at.to_bytes(8, "little") + (size - at).to_bytes(8, "little")
        try:
            raw = control(handle, QUERY_ALLOCATED_RANGES, question, 64 << 10, more=True)
        except OSError as error:
            if dll.winerror(error) in UNSUPPORTED:
                return None
            raise
        more = parse_ranges(raw)
        if not more:
            break
        found += more
        at = sum(more[-1])
        if len(raw) < (64 << 10) - 16:
            break
    return [(offset, min(length, size - offset)) for offset, length in found if offset < size]


def retrieval_pointers(handle: int) -> list[Run]:
    """Where the clusters lie. Empty: resident in the MFT, or no content."""
    runs: list[Run] = []
    vcn = 0
    while True:
        try:
            raw = control(handle, GET_RETRIEVAL_POINTERS, vcn.to_bytes(8, "little"), 64 << 10, more=True)
        except OSError as error:
            if dll.winerror(error) == HANDLE_EOF:
                return runs
            raise
        more = parse_pointers(raw)
        runs += more
        if len(raw) < (64 << 10) - 16 or not more:
            return runs
        vcn = more[-1].vcn + more[-1].clusters


def control(handle: int, code: int, question: bytes, room: int, *, more: bool = False) -> bytes:
    """FSCTL. ``more``: an answer that did not fit is an answer (its first part)."""
    buffer = ctypes.create_string_buffer(room)
    status = _IoStatus()
    allowed = (dll.BUFFER_OVERFLOW,) if more else ()
    dll.check_status(
        _nt_control(
            handle, None, None, None, ctypes.byref(status), code, question or None, len(question), buffer, room
        ),
        *allowed,
    )
    return buffer.raw[: status.information or 0]


def list_names(handle: int, room: int = 64 << 10) -> Iterator[list[Entry]]:
    """The names of a directory, a buffer at a time. One reader per handle: the position is the handle's."""
    buffer = ctypes.create_string_buffer(room)
    restart = 1
    while True:
        status = _IoStatus()
        code = dll.check_status(
            _nt_list(handle, None, None, None, ctypes.byref(status), buffer, room, _ID_BOTH, 0, None, restart),
            dll.NO_MORE_FILES,
            0xC000000F,  # STATUS_NO_SUCH_FILE: not even "." (the root of an empty volume)
        )
        if code in (dll.NO_MORE_FILES, 0xC000000F):
            return
        restart = 0
        yield list(parse_directory(buffer.raw[: status.information or 0]))


def has_name(directory: int, name: bytes) -> bool:
    """Whether a directory has an entry with exactly this long name, case included."""
    handle = open_at(directory, b"", READ_DATA | SYNCHRONIZE)
    try:
        return any(entry.name == name for entries in list_names(handle) for entry in entries)
    finally:
        close(handle)


def volume_serial(handle: int) -> int:
    """The 32-bit serial number of the volume that holds the object."""
    buffer = ctypes.create_string_buffer(24 + 64)
    status = _IoStatus()
    dll.check_status(_nt_volume(handle, ctypes.byref(status), buffer, ctypes.sizeof(buffer), 1), dll.BUFFER_OVERFLOW)
    return int.from_bytes(buffer.raw[8:12], "little")


def _query(handle: int, which: int, room: int, *, cut: bool = False) -> bytes:
    buffer = ctypes.create_string_buffer(room)
    status = _IoStatus()
    allowed = (dll.BUFFER_OVERFLOW,) if cut else ()
    dll.check_status(_nt_query(handle, ctypes.byref(status), buffer, room, which), *allowed)
    return buffer.raw if cut else buffer.raw[: status.information or 0]


def _growing(ask: Callable[[int], bytes], room: int = 4096) -> bytes:
    while True:
        try:
            return ask(room)
        except OSError as error:
            if dll.winerror(error) not in (MORE_DATA, 122, 24) or room >= 1 << 20:
                raise
            room *= 4

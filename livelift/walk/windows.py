"""Everything that belongs to a Windows object besides its content, and the names of a directory.

The same calls as `walk.attributes` and `walk.listing`, on the descriptors of `platform.windows.posix`. What Linux has
no place for becomes extended attributes: `walk.ntfs_names` says which.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable, Iterator
from typing import Any, Final

from livelift.model.entry import Attributes
from livelift.model.problem import Problem
from livelift.platform.windows import dll, files, posix
from livelift.platform.windows.information import Information, fold_reference
from livelift.platform.windows.reparse import is_link, is_surrogate, link_text, parse_reparse
from livelift.platform.windows.status import make_status
from livelift.platform.windows.volatile import is_volatile
from livelift.walk.listing import Listed
from livelift.walk.ntfs_names import NTFS, OTHER, Extras, to_xattrs, too_large

log = logging.getLogger(__name__)

Report = Callable[[str, str], None]

STREAM_TOO_LARGE: Final = "stream-too-large"
SECURITY_UNREADABLE: Final = "security-unreadable"
STREAM_UNREADABLE: Final = "stream-unreadable"

REMEDY: Final = {
    STREAM_TOO_LARGE: "exclude the file from the job, or copy the stream by other means after the cutover and start "
    f"the source with --ignore {STREAM_TOO_LARGE}",
    SECURITY_UNREADABLE: "run the agent as an administrator with SeBackupPrivilege and SeSecurityPrivilege",
    STREAM_UNREADABLE: "see which program holds the stream open for itself alone; to move without it: "
    f"--ignore {STREAM_UNREADABLE}",
}

_DETAILS: Final = files.READ | files.ACCESS_SYSTEM_SECURITY
_NO_SACL: Final = files.OWNER | files.GROUP | files.DACL


class Reader:
    """How attributes are told: ``prefix`` NTFS for a target volume under ntfs-3g, OTHER for any other file system."""

    def __init__(self, prefix: bytes = OTHER) -> None:
        self.prefix = prefix
        self.problems: dict[tuple[bytes, str], Problem] = {}

    def attributes_at(self, dir_fd: int, name: bytes, report: Report | None = None) -> Attributes:
        """Attributes of whatever ``name`` is now; a reparse point is not followed. Empty: the directory itself.

        A part that is refused or cannot travel is left out and told: to ``report``, or else in `problems`."""
        directory = dll.handle_of(dir_fd)
        handle, sacl = _open(directory, name)
        try:
            return self._of(handle, sacl, report)
        finally:
            files.close(handle)

    def attributes_of_fd(self, fd: int, st: Any, report: Report | None = None) -> Attributes:
        """The same of an open file or directory; ``st`` (of `posix.fstat`) gives size, times and links."""
        own = dll.handle_of(fd)
        try:
            handle, sacl = _open(own, b"")
        except FileNotFoundError:
            handle, sacl = own, False  # Wine: a directory above was renamed
        try:
            read = self._of(handle, sacl, report)
        finally:
            if handle != own:
                files.close(handle)
        return Attributes(
            st.st_mode, 0, 0, st.st_size, st.st_mtime_ns, st.st_atime_ns, st.st_ctime_ns, st.st_nlink,
            xattrs=read.xattrs,
        )  # fmt: skip

    def _note(self, handle: int) -> Report:
        """For whom nobody reports: the agent's status shows these problems, and they stand in the way of a cutover.
        What an earlier reading of the same object had told is forgotten: it is told again if it is still so."""
        if self.problems:
            path = _where(handle)
            for code in REMEDY:
                self.problems.pop((path, code), None)

        def note(code: str, detail: str) -> None:
            path = _where(handle)
            log.warning("%r: %s: %s", path, code, detail)
            self.problems[path, code] = Problem(path, code, detail, REMEDY.get(code, ""))

        return note

    def _of(self, handle: int, sacl: bool, report: Report | None) -> Attributes:
        report = report or self._note(handle)
        found = files.information(handle)
        tag = files.reparse_tag(handle) if found.reparse else 0
        st = make_status(found, tag, 0)
        surrogate = bool(tag) and is_surrogate(tag)
        extras, target = self._extras(handle, found, surrogate, sacl, report)
        if stat.S_ISLNK(st.st_mode) and not target:  # a surrogate without a text, such as a container's layer
            target = b"?"
        return Attributes(
            st.st_mode, 0, 0, st.st_size, st.st_mtime_ns, st.st_atime_ns, st.st_ctime_ns, st.st_nlink,
            xattrs=to_xattrs(found, extras, self.prefix), target=target,
        )  # fmt: skip

    def _object_id(self, handle: int) -> bytes:
        """Not for NTFS: there it must be unique on the volume at every moment, while objects are made anew, too."""
        return b"" if self.prefix == NTFS else files.object_id(handle)

    def _extras(
        self, handle: int, found: Information, surrogate: bool, sacl: bool, report: Report
    ) -> tuple[Extras, bytes]:
        reparse = files.reparse_data(handle) if surrogate else b""
        target = b""
        if reparse:
            parsed = parse_reparse(reparse)
            target = link_text(parsed) if is_link(parsed.tag) else b""
        security = _security(handle, sacl, report)
        streams = () if surrogate else tuple(_streams(handle, report))
        eas = tuple(files.extended_attributes(handle, 0 if found.reparse else found.ea_size))
        return Extras(security, reparse, files.short_name(handle), self._object_id(handle), eas, streams), target


def _where(handle: int) -> bytes:
    try:
        return files.path_on_volume(handle)
    except OSError as error:
        return f"({error})".encode()


def _open(directory: int, name: bytes) -> tuple[int, bool]:
    """(handle, whether the auditing part of the descriptor may be read)."""
    for access, sacl in ((_DETAILS, True), (files.READ, False)):
        try:
            return files.open_at(directory, name, access), sacl
        except PermissionError as error:
            if dll.winerror(error) == files.SHARING_VIOLATION:
                break
            if dll.winerror(error) not in (files.ACCESS_DENIED, 1314):  # ERROR_PRIVILEGE_NOT_HELD
                raise
    # Somebody has it open for himself alone: reading data is refused then, never its attributes.
    return files.open_at(directory, name, files.LOOK | files.READ_CONTROL), False


def _security(handle: int, sacl: bool, report: Report) -> bytes:
    try:
        return files.security_descriptor(handle) if sacl else files.security_descriptor(handle, _NO_SACL)
    except PermissionError as error:
        if not sacl:
            report(SECURITY_UNREADABLE, str(error))
            return b""
    return _security(handle, False, report)


def _streams(handle: int, report: Report) -> Iterator[tuple[bytes, bytes]]:
    for stream in files.streams(handle):
        if not stream.name:
            continue
        reason = too_large(stream.name, stream.size)
        code = STREAM_TOO_LARGE
        if not reason:
            try:
                yield stream.name, _content(handle, stream.name, stream.size)
                continue
            except OSError as error:
                reason, code = str(error), STREAM_UNREADABLE
        report(code, f"{stream.name!r}: {reason}")


def _content(handle: int, name: bytes, size: int) -> bytes:
    stream = files.open_at(handle, b":" + name, files.READ_DATA | files.SYNCHRONIZE)
    fd = dll.open_descriptor(stream, 0x8000)
    try:
        return posix.pread(fd, size, 0)
    finally:
        posix.close(fd)


def list_directory(fd: int) -> Iterator[list[Listed]]:
    """Lists of names in the order of the disk (NTFS: by name), through a handle of its own.

    At a volume's root the volatile names are left out."""
    handle = files.open_at(dll.handle_of(fd), b"", files.READ_DATA | files.SYNCHRONIZE)
    try:
        root = files.is_root(handle)
        for entries in files.list_names(handle):
            yield [
                Listed(entry.name, fold_reference(entry.reference), _kind(entry.attributes, entry.reparse_tag))
                for entry in entries
                if not (root and is_volatile(entry.name))
            ]
    finally:
        files.close(handle)


def _kind(attributes: int, tag: int) -> int:
    if tag and is_surrogate(tag):
        return stat.S_IFLNK
    return stat.S_IFDIR if attributes & 0x10 else stat.S_IFREG


_reader = Reader()


def lost_parts() -> list[Problem]:
    """What could not be read, or cannot travel, of objects that are otherwise moved."""
    return list(_reader.problems.values())


def store_as_ntfs(yes: bool) -> None:
    """Choose once, before the walk begins, how attributes are told."""
    _reader.prefix = NTFS if yes else OTHER


attributes_at = _reader.attributes_at
attributes_of_fd = _reader.attributes_of_fd

"""What a stat result says of an NTFS object: the same fields as on Linux, filled from `information.Information`."""

from __future__ import annotations

import stat as _stat
from typing import NamedTuple

from livelift.platform.windows import files
from livelift.platform.windows.information import READONLY, Information, fold_reference, to_ns
from livelift.platform.windows.reparse import is_surrogate


class stat_result(NamedTuple):
    """``st_ino`` is the folded file reference, ``st_ctime_ns`` the change time. ``st_mode``: 0755 directories, 0644
    files (0444 if read-only), 0777 links; owner and rights travel in the security descriptor."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_blocks: int
    st_rdev: int = 0
    st_file_attributes: int = 0

    @property
    def st_mtime(self) -> float:
        return self.st_mtime_ns / 1e9


def status_of(handle: int, device: int) -> stat_result:
    found = files.information(handle)
    return make_status(found, files.reparse_tag(handle) if found.reparse else 0, device)


def make_status(found: Information, tag: int, device: int) -> stat_result:
    if tag and is_surrogate(tag):
        mode = _stat.S_IFLNK | 0o777
    elif found.directory:
        mode = _stat.S_IFDIR | 0o755
    else:
        mode = _stat.S_IFREG | (0o444 if found.attributes & READONLY else 0o644)
    links = 1 if found.directory else found.links
    return stat_result(
        mode,
        fold_reference(found.reference),
        device,
        links,
        0,
        0,
        0 if found.directory else found.size,
        to_ns(found.accessed),
        to_ns(found.written),
        to_ns(found.changed),
        -(-found.allocated // 512),
        0,
        found.attributes,
    )

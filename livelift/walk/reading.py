"""Many small files read one after the other: what a reader does, in a thread of the agent or in its own process."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from livelift.model.entry import Attributes

if sys.platform == "win32":
    from livelift.walk.windows import attributes_at
    from livelift.walk.windows_content import read_small
else:
    from livelift.walk.attributes import attributes_at
    from livelift.walk.content import read_small

FRAME: Final = 1 << 20
"""Bytes of content after which a frame is handed over."""

WHOLE, LARGE, AGAIN, FAILED = range(4)
_REPLACED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})


class Read(msgspec.Struct, array_like=True, gc=False):
    """What came of one name. ``status``: WHOLE (content is there), LARGE (attributes only), AGAIN (no longer what the
    listing said), FAILED (``error``: its errno and text). ``length``: bytes in the frame; ``inode``: whose they are."""

    status: int
    attributes: Attributes | None = None
    extents: tuple[tuple[int, int], ...] = ()
    allocated: tuple[tuple[int, int], ...] = ()
    length: int = 0
    inode: int = 0
    error: tuple[int, str] = (0, "")


class Frame(NamedTuple):
    """Consecutive files of a unit. ``payloads``: one for each that has content, in order."""

    files: list[Read]
    payloads: list[bytes | memoryview]


def read_files(names: Sequence[tuple[int, bytes]]) -> Iterator[Frame]:
    """Read each (directory descriptor, name) that a listing called a regular file. Never raises for what is wrong with
    one of them."""
    files: list[Read] = []
    payloads: list[bytes | memoryview] = []
    size = 0
    for directory, name in names:
        try:
            small = read_small(directory, name)
            if small is None:
                files.append(Read(LARGE, attributes_at(directory, name)))
            else:
                length = len(small.payload)
                files.append(Read(WHOLE, small.attributes, small.extents, small.allocated, length, small.inode))
                if length:
                    payloads.append(small.payload)
                    size += length
        except OSError as error:
            if error.errno in _REPLACED:
                files.append(Read(AGAIN))
            else:
                files.append(Read(FAILED, error=(error.errno or 0, error.strerror or str(error))))
        if size >= FRAME:
            yield Frame(files, payloads)
            files, payloads, size = [], [], 0
    yield Frame(files, payloads)

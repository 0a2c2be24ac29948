"""What fanotify(7) wrote into our buffer, as events. Pure: bytes in, events out.

One event is a 24-byte header and information records: FID (which object), DFID_NAME (which directory and name), and for
FAN_RENAME the OLD_ and NEW_ form of the latter. Shapes are those of `struct fanotify_event_metadata` and
`struct fanotify_event_info_fid` in linux/fanotify.h, metadata version 3.

Two properties of the kernel's queue shape what a reader may conclude:

* Unread events on one object are **merged into the oldest of them**, so a late change can be reported early: in the
  sequence create x, rename x to b, link b to x, unlink b the second CREATE x vanishes into the first. See `repeats`.
* CREATE and DELETE of one name may come in one event; which came last is unknown, so it is reported as TOUCHED.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from livelift.platform.linux.fanotify import (
    ATTRIB,
    CREATE,
    DELETE,
    INFO_DFID,
    INFO_DFID_NAME,
    INFO_FID,
    INFO_NEW_DFID_NAME,
    INFO_OLD_DFID_NAME,
    METADATA_VERSION,
    MODIFY,
    MOVED_FROM,
    MOVED_TO,
    ONDIR,
    Q_OVERFLOW,
    RENAME,
)
from livelift.ports import Dirty, Event, Lost, Named, Op

_METADATA = Struct("=IBBHQii")  # event_len, vers, reserved, metadata_len, mask, fd, pid
_INFO = Struct("=BxH8xI4x")  # info_type, len, fsid, handle_bytes, handle_type
_KEY = 4  # a record's key: fsid, handle_bytes, handle_type, f_handle
_HANDLE = 16  # what open_by_handle_at needs: handle_type, f_handle
_NAMES = CREATE | DELETE | MOVED_FROM | MOVED_TO


def split_key(key: bytes) -> tuple[bytes, bytes]:
    """The fsid (8 bytes) and the file handle (type, then f_handle) in the key by which ``parse`` asks for objects."""
    return key[:8], key[12:]


def parse(buffer: bytes, oids: Mapping[bytes, int], time: int = 0, ignore_pid: int = 0) -> list[Event]:
    """Every event in ``buffer``, in order; several changes of one object's content become one Dirty.

    ``oids[key]`` gives the object id behind a key (see `split_key`), 0 for an object that is not ours or is gone, and a
    negative number for an object of the caller's own. Never raises on malformed input: that is Lost.
    """
    events: list[Event] = []
    seen: set[bytes] = set()
    seen_content: set[bytes] = set()
    emit = events.append
    metadata, info = _METADATA.unpack_from, _INFO.unpack_from
    at, size = 0, len(buffer)
    while at < size:
        if size - at < 24:
            return [*events, _malformed(time)]
        length, version, _, header, mask, _, pid = metadata(buffer, at)
        end = at + length
        if version != METADATA_VERSION or not 24 <= header <= length or end > size:
            return [*events, _malformed(time)]
        record = at + header
        at = end
        oid = parent = new_parent = 0
        name = new_name = handle = key = b""
        while record < end:
            if end - record < 20:
                return [*events, _malformed(time)]
            kind, record_length, handle_length = info(buffer, record)
            names = record + 20 + handle_length
            record_end = record + record_length
            if names > record_end or record_end > end:
                return [*events, _malformed(time)]
            if kind == INFO_FID:
                key = buffer[record + _KEY : names]
                oid = oids[key]
                handle = buffer[record + _HANDLE : names]
            elif kind in (INFO_DFID_NAME, INFO_OLD_DFID_NAME):
                name = buffer[names:record_end].partition(b"\0")[0]
                if name == b".":  # an event on the directory itself
                    name = b""
                    key = buffer[record + _KEY : names]
                    oid = oids[key]
                    handle = buffer[record + _HANDLE : names]
                else:
                    parent = oids[buffer[record + _KEY : names]]
            elif kind == INFO_NEW_DFID_NAME:
                new_name = buffer[names:record_end].partition(b"\0")[0]
                new_parent = oids[buffer[record + _KEY : names]]
            elif kind == INFO_DFID:
                key = buffer[record + _KEY : names]
                oid = oids[key]
                handle = buffer[record + _HANDLE : names]
            record = record_end
        if pid == ignore_pid and ignore_pid and oid >= 0:
            continue
        if mask & (RENAME | _NAMES):
            is_dir = mask & ONDIR != 0
            if mask & RENAME:
                if parent and new_parent:
                    emit(Named(Op.RENAMED, parent, name, oid, new_parent, new_name, is_dir, handle, time))
                elif parent:  # the other half is not ours
                    emit(Named(Op.TOUCHED, parent, name, oid, 0, b"", is_dir, handle, time))
                elif new_parent:
                    emit(Named(Op.TOUCHED, new_parent, new_name, oid, 0, b"", is_dir, handle, time))
            elif parent:
                changes = mask & _NAMES
                if not oid:
                    op = Op.TOUCHED
                elif changes == CREATE:
                    op = Op.CREATED
                elif changes == DELETE:
                    op = Op.REMOVED
                else:
                    op = Op.TOUCHED
                emit(Named(op, parent, name, oid, 0, b"", is_dir, handle, time))
        if mask & MODIFY:
            if oid and key not in seen_content:
                seen_content.add(key)
                emit(Dirty(oid, True, parent, name, handle, time))
        elif mask & ATTRIB and oid and key not in seen and key not in seen_content:
            seen.add(key)
            emit(Dirty(oid, False, parent, name, handle, time))
        elif mask & Q_OVERFLOW:
            emit(Lost(0, -1, "queue overflow", time))
    return events


def _malformed(time: int) -> Lost:
    return Lost(0, -1, "the kernel wrote an event that we cannot read", time)

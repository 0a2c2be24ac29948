"""Names that an in-kernel mode tells as records, in the form in which other modes hint at them."""

from __future__ import annotations

from livelift.merge.names import EXCHANGE
from livelift.model.record import Link, Make, Record, Rename, Unlink
from livelift.ports import Named, Op

NameBody = Make | Link | Unlink | Rename


def as_named(record: Record) -> tuple[Named, int]:
    """The event that says the same, and the second object of an exchange, or 0. ValueError: not a record of a name."""
    body, at = record.body, record.time
    if isinstance(body, Make):
        return Named(Op.CREATED, body.parent, body.name, body.oid, is_dir=body.attributes.is_dir, time=at), 0
    if isinstance(body, Link):
        return Named(Op.CREATED, body.parent, body.name, body.oid, time=at), 0
    if isinstance(body, Unlink):
        return Named(Op.REMOVED, body.parent, body.name, body.oid, time=at), 0
    if isinstance(body, Rename):
        named = Named(Op.RENAMED, body.parent, body.name, body.oid, body.new_parent, body.new_name, time=at)
        return named, body.victim if body.flags & EXCHANGE else 0
    raise ValueError(f"{record.kind.name} is no record of a name")

"""Records of every kind, as hypothesis makes them."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from livelift.model.entry import Attributes
from livelift.model.record import (
    BODY_OF,
    BaseFile,
    Body,
    Changed,
    Gap,
    Kind,
    Link,
    Make,
    Mark,
    Range,
    Record,
    Reflink,
    Rename,
    SetAttributes,
    Unlink,
    Volume,
    Xattr,
)

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
"""For the bigger examples: a busy machine is no failure."""

oids = st.integers(0, (1 << 63) - 1)
names = st.binary(max_size=30)
sizes = st.integers(0, (1 << 63) - 1)
times = st.integers(-(1 << 63), (1 << 63) - 1)
u32 = st.integers(0, 0xFFFFFFFF)
text = st.text(max_size=30)
extents = st.lists(st.tuples(sizes, sizes), max_size=4).map(tuple)
xattrs = st.lists(st.tuples(names, st.binary(max_size=100)), max_size=2).map(tuple)
attributes = st.builds(
    Attributes, u32, u32, u32, sizes, times, times, times, u32, sizes, u32, u32, xattrs, st.binary(max_size=100)
)
where = (oids, oids, names)

BODIES: dict[type[Body], st.SearchStrategy[Body]] = {
    Make: st.builds(Make, *where, attributes, u32),
    BaseFile: st.builds(BaseFile, *where, attributes, extents, extents, u32, sizes),
    Range: st.builds(Range, *where, sizes, sizes, u32),
    Reflink: st.builds(Reflink, *where, sizes, sizes, *where, sizes),
    Link: st.builds(Link, *where, oids, names),
    Unlink: st.builds(Unlink, *where),
    Rename: st.builds(Rename, *where, oids, names, u32, oids),
    SetAttributes: st.builds(SetAttributes, *where, attributes),
    Xattr: st.builds(Xattr, *where, names),
    Changed: st.builds(Changed, *where, *[st.none() | u32] * 3, *[st.none() | times] * 2),
    Volume: st.builds(Volume, st.integers(0, 126), text, text, text, names),
    Gap: st.builds(Gap, oids, text, text),
    Mark: st.builds(Mark, text),
}


def of_kind(kind: Kind) -> st.SearchStrategy[Record]:
    """Records of one kind, elided ones too, with any payload."""

    def build(body: Body, payload: bytes, time: int, lsn: int, elided: bool) -> Record:
        if elided:
            return Record(kind, body, b"", time, lsn, True, len(payload))
        return Record(kind, body, payload, time, lsn)

    lsns = st.integers(1, (1 << 63) - 1)
    return st.builds(build, BODIES[BODY_OF[kind]], st.binary(max_size=300), times, lsns, st.booleans())


records = st.sampled_from(list(Kind)).flatmap(of_kind)


def numbered(batch: list[Record], first: int = 1) -> list[Record]:
    for lsn, record in enumerate(batch, first):
        record.lsn = lsn
    return batch


batches = st.lists(records, min_size=1, max_size=6).map(numbered)

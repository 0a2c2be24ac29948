"""Big files: which stamp of one is trusted."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from livelift.index.tree import TreeIndex
from livelift.model.entry import object_id
from livelift.model.record import Kind, Make
from livelift.source.bigfiles import BigFiles
from livelift.source.gaps import Gaps
from livelift.source.journal import Journal
from tests.source.fakes import Time, directory
from tests.source.fakes import file as file_attributes


@pytest.mark.parametrize(("age", "trusted"), [(0, False), (1_000_000, False), (10**9, True)])
def test_a_stamp_is_judged_by_when_the_reading_began(tmp_path, age: int, trusted: bool) -> None:
    """However long it takes. What is written to the file behind its first look, in the same tick, leaves the stamp
    as it is; if the agent dies before it is told, the rescan must not take it for read."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * (2 << 20))
    index = TreeIndex(os.fsencode(tmp_path / "index"))
    journal = Journal(os.fsencode(tmp_path / "spool"), "0123abcd", index, 64 << 20, 64 << 20, lambda reason: None)
    oid = object_id(0, path.stat().st_ino)
    journal.put(Kind.MKDIR, Make(2, 0, b"0", directory()))
    journal.put(Kind.CREATE, Make(oid, 2, b"file", file_attributes()))
    began = path.stat().st_ctime_ns + age
    fd = os.open(path, os.O_RDONLY)
    big = BigFiles(journal, SimpleNamespace(), Gaps(journal, Time()))  # type: ignore[arg-type]
    big.base(oid, fd, os.fstat(fd), 0, 0, began)
    os.close(fd)
    known = index.of(oid)
    assert known is not None and known.stamp.size == 2 << 20
    assert (known.stamp.ctime != 0) is trusted
    journal.close()

"""The whole of replay: order, crashes, idempotence, trouble."""

from __future__ import annotations

import os

from tests.replay.conftest import Place
from tests.replay.logbook import ROOT, directory, snapshot


def test_a_small_tree(place: Place) -> None:
    log = place.log
    log.mkdir(10, ROOT, b"etc")
    log.base(11, 10, b"passwd", b"root:x:0:0\n")
    log.symlink(12, 10, b"link", b"passwd")
    log.link(11, 10, b"passwd", ROOT, b"hard")
    log.rename(10, ROOT, b"etc", ROOT, b"conf")
    log.write(11, 10, b"passwd", 5, b"y")
    log.attributes(10, ROOT, b"conf", directory(0o750, mtime=-7))
    place.apply()
    tree = snapshot(place.top)
    assert sorted(tree) == [b"", b"conf", b"conf/link", b"conf/passwd", b"hard"]
    assert tree[b"hard"][-1] == b"root:y:0:0\n"
    assert tree[b"hard"][4] == b"conf/passwd"
    assert os.stat(place.path(b"conf")).st_mtime_ns == -7
    assert place.replayer.checkpoint() == len(log.records) == place.replayer.durable_lsn
    place.crash()
    assert place.replayer.applied_lsn == len(log.records)
    assert place.replayer.apply(log.records).conflicts == []
    assert snapshot(place.top) == tree

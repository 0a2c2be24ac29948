"""Second looks: which marks wait, how long, and that none is forgotten."""

from __future__ import annotations

from livelift.capture.ebpf.echoes import REMEMBERED, Echoes
from livelift.ports import Dirty


def mark(oid: int = 7, content: bool = True, time: int = 1) -> Dirty:
    return Dirty(oid, content, 2, b"f", b"", time)


def test_a_mark_on_a_file_that_the_ring_has_not_told_passes():
    assert not Echoes().heard(mark(), 100.0)


def test_a_mark_waits_until_the_file_is_quiet():
    echoes = Echoes(quiet=2, longest=30)
    echoes.told(7, 100.0)
    assert echoes.heard(mark(time=1), 100.5)
    assert echoes.heard(mark(time=2), 101.0)
    echoes.told(7, 101.0)
    assert list(echoes.due(102.9)) == []
    assert list(echoes.due(103.0)) == [mark(time=1)], "the first: its time says how old the change is"
    assert list(echoes.due(200.0)) == []


def test_a_file_that_is_never_quiet_is_looked_at_all_the_same():
    echoes = Echoes(quiet=2, longest=30)
    found = []
    for tenth in range(700):
        now = 100 + tenth / 10
        echoes.told(7, now)
        echoes.heard(mark(), now)
        found += echoes.due(now)
    assert len(found) == 2


def test_a_drain_gets_all_of_them():
    echoes = Echoes()
    for oid in (7, 8):
        echoes.told(oid, 100.0)
        assert echoes.heard(mark(oid), 100.0)
    assert echoes.all() == [mark(7), mark(8)]
    assert echoes.all() == [] and len(echoes) == 0


def test_attributes_and_names_without_object_pass():
    echoes = Echoes()
    echoes.told(7, 100.0)
    assert not echoes.heard(mark(content=False), 100.0)
    assert not echoes.heard(mark(oid=0), 100.0)


def test_what_is_remembered_is_bounded():
    echoes = Echoes()
    for oid in range(1, REMEMBERED + 2):
        echoes.told(oid, 100.0)
    assert not echoes.heard(mark(1), 100.0), "the oldest is forgotten: its mark passes"
    assert echoes.heard(mark(2), 100.0)

"""Orders are united, the target's first."""

from __future__ import annotations

import pytest

from livelift.adapt.windows.group_order import RULE, tag_data, tags
from livelift.registry.values import BINARY, list_of, set_list
from tests.adapt.windows.machine import findings, ids, pair, run


def test_tags_and_groups_of_the_source_follow() -> None:
    source, target = pair()
    source.cs.make("Control\\GroupOrderList").set("SCSI miniport", BINARY, tag_data([9, 2, 1]))
    source.cs.make("Control\\GroupOrderList").set("Backup", BINARY, tag_data([1]))
    target.cs.make("Control\\GroupOrderList").set("SCSI miniport", BINARY, tag_data([3, 1]) + bytes(8))
    set_list(source.cs.make("Control\\ServiceGroupOrder"), "List", ["Backup", "scsi miniport"])
    bench = run(RULE, source, target)
    key, groups = bench.control("Control\\GroupOrderList"), bench.control("Control\\ServiceGroupOrder")
    assert key is not None and groups is not None
    value, own = key.value("SCSI miniport"), key.value("Backup")
    assert value is not None and tags(value.data) == [3, 1, 9, 2]
    assert own is not None and tags(own.data) == [1]
    assert list_of(groups.value("List")) == ["Boot Bus Extender", "SCSI miniport", "Backup"]


@pytest.mark.parametrize("data", [b"", b"\1\0\0", b"\2\0\0\0\1\0\0\0"])
def test_data_of_another_form_is_told_and_left(data: bytes) -> None:
    assert tags(data) is None
    source, target = pair()
    target.cs.make("Control\\GroupOrderList").set("SCSI miniport", BINARY, data)
    bench = run(RULE, source, target)
    assert ids(bench) == [] and findings(bench) == ["group-order-unreadable"]

"""The order in which drivers of one group and the groups themselves start: united, the target's order first."""

from __future__ import annotations

import struct

from livelift.adapt.windows.bench import Bench, Rule
from livelift.registry.tree import Key, fold
from livelift.registry.values import BINARY, list_of

TAGS, GROUPS = "Control\\GroupOrderList", "Control\\ServiceGroupOrder"


def plan(bench: Bench) -> None:
    target = bench.target.control(TAGS) or Key("")
    reason = "tags of the group's drivers: the target's order, then those that only the source has"
    for theirs in target.values:
        mine = (bench.source.control(TAGS) or Key("")).value(theirs.name)
        order = tags(theirs.data)
        ours = tags(mine.data) if mine is not None else []
        if order is None or ours is None:
            bench.draft.warn(
                "group-order-unreadable", f"GroupOrderList: {theirs.name} is not a count and that many tags"
            )
            continue
        merged = order + [tag for tag in ours if tag not in order]
        id = f"group-order/tags/{theirs.name.lower()}"
        bench.set_value(id, reason, f"{bench.set}\\{TAGS}", theirs.name, BINARY, tag_data(merged))
    order_of_groups = _list(bench.target.control(GROUPS))
    known = {fold(name) for name in order_of_groups}
    merged_groups = order_of_groups + [n for n in _list(bench.source.control(GROUPS)) if fold(n) not in known]
    if order_of_groups:
        reason = "groups in the target's order, then those that only the source has"
        bench.set_list("group-order/groups", reason, f"{bench.set}\\{GROUPS}", "List", merged_groups)
    else:
        bench.draft.warn("group-order-missing", "the target has no ServiceGroupOrder: the source's stays")


def tags(data: bytes) -> list[int] | None:
    """A count and that many tags, each 32 bits little-endian (learn.microsoft.com, "Specifying Driver Load Order");
    longer data is seen (zeros). None for data that is not that."""
    if len(data) < 4:
        return None
    (count,) = struct.unpack_from("<I", data)
    if 4 + 4 * count > len(data):
        return None
    return list(struct.unpack_from(f"<{count}I", data, 4))


def tag_data(order: list[int]) -> bytes:
    return struct.pack(f"<{len(order) + 1}I", len(order), *order)


def _list(key: Key | None) -> list[str]:
    return list_of(key.value("List")) if key is not None else []


RULE = Rule(
    id="group-order",
    touches=r"CSn\Control\GroupOrderList, ServiceGroupOrder\List",
    does="United: the target's order, then the tags and groups that only the source has.",
    why="Boot drivers of a group start in the order of their tags; a tag that is not listed starts last.",
    evidence="learn.microsoft.com on load order (read); 48 to 50 values in three hives (measured).",
    plan=plan,
)

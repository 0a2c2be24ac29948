"""Changes of hives, carried out on hives in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from livelift.adapt.changes import CopyValues, GraftKey, HiveChange, MergeList, RemoveKey, RemoveValue, SetValue
from livelift.adapt.plan import Plan
from livelift.adapt.windows.system import BCD
from livelift.errors import UsageError
from livelift.registry.tree import SEPARATOR, Hive, Key, Value
from livelift.registry.values import MULTI_SZ, list_data

Undo = Callable[[], None]
"""Makes a change undone; to be called in the reverse order of the changes."""


def apply(plan: Plan, source: dict[str, Hive], target: dict[str, Hive]) -> dict[str, Hive]:
    """The merged hives: copies of those of the source that the plan changes, with its edits. The inputs stay as they
    are."""
    names = {edit.change.hive for edit in plan.edits if isinstance(edit.change, HiveChange)}
    merged = {name: copy_hive(base(name, source, target)) for name in sorted(names)}
    for edit in plan.edits:
        if isinstance(edit.change, HiveChange):
            carry_out(edit.change, merged, source, target)
    return merged


def base(name: str, source: dict[str, Hive], target: dict[str, Hive]) -> Hive:
    """Which machine's hive a merged one begins as: the source's, but for the boot store and what only the target
    has."""
    return target[name] if name == BCD or name not in source else source[name]


def copy_hive(hive: Hive) -> Hive:
    twin = Hive(hive.root.copy(), hive.minor, hive.file_name, hive.timestamp)
    twin.recovered, twin.dirty, twin.notes, twin.sequence = hive.recovered, hive.dirty, list(hive.notes), hive.sequence
    return twin


def carry_out(
    change: HiveChange, merged: dict[str, Hive], source: dict[str, Hive], target: dict[str, Hive]
) -> list[Undo]:
    """One change. UsageError if what it copies from is not there: the plan was made for other hives."""
    root = merged[change.hive].root
    match change:
        case SetValue():
            return [*_made(root, change.key), _set(root.make(change.key), change.name, change.type, change.data)]
        case MergeList():
            data = list_data(list(change.parts))
            return [*_made(root, change.key), _set(root.make(change.key), change.name, MULTI_SZ, data)]
        case RemoveValue():
            key = root.find(change.key)
            return [_unset(key, change.name)] if key is not None else []
        case GraftKey():
            origin = (target if change.side == "target" else source)[change.hive].find(change.origin)
            if origin is None:
                raise UsageError(
                    f"the {change.side}'s {change.hive} has no key {change.origin}",
                    remedy="make the plan again from these hives",
                )
            return _put(root, change.key, origin.copy())
        case CopyValues():
            return _copy_values(root, source[change.hive].root, change)
        case RemoveKey():
            return _put(root, change.key, None)


def _made(root: Key, path: str) -> list[Undo]:
    """Undoes that a key is made, with the topmost of its parents that is made too."""
    key = root
    for name in path.split(SEPARATOR) if path else ():
        below = key.get(name)
        if below is None:
            return [partial(_forget, key, name)]
        key = below
    return []


def _forget(key: Key, name: str) -> None:
    key.remove(name)


def _set(key: Key, name: str, type: int, data: bytes) -> Undo:
    old = key.value(name)
    was = Value(old.name, old.type, old.data) if old is not None else None
    key.set(name, type, data)
    return lambda: key.set(was.name, was.type, was.data) if was is not None else _drop(key, name)


def _unset(key: Key, name: str) -> Undo:
    was = key.unset(name)
    return lambda: key.set(was.name, was.type, was.data) if was is not None else None


def _drop(key: Key, name: str) -> None:
    key.unset(name)


def _put(root: Key, path: str, new: Key | None) -> list[Undo]:
    undos = _made(root, path) if new is not None else []
    parent_path, _, name = path.rpartition(SEPARATOR)
    parent = root.make(parent_path) if new is not None else root.find(parent_path)
    if parent is None:
        return undos
    old = parent.get(name)
    if new is not None:
        new.name = name
        parent.add(new)
    else:
        parent.remove(name)
    if old is not None:
        undos.append(lambda: parent.add(old))
    return undos


def _copy_values(root: Key, other: Key, change: CopyValues) -> list[Undo]:
    undos: list[Undo] = []
    for path, value in values_named(other.find(change.origin), change.name):
        here = f"{change.key}{SEPARATOR}{path}" if path else change.key
        undos += _made(root, here)
        undos.append(_set(root.make(here), change.to, value.type, value.data))
    return undos


def values_named(top: Key | None, name: str) -> Iterator[tuple[str, Value]]:
    """All values of one name below a key, with the relative paths of their keys."""
    if top is not None:
        for path, key in top.walk():
            value = key.value(name)
            if value is not None:
                yield path, value


def same_tree(one: Key | None, two: Key | None) -> bool:
    """Equal names, values, classes and descriptors at every depth; timestamps do not count."""
    waiting = [(one, two)]
    while waiting:
        a, b = waiting.pop()
        if a is None or b is None:
            if a is not b:
                return False
            continue
        if len(a) != len(b) or a.value_count != b.value_count:
            return False
        if a.class_name != b.class_name or a.security != b.security:
            return False
        for value in a.values:
            other = b.value(value.name)
            if other is None or (other.type, other.data) != (value.type, value.data):
                return False
        waiting.extend((child, b.get(child.name)) for child in a)
    return True


class Count(msgspec.Struct, frozen=True):
    keys: int
    values: int

    def __str__(self) -> str:
        return f"{self.keys} keys, {self.values} values"


def count(top: Key) -> Count:
    keys = values = 0
    for _, key in top.walk():
        keys += 1
        values += key.value_count
    return Count(keys, values)

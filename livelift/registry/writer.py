"""A tree becomes a hive, written from scratch: no free cells in between, nothing of the old file's history.

As Windows writes it, field by field: `docs/internals/registry.md`. What is not taken over: the ids of the transaction
manager in the base block: the transactions of the old file are not those of the new one.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from typing import Final

from livelift.errors import HiveError
from livelift.registry.allocator import Allocator
from livelift.registry.base_block import MINORS, PRIMARY, BaseBlock, pack
from livelift.registry.bigdata import LARGEST_PLAIN, put_big
from livelift.registry.casing import order
from livelift.registry.cells import NONE
from livelift.registry.lists import put_subkeys
from livelift.registry.reader import COMPRESSED, COMPRESSED_VALUE, DEPTH, KEY_NODE, PREDEFINED, RESIDENT, VALUE
from livelift.registry.security import DEFAULT, put_securities
from livelift.registry.tree import Hive, Key, Value

ENTRY: Final = 0x4  # nk: the root of a hive
NO_DELETE: Final = 0x8
LONGEST: Final = 0xFFFE
"""Bytes of a name or a class name: their lengths have 16 bits."""


def write_hive(hive: Hive) -> bytes:
    """The bytes of a clean hive file. HiveError for what the format cannot hold."""
    if hive.minor not in MINORS:
        raise HiveError(f"format 1.{hive.minor} is not written", remedy="set the format to one of 1.3 to 1.6")
    writer = _Writer(hive)
    root = writer.tree(hive.root)
    bins = writer.cells.finish()
    block = BaseBlock(
        hive.sequence, hive.sequence, hive.timestamp, hive.minor, PRIMARY, root, len(bins), hive.file_name
    )
    return b"".join((pack(block), bins))


class _Writer:
    def __init__(self, hive: Hive) -> None:
        self.cells = Allocator(hive.timestamp)
        self._minor = hive.minor
        self._names: dict[str, tuple[bytes, int]] = {}

    def tree(self, root: Key) -> int:
        """Keys level with each other lie together: the kernel looks at all of them when it looks for one."""
        uses = _uses(root)
        top = self.cells.cell(76 + len(self._name(root.name)[0]))
        places = put_securities(uses, self.cells)
        waiting = [(root, top, NONE, root.security or DEFAULT)]
        while waiting:
            key, offset, parent, security = waiting.pop()
            names = sorted(key._subkeys)
            if not all(map(str.isascii, names)):
                names.sort(key=order)
            if names[:1] == [""]:
                raise HiveError(
                    f"a subkey of {key.name!r} has no name", remedy="remove it: the kernel takes it for damage"
                )
            children = [key._subkeys[name] for name in names]
            cells = [self.cells.cell(76 + len(self._name(child.name)[0])) for child in children]
            subkeys = put_subkeys(self.cells, self._minor, children, names, cells) if cells else NONE
            self._key(key, offset, parent, places[security], children, subkeys)
            for child, cell in zip(reversed(children), reversed(cells), strict=True):
                waiting.append((child, cell, offset, child.security or security))
        return top

    def _key(
        self, key: Key, offset: int, parent: int, security: int, children: Sequence[Key], subkeys: int
    ) -> None:  # fmt: skip
        name, compressed = self._name(key.name)
        flags = key.flags & ~(COMPRESSED | ENTRY) | (COMPRESSED if compressed else 0)
        if parent == NONE:
            flags |= ENTRY | NO_DELETE
        class_name = key.class_name or b""
        if len(class_name) > LONGEST:
            raise HiveError(f"the class name of {key.name!r} is too long", remedy="shorten it")
        count, values = key.value_count, NONE
        if flags & PREDEFINED:
            if count:
                raise HiveError(f"{key.name!r} is a predefined handle and cannot have values", remedy="clear the flag")
            count = key.predefined
        elif count:
            values = self.cells.put(struct.pack(f"<{count}I", *[self._value(value) for value in key.values]))
        KEY_NODE.pack_into(
            self.cells.bins, offset + 4, b"nk", flags, key.timestamp, key.access, parent, len(children), 0, subkeys,
            NONE, count, values, security, self.cells.put(class_name) if class_name else NONE,
            max((self._units(child.name) for child in children), default=0), key.control,
            max((len(child.class_name or b"") for child in children), default=0),
            max((self._units(value.name) for value in key.values), default=0),
            max((len(value.data) for value in key.values), default=0), 0, len(name), len(class_name),
        )  # fmt: skip
        self.cells.bins[offset + 80 : offset + 80 + len(name)] = name

    def _value(self, value: Value) -> int:
        name, compressed = self._name(value.name)
        data = value.data
        size = len(data)
        if size <= 4:
            where = int.from_bytes(data, "little")
            size |= RESIDENT
        elif size > LARGEST_PLAIN and self._minor >= 4:
            where = put_big(self.cells, data)
        else:
            where = self.cells.put(data)
        flags = value.flags & ~COMPRESSED_VALUE | (COMPRESSED_VALUE if compressed and name else 0)
        offset = self.cells.cell(20 + len(name))
        VALUE.pack_into(self.cells.bins, offset + 4, b"vk", len(name), size, where, value.type, flags, 0)
        self.cells.bins[offset + 24 : offset + 24 + len(name)] = name
        return offset

    def _name(self, name: str) -> tuple[bytes, int]:
        """(as stored, 1 if that is Latin-1)."""
        known = self._names.get(name)
        if known is None:
            try:
                known = name.encode("latin-1"), 1
            except UnicodeEncodeError:
                known = name.encode("utf-16-le", "surrogatepass"), 0
            if len(known[0]) * (1 + known[1]) > LONGEST:
                raise HiveError(f"the name {name[:40]!r}... is too long", remedy="shorten it")
            self._names[name] = known
        return known

    def _units(self, name: str) -> int:
        """Bytes of the name in UTF-16, however it is stored."""
        raw, compressed = self._name(name)
        return len(raw) << compressed


def _uses(root: Key) -> Counter[bytes]:
    """How many keys have each descriptor; one that has none has its parent's."""
    uses: Counter[bytes] = Counter()
    waiting = [(root, root.security or DEFAULT, 0)]
    while waiting:
        key, security, depth = waiting.pop()
        if depth > DEPTH:
            raise HiveError(f"keys nest deeper than {DEPTH} levels", remedy="remove the deepest ones")
        uses[security] += 1
        for name in sorted(key._subkeys):  # so that the file does not tell in which order the tree was built
            child = key._subkeys[name]
            waiting.append((child, child.security or security, depth + 1))
    return uses

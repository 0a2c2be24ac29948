"""A hive's bytes become a tree: key nodes (nk), their subkey lists, values (vk), class names and security (sk).

Source: regf specification of M. Suhanov; key node of Windows 7 and later (the field "largest name" keeps 16 bits, the
rest are flags). The walk is a loop, parents first. Nothing is guessed: what does not fit is a HiveError that names the
cell. Since a cell has one owner (`cells`), the tree is never bigger than a small multiple of the bytes it came from.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from livelift.errors import HiveError
from livelift.registry.base_block import BLOCK, MAX_BINS, PRIMARY, BaseBlock, unpack
from livelift.registry.bigdata import LARGEST_PLAIN, read_big
from livelift.registry.cells import NONE, Cells, damaged
from livelift.registry.lists import subkey_offsets
from livelift.registry.logs import Recovery, recover
from livelift.registry.tree import Hive, Key, Value, fold

KEY_NODE: Final = struct.Struct("<2sHQIIIIIIIIIIHHIIIIHH")
VALUE: Final = struct.Struct("<2sHIIIHH")
SECURITY: Final = struct.Struct("<2sHIIII")
COMPRESSED: Final = 0x20  # nk: the name is Latin-1, not UTF-16
PREDEFINED: Final = 0x40  # nk: the number of values is a predefined handle (HKEY_PERFORMANCE_*), no values follow
COMPRESSED_VALUE: Final = 1
RESIDENT: Final = 0x80000000
DEPTH: Final = 512
"""Levels of keys below the root (Microsoft: "Registry Element Size Limits")."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a hive may ask for. ``depth``: levels of keys, ``size``: bytes of its bins."""

    depth: int = DEPTH
    size: int = MAX_BINS
    keys: int = 1 << 24
    values: int = 1 << 26


STANDARD: Final = Limits()


class Opened(NamedTuple):
    """A hive brought up to date, not yet a tree. ``recovery`` is None where it was clean."""

    block: BaseBlock
    cells: Cells
    recovery: Recovery | None


def read_hive(data: bytes | memoryview, logs: Sequence[bytes] = (), *, limits: Limits = STANDARD) -> Hive:
    """The hive in ``data``, brought up to date from its transaction logs if it needs them. ``dirty`` of the result is
    True where it was not closed cleanly and no log could make that good: later changes are then missing, or half
    there. HiveError where it cannot be read."""
    return tree_of(open_hive(data, logs, limits=limits), limits=limits)


def open_hive(data: bytes | memoryview, logs: Sequence[bytes] = (), *, limits: Limits = STANDARD) -> Opened:
    """The cells of a hive after its logs were replayed, as far as that was needed."""
    data = memoryview(data).toreadonly()
    block = unpack(data)
    if block.type != PRIMARY:
        raise HiveError(f"this is a transaction log (type {block.type})", remedy="name the hive, the file without .LOG")
    if block.clean:
        return Opened(block, cells_of(data[BLOCK:], block, limits), None)
    recovery = recover(data, logs, min(limits.size, MAX_BINS))
    return Opened(recovery.block, cells_of(memoryview(recovery.bins), recovery.block, limits), recovery)


def tree_of(opened: Opened, *, limits: Limits = STANDARD) -> Hive:
    """Once only: reading marks the cells."""
    block, cells, recovery = opened
    hive = Hive(_Reader(cells, block, limits).tree(), block.minor, block.file_name, block.timestamp)
    hive.sequence = (max(block.sequence1, block.sequence2) + 1) % 0xFFFFFFFF or 1
    if recovery is not None:
        hive.recovered = recovery.applied
        hive.dirty = not recovery.complete
        hive.notes = recovery.notes
    return hive


def cells_of(bins: memoryview, block: BaseBlock, limits: Limits = STANDARD) -> Cells:
    """The cells behind a base block; ``bins`` may be longer (Windows allocates ahead)."""
    size = block.size
    if not size or size % BLOCK or size > min(limits.size, MAX_BINS):
        raise HiveError(f"its bins cannot have {size} bytes")
    if len(bins) < size:
        raise HiveError(f"cut off: {BLOCK + len(bins)} bytes where the base block tells of {BLOCK + size}")
    return Cells(bins[:size])


class _Reader:
    def __init__(self, cells: Cells, block: BaseBlock, limits: Limits) -> None:
        self._cells = cells
        self._bins = cells.bins
        self._block = block
        self._limits = limits
        self._security: dict[int, bytes] = {}
        self._same: dict[bytes, bytes] = {}
        self._values_left = limits.values

    def tree(self) -> Key:
        limits = self._limits
        root, children = self._key(self._block.root)
        keys = 1
        waiting = [(root, children, 1)] if children else []
        while waiting:
            parent, children, depth = waiting.pop()
            if depth > limits.depth:
                raise damaged(f"keys nest deeper than {limits.depth} levels", children[0])
            keys += len(children)
            if keys > limits.keys:
                raise HiveError(f"more than {limits.keys} keys")
            below = parent._subkeys
            for offset in children:
                key, grandchildren = self._key(offset)
                below[fold(key.name)] = key
                if grandchildren:
                    waiting.append((key, grandchildren, depth + 1))
            if len(below) != len(children):
                raise damaged(f"two subkeys of {parent.name!r} have the same name", children[0])
        return root

    def _key(self, offset: int) -> tuple[Key, Sequence[int]]:
        """The key node at ``offset`` with its values, and the offsets of its subkeys."""
        bins = self._bins
        space = self._cells.take(offset, 76, "a key")
        (
            magic, flags, stamp, access, _parent, subkeys, _volatile, subkey_list, _volatile_list, count, value_list,
            security, class_cell, _largest, control, _classes, _names, _data, _work, name_size, class_size,
        ) = KEY_NODE.unpack_from(bins, offset + 4)  # fmt: skip
        if magic != b"nk":
            raise damaged("a key was expected here", offset)
        if name_size > space - 76:
            raise damaged(f"its name of {name_size} bytes does not fit", offset)
        key = Key(
            text_at(bins, offset + 80, name_size, flags & COMPRESSED, offset), stamp, self._descriptor(security), None,
            flags, access, control,
        )  # fmt: skip
        if class_size and class_cell != NONE:
            self._cells.take(class_cell, class_size, "a class name")
            key.class_name = bytes(bins[class_cell + 4 : class_cell + 4 + class_size])
        if flags & PREDEFINED:
            key.predefined = count
        elif count:
            self._values(key, count, value_list)
        if not subkeys:
            return key, ()
        return key, subkey_offsets(self._cells, subkey_list, subkeys)

    def _values(self, key: Key, count: int, offset: int) -> None:
        cells, bins = self._cells, self._bins
        if count > len(bins) >> 2:
            raise damaged(f"a list of {count} values was expected here", offset)
        self._values_left -= count
        if self._values_left < 0:
            raise HiveError(f"more than {self._limits.values} values")
        cells.take(offset, 4 * count, "a list of values")
        into = key._values
        for cell in struct.unpack_from(f"<{count}I", bins, offset + 4):
            space = cells.take(cell, 20, "a value")
            magic, name_size, size, where, kind, flags, _ = VALUE.unpack_from(bins, cell + 4)
            if magic != b"vk":
                raise damaged("a value was expected here", cell)
            if name_size > space - 20:
                raise damaged(f"its name of {name_size} bytes does not fit", cell)
            name = text_at(bins, cell + 24, name_size, flags & COMPRESSED_VALUE, cell) if name_size else ""
            if size & RESIDENT:
                size &= ~RESIDENT
                if size > 4:
                    raise damaged(f"{size} bytes of data cannot be where their offset should be", cell)
                data = bytes(bins[cell + 12 : cell + 12 + size])
            elif not size:
                data = b""
            else:
                data = self._data(where, size)
            into[fold(name)] = Value(name, kind, data, flags & ~COMPRESSED_VALUE)
        if len(into) != count:
            raise damaged(f"two values of {key.name!r} have the same name", offset)

    def _data(self, offset: int, size: int) -> bytes:
        if size > LARGEST_PLAIN and self._block.minor >= 4:
            return read_big(self._cells, offset, size)
        self._cells.take(offset, size, "the data of a value")
        return bytes(self._bins[offset + 4 : offset + 4 + size])

    def _descriptor(self, offset: int) -> bytes:
        """The security descriptor at ``offset``; one object for all that are equal. b"" for a key without any."""
        found = self._security.get(offset)
        if found is None:
            if offset == NONE:
                return b""
            space = self._cells.take(offset, 20, "a security descriptor")
            magic, _, _, _, _, size = SECURITY.unpack_from(self._bins, offset + 4)
            if magic != b"sk":
                raise damaged("a security descriptor was expected here", offset)
            if size > space - 20:
                raise damaged(f"its descriptor of {size} bytes does not fit", offset)
            found = bytes(self._bins[offset + 24 : offset + 24 + size])
            found = self._security[offset] = self._same.setdefault(found, found)
        return found


def text_at(bins: memoryview, start: int, size: int, compressed: int, cell: int) -> str:
    """A name: Latin-1, or UTF-16-LE in which lone surrogates are kept."""
    raw = bytes(bins[start : start + size])
    if compressed:
        return raw.decode("latin-1")
    if size & 1:
        raise damaged("its name in UTF-16 has an odd number of bytes", cell)
    return raw.decode("utf-16-le", "surrogatepass")

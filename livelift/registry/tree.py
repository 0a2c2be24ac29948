"""A hive in memory: keys, values and security descriptors as plain objects that can be edited.

Names compare without regard to case, as in the kernel (`casing`).
"""

from __future__ import annotations

from collections.abc import Iterator

from livelift.registry.casing import fold

__all__ = ["Hive", "Key", "SEPARATOR", "Value", "fold"]

SEPARATOR = "\\"


class Value:
    """``type`` is kept raw: device properties use 0xffff0000 | DEVPROP_TYPE_*, others 0x2000x. ``data``: as stored,
    text in UTF-16-LE. ``flags``: of the vk cell but for the one that tells of a compressed name; 2 marks a value as
    deleted in a layered (differencing) hive."""

    __slots__ = ("data", "flags", "name", "type")

    def __init__(self, name: str, type: int, data: bytes, flags: int = 0) -> None:
        self.name = name  # "": the default value
        self.type = type
        self.data = data
        self.flags = flags

    def same(self, other: Value) -> bool:
        return self.name == other.name and self.type == other.type and self.data == other.data


class Key:
    """``timestamp``: FILETIME (100 ns since 1601-01-01). ``security``: a self-relative security descriptor, shared by
    reference with the keys that have the same. ``class_name``: raw UTF-16-LE bytes, None if there is none (Control\\Lsa
    keeps the boot key in those). ``flags``: of the nk cell, as stored; symbolic links and volatile keys are told by
    them. ``access`` and ``control``: two more words of the cell (access bits and layer; user, virtualisation and debug
    flags). ``predefined``: the handle that a key with the flag PREDEF_HANDLE has in place of values."""

    __slots__ = (
        "_subkeys", "_values", "access", "class_name", "control", "flags", "name", "predefined", "security",
        "timestamp",
    )  # fmt: skip

    def __init__(
        self, name: str, timestamp: int = 0, security: bytes = b"", class_name: bytes | None = None, flags: int = 0,
        access: int = 0, control: int = 0, predefined: int = 0,
    ) -> None:  # fmt: skip
        self.name = name
        self.timestamp = timestamp
        self.security = security
        self.class_name = class_name
        self.flags = flags
        self.access = access
        self.control = control
        self.predefined = predefined
        self._subkeys: dict[str, Key] = {}
        self._values: dict[str, Value] = {}

    # -- subkeys -----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Key]:
        return iter(self._subkeys.values())

    def __len__(self) -> int:
        return len(self._subkeys)

    def __bool__(self) -> bool:
        return True

    def get(self, name: str) -> Key | None:
        """A direct subkey."""
        return self._subkeys.get(fold(name))

    def find(self, path: str) -> Key | None:
        """The key at a path of names separated by backslashes; "" is this key."""
        key: Key | None = self
        for name in path.split(SEPARATOR) if path else ():
            if key is None:
                return None
            key = key.get(name)
        return key

    def make(self, path: str, timestamp: int = 0) -> Key:
        """The key at a path, created where it is missing; a new one takes its parent's security, as the kernel does it
        where the parent's entries are inherited."""
        key = self
        for name in path.split(SEPARATOR) if path else ():
            found = key.get(name)
            if found is None:
                found = Key(name, timestamp or key.timestamp, key.security)
                key.add(found)
            key = found
        return key

    def add(self, child: Key) -> None:
        """Put a key below this one; one that has its name is replaced, at its place in the order."""
        self._subkeys[fold(child.name)] = child

    def remove(self, name: str) -> Key | None:
        """Take a direct subkey, and all below it, away."""
        return self._subkeys.pop(fold(name), None)

    def walk(self, path: str = "") -> Iterator[tuple[str, Key]]:
        """This key and all below it with their paths, parents first. Not recursive: hives nest up to 512 deep."""
        waiting = [(path, self)]
        while waiting:
            here, key = waiting.pop()
            yield here, key
            prefix = here + SEPARATOR if here else ""
            waiting.extend((prefix + child.name, child) for child in reversed(key._subkeys.values()))

    def copy(self) -> Key:
        """This key and all below it, independent of the original; security descriptors stay shared."""
        top = self._bare()
        waiting = [(self, top)]
        while waiting:
            old, new = waiting.pop()
            new._values = {f: Value(v.name, v.type, v.data, v.flags) for f, v in old._values.items()}
            for folded, child in old._subkeys.items():
                twin = child._bare()
                new._subkeys[folded] = twin
                waiting.append((child, twin))
        return top

    def _bare(self) -> Key:
        return Key(
            self.name, self.timestamp, self.security, self.class_name, self.flags, self.access, self.control,
            self.predefined,
        )  # fmt: skip

    # -- values ------------------------------------------------------------------------------------------------------

    @property
    def values(self) -> Iterator[Value]:
        return iter(self._values.values())

    @property
    def value_count(self) -> int:
        return len(self._values)

    def value(self, name: str) -> Value | None:
        return self._values.get(fold(name))

    def set(self, name: str, type: int, data: bytes) -> None:
        """A value that exists keeps its place in the order and the spelling of its name."""
        old = self._values.get(fold(name))
        if old is None:
            self._values[fold(name)] = Value(name, type, data)
        else:
            old.type, old.data = type, data

    def unset(self, name: str) -> Value | None:
        return self._values.pop(fold(name), None)


class Hive:
    """``minor``: 3 to 6, the format of the file (1.``minor``). ``file_name``: the end of its path, as in the base
    block. ``recovered``: log entries that were replayed when it was read. ``dirty``: it was not closed cleanly and no
    log made that good. ``notes``: what was found in the logs, in words. ``sequence``: the number that the written hive
    has; above those of the hive and the logs it was read from, so that none of their entries fits it again."""

    def __init__(self, root: Key, minor: int = 5, file_name: str = "", timestamp: int = 0) -> None:
        self.root = root
        self.minor = minor
        self.file_name = file_name
        self.timestamp = timestamp
        self.recovered = 0
        self.dirty = False
        self.notes: list[str] = []
        self.sequence = 1

    def find(self, path: str) -> Key | None:
        return self.root.find(path)

    def counts(self) -> tuple[int, int]:
        """(keys, values), the root included."""
        keys = values = 0
        for _, key in self.root.walk():
            keys += 1
            values += key.value_count
        return keys, values

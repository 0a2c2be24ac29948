"""What a value's bytes mean: text, lists of text, numbers."""

from __future__ import annotations

from livelift.registry.tree import Key, Value

NONE, SZ, EXPAND_SZ, BINARY, DWORD, DWORD_BIG_ENDIAN, LINK, MULTI_SZ = range(8)
RESOURCE_LIST, FULL_RESOURCE_DESCRIPTOR, RESOURCE_REQUIREMENTS_LIST, QWORD = range(8, 12)


def text_of(value: Value | None) -> str:
    """REG_SZ, REG_EXPAND_SZ or REG_LINK up to its first NUL; "" for none. A lone surrogate is kept as it is."""
    if value is None or value.type not in (SZ, EXPAND_SZ, LINK):
        return ""
    data = value.data[: len(value.data) // 2 * 2]
    return data.decode("utf-16-le", "surrogatepass").split("\0", 1)[0]


def list_of(value: Value | None) -> list[str]:
    """REG_MULTI_SZ; a REG_SZ counts as a list of one (drivers of both kinds are seen in Owners and filter lists)."""
    if value is None:
        return []
    if value.type in (SZ, EXPAND_SZ):
        return [text] if (text := text_of(value)) else []
    if value.type != MULTI_SZ:
        return []
    data = value.data[: len(value.data) // 2 * 2]
    return [part for part in data.decode("utf-16-le", "surrogatepass").split("\0") if part]


def number_of(value: Value | None, default: int = -1) -> int:
    """REG_DWORD (either order) or REG_QWORD; ``default`` for none or one of another size."""
    if value is None:
        return default
    if value.type == DWORD and len(value.data) == 4:
        return int.from_bytes(value.data, "little")
    if value.type == DWORD_BIG_ENDIAN and len(value.data) == 4:
        return int.from_bytes(value.data, "big")
    if value.type == QWORD and len(value.data) == 8:
        return int.from_bytes(value.data, "little")
    return default


def text_data(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le", "surrogatepass")


def list_data(parts: list[str]) -> bytes:
    return "".join(part + "\0" for part in [*parts, ""]).encode("utf-16-le", "surrogatepass")


def set_text(key: Key, name: str, text: str, type: int = SZ) -> None:
    key.set(name, type, text_data(text))


def set_list(key: Key, name: str, parts: list[str]) -> None:
    key.set(name, MULTI_SZ, list_data(parts))


def set_number(key: Key, name: str, number: int) -> None:
    key.set(name, DWORD, number.to_bytes(4, "little"))

"""What comes out of a hive, first of one that was put together by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from livelift.errors import HiveError
from livelift.registry.reader import Limits, read_hive
from tests.registry.raw import DESCRIPTOR, NONE, STAMP, Raw, sample


@pytest.mark.parametrize("minor", [3, 4, 5, 6])
def test_every_kind_of_cell_is_read(minor: int) -> None:
    raw = Raw()
    if minor == 3:
        security = raw.security(1)
        big = bytes(range(256)) * 80
        values = raw.offsets([raw.value(b"big", 3, len(big), raw.cell(big))])
        hive = read_hive(raw.hive(raw.key(b"R", flags=0x2C, security=security, values=(1, values)), minor=3))
        (value,) = hive.root.values
        assert (hive.minor, value.data) == (3, big)
        return
    hive = read_hive(sample(minor))
    root = hive.root
    assert (hive.minor, hive.file_name, hive.timestamp, hive.dirty, hive.recovered) == (
        minor,
        "by hand",
        STAMP,
        False,
        0,
    )
    assert (root.name, root.flags, root.timestamp, root.security, root.class_name) == (
        "ROOT",
        0x2C,
        STAMP,
        DESCRIPTOR,
        None,
    )
    assert [child.name for child in root] == ["Alpha", "Bé", "ώ2", "Ω"]
    assert [(value.name, value.type, value.data) for value in root.values] == [
        ("", 1, b"a\0\0\0"),
        ("number", 4, b"\x2a\0\0\0"),
        ("two", 3, b"ab"),
        ("Größe", 0xFFFF0012, b""),
        ("naïve ż", 7, b"x\0\0\0\0\0"),
        ("big", 3, bytes(range(256)) * 80),
    ]
    alpha = root.get("alpha")
    assert alpha is not None and alpha.class_name == "klass".encode("utf-16-le")
    assert alpha.security is root.security, "descriptors are shared by reference"
    assert root.find("Ω") is root.find("ω") is not None
    assert hive.counts() == (5, 6)


def test_equal_descriptors_are_one_object() -> None:
    raw = Raw()
    one, same = raw.security(1), raw.security(1)
    leaf = raw.list(b"li", [raw.key(b"a", security=same)])
    root = read_hive(raw.hive(raw.key(b"R", security=one, subkeys=(1, leaf)))).root
    assert [key.security is root.security for _, key in root.walk()] == [True, True]


def test_a_predefined_handle_is_no_count() -> None:
    raw = Raw()
    hive = read_hive(raw.hive(raw.key(b"R", flags=0x6C, values=(0x80000050, NONE))))
    assert (hive.root.predefined, hive.root.value_count) == (0x80000050, 0)


def test_big_data_in_one_cell_is_read_as_other_writers_leave_it() -> None:
    raw = Raw()
    values = raw.offsets([raw.value(b"v", 3, 20000, raw.cell(b"x" * 20000))])
    (value,) = read_hive(raw.hive(raw.key(b"R", values=(1, values)))).root.values
    assert value.data == b"x" * 20000


def test_what_follows_the_bins_is_not_looked_at() -> None:
    assert read_hive(sample() + b"\xff" * 5000).counts() == (5, 6)


Fault = Callable[[Raw], int]


def loop(raw: Raw) -> int:
    root = raw.key(b"R", subkeys=(1, 0))
    raw.patch(root, 28, struct.pack("<I", raw.list(b"li", [root])))
    return root


def value_twice(raw: Raw) -> int:
    value = raw.value(b"v", 3, 4000, raw.cell(bytes(4000)))
    return raw.key(b"R", values=(2, raw.offsets([value, value])))


def data_twice(raw: Raw) -> int:
    data = raw.cell(bytes(4000))
    return raw.key(b"R", values=(2, raw.offsets([raw.value(b"a", 3, 4000, data), raw.value(b"b", 3, 4000, data)])))


def list_of_itself(raw: Raw) -> int:
    cell = raw.cell(struct.pack("<2sHI", b"ri", 1, 0))
    raw.patch(cell, 4, struct.pack("<I", cell))
    return raw.key(b"R", subkeys=(1, cell))


def nested_root_list(raw: Raw) -> int:
    leaf = raw.list(b"li", [raw.key(b"a")])
    return raw.key(b"R", subkeys=(1, raw.list(b"ri", [raw.list(b"ri", [leaf])])))


def two_of_a_name(raw: Raw) -> int:
    return raw.key(b"R", subkeys=(2, raw.list(b"li", [raw.key(b"same"), raw.key(b"SAME")])))


def two_values_of_a_name(raw: Raw) -> int:
    values = [raw.value(b"v", 4, 0x80000004, 1), raw.value(b"V", 4, 0x80000004, 1)]
    return raw.key(b"R", values=(2, raw.offsets(values)))


def inside_a_cell(raw: Raw) -> int:
    return raw.key(b"R", subkeys=(1, raw.list(b"li", [raw.cell(bytes(100)) + 8])))


def free_cell(raw: Raw) -> int:
    return raw.key(b"R", values=(1, raw.cell(bytes(4), used=False)))


def key_name_beyond_its_cell(raw: Raw) -> int:
    key = raw.key(b"R")
    raw.patch(key, 72, b"\x0d\0")
    return key


def value_name_beyond_its_cell(raw: Raw) -> int:
    value = raw.value(b"v", 4, 0x80000004, 1)
    raw.patch(value, 2, b"\x09\0")
    return raw.key(b"R", values=(1, raw.offsets([value])))


def descriptor_beyond_its_cell(raw: Raw) -> int:
    security = raw.security(1)
    raw.patch(security, 16, b"\x19\0\0\0")
    return raw.key(b"R", security=security)


FAULTS: list[tuple[Fault, str]] = [
    (loop, "belongs to another owner"),
    (value_twice, "belongs to another owner"),
    (data_twice, "belongs to another owner"),
    (list_of_itself, "belongs to another owner"),
    (nested_root_list, "a list of subkeys was expected"),
    (two_of_a_name, "two subkeys of 'R'"),
    (two_values_of_a_name, "two values of 'R'"),
    (inside_a_cell, "no cell begins there"),
    (free_cell, "that cell is free"),
    (key_name_beyond_its_cell, "its name of 13 bytes does not fit"),
    (value_name_beyond_its_cell, "its name of 9 bytes does not fit"),
    (descriptor_beyond_its_cell, "its descriptor of 25 bytes does not fit"),
    (lambda raw: raw.key(b"R", subkeys=(2, raw.list(b"li", [raw.key(b"a")]))), "a list of 1 subkeys where"),
    (lambda raw: raw.key(b"R", subkeys=(0xFFFFFFFF, raw.list(b"li", [raw.key(b"a")]))), "a list of 1 subkeys where"),
    (lambda raw: raw.key(b"R", values=(0x40000000, raw.offsets([]))), "a list of 1073741824 values"),
    (lambda raw: raw.key(b"R", values=(50, raw.offsets([1]))), "a list of values needs 200 bytes"),
    (lambda raw: raw.key(b"R", values=(1, raw.offsets([raw.value(b"v", 3, 0x80000005, 0)]))), "5 bytes of data cannot"),
    (lambda raw: raw.key(b"R", values=(1, raw.offsets([raw.value(b"v", 3, 50, raw.cell(b"x"))]))), "needs 50 bytes"),
    (lambda raw: raw.key(b"R", values=(1, raw.offsets([raw.cell(b"xx" + bytes(30))]))), "a value was expected"),
    (lambda raw: raw.key(b"R", security=raw.cell(bytes(40))), "a security descriptor was expected"),
    (lambda raw: raw.key(b"R", class_name=(raw.cell(b"x"), 500)), "a class name needs 500 bytes"),
    (lambda raw: raw.key(b"odd", flags=0xC), "odd number of bytes"),
    (lambda raw: raw.cell(bytes(200)), "a key was expected"),
    (lambda raw: NONE, "no cell begins there"),
    (lambda raw: raw.key(b"R", values=(1, raw.offsets([raw.value(b"v", 3, 20000, raw.cell(b"db\3\0" + bytes(12)))]))),
     "big data of 20000 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "complaint"), FAULTS)
def test_a_fault_is_named_with_its_cell(fault: Fault, complaint: str) -> None:
    raw = Raw()
    with pytest.raises(HiveError, match=complaint) as caught:
        read_hive(raw.hive(fault(raw)))
    assert "cell at 0x" in str(caught.value) and caught.value.remedy


def chain(levels: int) -> bytes:
    raw = Raw()
    below = (0, NONE)
    for _ in range(levels):
        below = (1, raw.list(b"li", [raw.key(b"k", subkeys=below)]))
    return raw.hive(raw.key(b"R", subkeys=below))


def test_keys_nest_as_deep_as_windows_lets_them() -> None:
    assert read_hive(chain(512)).counts() == (513, 0)
    with pytest.raises(HiveError, match="deeper than 512"):
        read_hive(chain(513))


@pytest.mark.parametrize("limits", [Limits(keys=4), Limits(values=5), Limits(size=4096)])
def test_limits_hold(limits: Limits) -> None:
    with pytest.raises(HiveError):
        read_hive(sample(), limits=limits)
    read_hive(sample(), limits=Limits(keys=5, values=6, size=1 << 16))


def test_a_hive_that_is_cut_off_is_refused() -> None:
    whole = sample()
    for length in (0, 3, 511, 512, 4095, 4096, 5000, len(whole) - 1):
        with pytest.raises(HiveError):
            read_hive(whole[:length])

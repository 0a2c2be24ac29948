"""The journal's records become events; pure, so every case is tried here and none on a real volume."""

from __future__ import annotations

import pytest

from livelift.capture.usn_events import Translator
from livelift.platform.windows import usn
from livelift.platform.windows.usn import UsnRecord
from livelift.ports import Dirty, Named, Op

V = 3 << 56


def record(reason: int, name: str = "f", reference: int = 100, parent: int = 5, directory: bool = False) -> UsnRecord:
    return UsnRecord(0, reference, parent, reason, name.encode(), 0x10 if directory else 0x20, 116444736000000000, 2)


def test_a_file_that_is_made_and_written() -> None:
    translator = Translator(3)
    events = translator.events([
        record(usn.FILE_CREATE),
        record(usn.FILE_CREATE | usn.DATA_EXTEND),
        record(usn.FILE_CREATE | usn.DATA_EXTEND | usn.CLOSE),
    ])  # fmt: skip
    assert events == [
        Named(Op.CREATED, V | 5, b"f", V | 100),
        Dirty(V | 100, True, V | 5, b"f"),
        Dirty(V | 100, True, V | 5, b"f"),
    ]
    assert translator.still_open() == []


def test_a_database_that_never_closes_is_marked_again() -> None:
    translator = Translator(3)
    translator.events([record(usn.DATA_OVERWRITE, "db")])
    assert translator.still_open() == [Dirty(V | 100, True, V | 5, b"db")]
    assert translator.still_open() == [Dirty(V | 100, True, V | 5, b"db")], "until it is closed"
    translator.events([record(usn.DATA_OVERWRITE | usn.CLOSE, "db")])
    assert translator.still_open() == []


def test_attributes_alone_are_no_content() -> None:
    events = Translator(3).events([record(usn.BASIC_INFO_CHANGE), record(usn.SECURITY_CHANGE | usn.CLOSE)])
    assert [e.content for e in events if isinstance(e, Dirty)] == [False, False]


def test_a_rename_between_directories() -> None:
    translator = Translator(3)
    translator.events([record(usn.DATA_EXTEND, "a")])
    events = translator.events([
        record(usn.DATA_EXTEND | usn.RENAME_OLD, "a", parent=5),
        record(usn.DATA_EXTEND | usn.RENAME_NEW, "b", parent=6),
        record(usn.DATA_EXTEND | usn.RENAME_NEW | usn.CLOSE, "b", parent=6),
    ])  # fmt: skip
    named = [e for e in events if isinstance(e, Named)]
    assert named == [Named(Op.RENAMED, V | 5, b"a", V | 100, V | 6, b"b")], "once, not again at the close"


def test_an_open_file_is_marked_where_it_is_now() -> None:
    translator = Translator(3)
    translator.events([
        record(usn.DATA_EXTEND, "a", parent=5),
        record(usn.DATA_EXTEND | usn.RENAME_OLD, "a", parent=5),
        record(usn.DATA_EXTEND | usn.RENAME_NEW, "b", parent=6),
    ])  # fmt: skip
    assert translator.still_open() == [Dirty(V | 100, True, V | 6, b"b")]


def test_two_renames_while_it_stays_open() -> None:
    events = Translator(3).events([
        record(usn.RENAME_OLD, "a"), record(usn.RENAME_NEW, "b"),
        record(usn.RENAME_OLD, "b"), record(usn.RENAME_NEW, "c"),
    ])  # fmt: skip
    assert [(e.name, e.new_name) for e in events if isinstance(e, Named)] == [(b"a", b"b"), (b"b", b"c")]


def test_a_rename_whose_first_half_was_not_read() -> None:
    assert Translator(3).events([record(usn.RENAME_NEW, "b")]) == [Named(Op.TOUCHED, V | 5, b"b")]


def test_removed_and_linked() -> None:
    translator = Translator(3)
    translator.events([record(usn.DATA_EXTEND)])
    assert translator.events([record(usn.DATA_EXTEND | usn.FILE_DELETE | usn.CLOSE)]) == [
        Named(Op.REMOVED, V | 5, b"f", V | 100)
    ]
    assert translator.still_open() == []
    assert translator.events([record(usn.HARD_LINK_CHANGE, "second", parent=9)]) == [
        Named(Op.TOUCHED, V | 9, b"second")
    ]


def test_a_directory_is_marked_by_itself() -> None:
    (event,) = Translator(3).events([record(usn.SECURITY_CHANGE, directory=True)])
    assert event == Dirty(V | 100, False)


def test_ranges_mark_their_object() -> None:
    (event,) = Translator(3).events([UsnRecord(0, 100, 0, usn.DATA_OVERWRITE, b"", 0, 0, 4, ((0, 4096),))])
    assert event == Dirty(V | 100, True)


def test_a_reference_of_refs_is_refused() -> None:
    with pytest.raises(ValueError, match="128 bits"):
        Translator(3).events([record(usn.FILE_CREATE, reference=1 << 70)])

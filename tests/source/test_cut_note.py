"""The note of a cutover survives the agent, and says to the target what it must know."""

from __future__ import annotations

import os

import pytest

from livelift.source.cut_note import NAMES, CutNote


@pytest.mark.parametrize("state", NAMES)
def test_it_survives_and_leaves_no_temporary_file(tmp_path, state):
    directory = os.fsencode(tmp_path)
    CutNote(directory).set("cut")
    CutNote(directory).set(state)
    assert CutNote(directory).state == state
    assert os.listdir(directory) == [b"cut"]


def test_without_a_note_nothing_is_said(tmp_path):
    note = CutNote(os.fsencode(tmp_path))
    assert (note.state, note.features) == ("", ())


def test_a_note_that_cannot_be_understood_is_a_cut(tmp_path):
    """The safe reading: nothing is sent to a replica that may be in use."""
    (tmp_path / "cut").write_text("torn")
    note = CutNote(os.fsencode(tmp_path))
    assert (note.state, note.features) == ("cut", ("cut",))


@pytest.mark.parametrize(("state", "said"), [("fenced", ()), ("asked", ("rollback",)), ("undone", ("rollback",))])
def test_an_attempt_that_asked_for_the_cut_undoes_it(tmp_path, state, said):
    note = CutNote(os.fsencode(tmp_path))
    note.set(state)
    assert note.features == said

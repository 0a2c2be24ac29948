from __future__ import annotations

import pytest

from livelift.checks.findings import Finding, Findings, Level
from livelift.errors import PreflightError

NOTE = Finding("n", Level.NOTE, "a note")
WARNING = Finding("w", Level.WARNING, "a warning", "look at it")
STOP = Finding("s", Level.INHIBITOR, "too small", "make it larger")
HALT = Finding("h", Level.INHIBITOR, "overlap")


def test_the_worst_comes_first_and_equals_keep_their_order():
    assert [f.id for f in Findings([NOTE, STOP, WARNING, HALT]).findings] == ["s", "h", "w", "n"]


def test_inhibitors_stop_with_all_of_them_at_once():
    findings = Findings([NOTE, STOP, HALT])
    assert findings.exit_code == PreflightError.exit_code == 3
    with pytest.raises(PreflightError) as refused:
        findings.raise_inhibitors()
    assert "too small [s]; overlap [h]" in str(refused.value)
    assert refused.value.remedy == "make it larger"


def test_without_inhibitors_it_goes_on():
    findings = Findings([NOTE, WARNING])
    assert findings.exit_code == 0
    findings.raise_inhibitors()
    assert Findings([]).to_text() == "nothing stands in the way"


def test_ignored_ones_stay_in_the_report_as_warnings():
    findings = Findings([STOP, HALT, NOTE], ["s", "n", "never-found"])
    assert [f.id for f in findings.inhibitors] == ["h"]
    assert findings.exit_code == 3
    report = findings.to_dict()
    assert report["inhibitors"] == 1
    assert report["ignored"] == ["n", "never-found", "s"]
    assert report["findings"] == [
        {"id": "h", "level": "inhibitor", "diagnosis": "overlap", "remedy": ""},
        {
            "id": "s",
            "level": "warning",
            "diagnosis": "too small (ignored by the operator)",
            "remedy": "make it larger",
        },
        {"id": "n", "level": "note", "diagnosis": "a note", "remedy": ""},
    ]
    Findings([STOP], ["s"]).raise_inhibitors()
    assert Findings([STOP], ["s"]).exit_code == 0


def test_text_tells_what_to_do():
    assert Findings([WARNING, HALT]).to_text() == "inhibitor h: overlap\nwarning w: a warning\n  what to do: look at it"


def test_level_numbers_are_for_scripts():
    assert [int(level) for level in Level] == [25, 51, 101]

"""Every seeded fault is noticed by its test, and the tests pass without a fault."""

from __future__ import annotations

from pathlib import Path

import pytest

import livelift
from tests.conftest import missing_root
from tests.mutants.faults import FAULTS
from tests.mutants.runner import control, run_all

PACKAGE = Path(livelift.__file__).parent


@pytest.mark.system
@pytest.mark.root
@pytest.mark.timeout(600)
def test_every_fault_is_noticed():
    assert not missing_root()
    assert control(FAULTS) == ""
    survivors = [f"{o.fault.name}: {o.detail}" for o in run_all(FAULTS) if not o.killed]
    assert not survivors, "\n".join(survivors)


def test_there_are_enough_of_them_and_each_is_a_change():
    assert len(FAULTS) >= 24
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.old != fault.new for fault in FAULTS)
    wrong = [f.name for f in FAULTS if (PACKAGE / f.file).read_text().count(f.old) != 1]
    assert not wrong, f"the code they change has changed: {wrong}"

"""What the source would do at its next boot."""

from __future__ import annotations

from livelift.adapt.windows.pending_renames import RULE
from livelift.registry.values import MULTI_SZ, list_data, list_of, set_list
from tests.adapt.windows.machine import findings, ids, pair, run

MANAGER = "Control\\Session Manager"


def test_pending_renames_go_and_are_told() -> None:
    source, target = pair()
    pairs = ["\\??\\C:\\a", "!\\??\\C:\\b", "\\??\\C:\\c", "", "\\??\\C:\\d", ""]
    source.cs.make(MANAGER).set("PendingFileRenameOperations", MULTI_SZ, list_data(pairs))
    bench = run(RULE, source, target)
    key = bench.control(MANAGER)
    assert key is not None and key.value("PendingFileRenameOperations") is None
    assert findings(bench) == ["pending-reboot"]
    assert "has 3 of them" in bench.draft.plan("").findings[0].diagnosis


def test_only_autocheck_runs_at_the_first_boot() -> None:
    source, target = pair()
    set_list(source.cs.make(MANAGER), "BootExecute", ["autocheck autochk *", "pgdfgsvc C /sys"])
    bench = run(RULE, source, target)
    key = bench.control(MANAGER)
    assert key is not None and list_of(key.value("BootExecute")) == ["autocheck autochk *"]
    assert findings(bench) == ["boot-programs-removed"]


def test_setup_programs_refuse() -> None:
    source, target = pair()
    set_list(source.cs.make(MANAGER), "SETUPEXECUTE", ["C:\\Windows\\System32\\poqexec.exe"])
    assert findings(run(RULE, source, target)) == ["setup-execute"]


def test_a_clean_source_needs_nothing() -> None:
    bench = run(RULE, *pair())
    assert ids(bench) == findings(bench) == []

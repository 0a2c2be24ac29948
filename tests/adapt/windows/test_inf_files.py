"""INF files and catalogues in the tree."""

from __future__ import annotations

from livelift.adapt.windows.inf_files import CATALOGUES, RULE
from livelift.adapt.windows.planned import planned_tree
from tests.adapt.windows.machine import Maker, findings, ids, pair, run


def after(source: Maker, target: Maker) -> dict[str, str]:
    """Path to digest of what is in INF and the catalogues then."""
    bench = run(RULE, source, target)
    tree = planned_tree(bench.draft.plan(""), bench.source.files, bench.target.files)
    return {f.path.rpartition("/")[2]: f.digest for f in tree if "/INF/" in f.path or CATALOGUES in f.path}


def test_a_collision_leaves_both_files_under_their_numbers() -> None:
    assert after(*pair()) == {
        "oem0.inf": "pvscsi.inf_amd64_01",
        "oem0.cat": "pvscsi.inf_amd64_01",
        "oem2.inf": "megaraid.inf_amd64_02",
        "oem2.cat": "megaraid.inf_amd64_02",
    }, "and no compiled INF of the old number"


def test_the_same_package_is_there_once_under_the_targets_number() -> None:
    source, target = Maker(), Maker()
    source.package("oem1.inf", "same.inf_amd64_01", [])
    target.package("oem4.inf", "same.inf_amd64_01", [])
    assert sorted(after(source, target)) == ["oem4.cat", "oem4.inf"]


def test_in_box_files_that_differ_stay_the_sources_and_are_told() -> None:
    source, target = Maker(), Maker()
    source.file("Windows/INF/disk.inf", "a")
    target.file("Windows/INF/disk.inf", "b")
    target.file("Windows/INF/new.inf", "c")
    assert after(source, target) == {"disk.inf": "a", "new.inf": "c"}
    assert findings(run(RULE, source, target)) == ["inf-files-differ"]


def test_a_file_without_digest_is_not_taken_for_equal() -> None:
    source, target = Maker(), Maker()
    source.file("Windows/INF/oem1.inf", "")
    target.file("Windows/INF/oem1.inf", "")
    assert ids(run(RULE, source, target)) == ["inf-files/oem1.inf", "inf-files/oem1.inf/target"]


def test_seven_takes_the_targets_index_of_the_store_and_says_what_it_lacks() -> None:
    source, target = pair(7601)
    target.file("Windows/System32/DriverStore/infpub.dat", "new")
    source.file("Windows/System32/DriverStore/infpub.dat", "old")
    bench = run(RULE, source, target)
    assert "inf-files/store-index/infpub.dat" in ids(bench)
    assert findings(bench) == ["store-index-without-source"]

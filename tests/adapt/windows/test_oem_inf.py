"""The source's own keys follow the new numbers; the target's are left."""

from __future__ import annotations

from livelift.adapt.windows import devices, oem_inf, services
from livelift.registry.values import DWORD, list_of, set_text, text_of
from tests.adapt.windows.machine import SCSI, findings, ids, pair, run


def test_texts_of_the_source_change_and_grafted_ones_do_not() -> None:
    source, target = pair()
    set_text(source.service("pvscsi", owners=["oem2.inf"]), "DisplayName", "@oem2.inf,%name%;Paravirtual")
    source.cs.make("Control\\Video\\{1}").set("Property", 0xFFFF0012, "oem2.inf\0".encode("utf-16-le"))
    source.cs.make("Control\\Video\\{1}").set("Number", DWORD, b"oem2")
    bench = run(devices.RULE, source, target)
    services.plan(bench)
    oem_inf.plan(bench)
    mine, theirs = bench.control("Services\\pvscsi"), bench.control("Services\\megaraid")
    assert mine is not None and list_of(mine.value("Owners")) == ["oem0.inf"]
    assert text_of(mine.value("DisplayName")) == "@oem0.inf,%name%;Paravirtual"
    assert theirs is not None and list_of(theirs.value("Owners")) == ["oem2.inf"]
    video = bench.control("Control\\Video\\{1}")
    assert video is not None
    value = video.value("Property")
    assert value is not None and value.data == "oem0.inf\0".encode("utf-16-le") and value.type == 0xFFFF0012
    assert findings(bench)[-1] == "oem-numbers"


def test_class_instances_that_are_still_the_sources_follow() -> None:
    bench = run(oem_inf.RULE, *pair())
    instance = bench.control(f"Control\\Class\\{SCSI}\\0000")
    assert instance is not None and text_of(instance.value("InfPath")) == "oem0.inf"


def test_without_a_collision_nothing_changes() -> None:
    source, target = pair()
    target.root.remove("DriverDatabase")
    target.files = {path: file for path, file in target.files.items() if "/oem" not in path}
    key = target.cs.get("Services")
    assert key is not None
    key.remove("megaraid")
    assert ids(run(oem_inf.RULE, source, target)) == []

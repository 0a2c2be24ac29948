from __future__ import annotations

from livelift.adapt.linux.layout import layout, staged
from livelift.checks.findings import Level
from livelift.model.facts import FileSystem, FstabEntry, ServerFacts, SwapSpace
from livelift.model.job import Map
from tests.machines import change, debian_source, debian_target, with_uefi


def on(facts: ServerFacts, *places: str, fstype: str = "ext4", options: tuple[str, ...] = ("rw",)) -> ServerFacts:
    """With further file systems, each on a device of its own."""
    more = tuple(
        FileSystem(mountpoint=p, fstype=fstype, source=f"/dev/{p}", device=f"d{p}", options=options) for p in places
    )
    return change(facts, file_systems=(*facts.file_systems, *more))  # type: ignore[no-any-return]


def ids(source: ServerFacts, target: ServerFacts, **more: tuple[str, ...]) -> list[str]:
    return [finding.id for finding in layout(source, target, **more).findings]


def test_one_root_is_one_line() -> None:
    found = layout(debian_source(), debian_target())
    assert found.maps == (Map(b"/", b"/.livelift/new"),)
    assert found.mountpoints == ("/",)
    assert not found.findings


def test_every_file_system_of_the_target_has_a_line_the_outer_ones_first() -> None:
    target = on(debian_target(), "/var/lib/db", "/boot", "/var")
    found = layout(debian_source(), target)
    assert [line.source for line in found.maps] == [b"/", b"/var", b"/boot", b"/var/lib/db"]
    assert found.maps[3].target == b"/var/lib/db/.livelift/new"
    assert staged("/") == "/.livelift/new"


def test_the_esp_belongs_to_the_machine() -> None:
    source, target = with_uefi(debian_source()), with_uefi(debian_target())
    found = layout(source, target)
    assert found.mountpoints == ("/",)
    assert found.hollow == ("/boot/efi",)
    assert not found.findings


def test_what_the_source_lacks_or_the_operator_leaves_out_stays() -> None:
    target = on(debian_target(), "/scratch", "/home")
    found = layout(debian_source(), target, missing=["/scratch"], without=["/home"])
    assert found.mountpoints == ("/",)
    assert [(f.id, f.level) for f in found.findings] == [("target-fs-stays", Level.NOTE)] * 2
    assert ids(debian_source(), target, without=("/nothing",)) == ["without-nothing"]


def test_a_file_system_that_cannot_hold_a_system_stays() -> None:
    assert ids(debian_source(), on(debian_target(), "/media/stick", fstype="vfat")) == ["target-fs-stays"]


def test_a_read_only_file_system_stands_in_the_way() -> None:
    target = on(debian_target(), "/usr", options=("ro", "relatime"))
    assert ids(debian_source(), target) == ["target-read-only"]
    assert ids(debian_source(), target, without=("/usr",)) == ["target-fs-stays"]


def test_a_file_system_of_the_source_alone_joins_the_one_above() -> None:
    (finding,) = layout(on(debian_source(), "/srv/data"), on(debian_target(), "/srv")).findings
    assert finding.id == "fs-joined" and "it goes to /srv" in finding.diagnosis


def test_two_mounts_of_one_device_are_one_line_and_subvolumes_are_not() -> None:
    target = debian_target()
    root = target.file_systems[0]
    twice = change(target, file_systems=(root, change(root, mountpoint="/mnt/again")))
    assert layout(debian_source(), twice).mountpoints == ("/",)
    tree = [change(root, fstype="btrfs", mountpoint=place) for place in ("/", "/home")]
    assert layout(debian_source(), change(target, file_systems=tuple(tree))).mountpoints == ("/", "/home")


def test_what_is_no_part_of_the_system_is_left_out() -> None:
    source = change(
        on(debian_source(), "/srv"),
        swaps=(SwapSpace(path="/swapfile", kind="file"), SwapSpace(path="/dev/sda5", kind="partition")),
        fstab=(
            FstabEntry(spec="/srv/swap.img", file="none", vfstype="swap"),
            FstabEntry(spec="/dev/sda5", file="none", vfstype="swap"),
        ),
    )
    found = layout(source, debian_target())
    assert {"/swapfile", "/srv/swap.img", "/lost+found", "/srv/lost+found"} <= {*found.left}
    assert {"/.livelift", "/srv/.livelift", "/var/lib/livelift", "/var/cache/livelift"} <= {*found.left}
    assert not any(path.startswith("/dev") for path in found.left)
    assert [(f.id, f.level) for f in found.findings] == [("fs-joined", Level.NOTE), ("swap-file", Level.NOTE)]
    without = change(debian_target(), swaps=())
    assert layout(source, without).findings[-1].level is Level.WARNING

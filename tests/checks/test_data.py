"""Every rule both ways: what it finds, and the nearest thing that it must not find."""

from __future__ import annotations

import pytest

from livelift.checks.data import CLOCK_SKEW, HEADROOM, SourceFacts, TargetFacts, check_clocks, check_maps, check_target
from livelift.checks.findings import Finding, Level
from livelift.model.job import Map

GIB = 1 << 30
SOURCE = SourceFacts((), GIB, 1000, "source-boot", (b"/srv",), True)
TARGET = TargetFacts("/replica", "/replica", 2 * GIB, 5000, True, True, True, True)


def ids(findings) -> list[str]:
    found = list(findings)
    assert all(isinstance(f, Finding) and f.diagnosis and f.remedy for f in found)
    return [f.id for f in found]


def maps(*pairs: tuple[bytes, bytes]) -> tuple[Map, ...]:
    return tuple(Map(source, target) for source, target in pairs)


def target(source=SOURCE, facts=TARGET, boot="target-boot", resumed=False, **changes) -> list[str]:
    return ids(check_target(source, [facts._replace(**changes)], boot, resumed))


def test_a_good_pair_has_no_findings():
    assert ids(check_maps(maps((b"/srv", b"/r1"), (b"/home", b"/r2")), SOURCE)) == []
    assert target() == []


def test_source_missing():
    assert ids(check_maps(maps((b"/no", b"/r")), SOURCE._replace(missing=(b"/no", b"/nor")))) == ["source-missing"] * 2


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (b"/a", b"/a", True),
        (b"/a", b"/a/b", True),
        (b"/a/b", b"/a", True),
        (b"/", b"/a", True),
        (b"/a", b"/ab", False),
        (b"/a/b", b"/a/c", False),
    ],
)
def test_maps_overlap(one, other, overlap):
    same = ["maps-overlap"] * (one == other)  # one source line may lie in another, which leaves that to it
    assert ids(check_maps(maps((one, b"/x"), (other, b"/y")), SOURCE)) == same
    assert ids(check_maps(maps((b"/x", one), (b"/y", other)), SOURCE)) == ["maps-overlap"] * overlap


def test_lines_of_windows_may_not_lie_in_each_other():
    assert ids(check_maps(maps((b"C:\\a", b"/x"), (b"C:\\a/b", b"/y")), SOURCE)) == ["maps-overlap"]


def test_not_root_is_a_warning():
    (found,) = check_maps(maps((b"/srv", b"/r")), SOURCE._replace(root=False))
    assert (found.id, found.level) == ("not-root", Level.WARNING)


@pytest.mark.parametrize(
    ("free", "expected"), [(int(GIB * HEADROOM) + 1, []), (int(GIB * HEADROOM), ["target-too-small"])]
)
def test_room(free, expected):
    assert target(free_bytes=free) == expected
    assert target(free_bytes=free, resumed=True) == []


def test_the_room_of_several_targets_adds_up():
    half = TARGET._replace(free_bytes=int(GIB * HEADROOM) // 2 + 1)
    assert ids(check_target(SOURCE, [half, half], "b", False)) == []
    less = half._replace(free_bytes=half.free_bytes - 4)
    assert ids(check_target(SOURCE, [less, less], "b", False)) == ["target-too-small"]
    assert ids(check_target(SOURCE, [], "b", False)) == ["target-too-small"]


@pytest.mark.parametrize(
    ("inodes", "expected"), [(1000, []), (999, ["target-inodes"]), (-1, []), (0, ["target-inodes"])]
)
def test_inodes(inodes, expected):
    assert target(free_inodes=inodes) == expected
    assert target(free_inodes=inodes, resumed=True) == []


@pytest.mark.parametrize("resumed", [True, False])
def test_abilities_of_the_target(resumed):
    assert target(resumed=resumed, xattr=False) == ["target-no-xattr"]
    assert target(resumed=resumed, acl=False) == ["target-no-acl"]
    assert target(resumed=resumed, xattr=False, acl=False) == ["target-no-xattr"]
    assert target(resumed=resumed, case_sensitive=False) == ["target-case"]


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        ("/srv/replica", ["replica-in-source"]),
        ("/", ["source-in-replica"]),
        ("/srv", ["replica-in-source", "source-in-replica"]),
        ("/srv2", []),
    ],
)
def test_one_tree_inside_the_other_on_one_machine(real, expected):
    assert target(real=real, boot="source-boot") == expected
    assert target(real=real, boot="target-boot") == []


def test_a_target_with_something_in_it():
    assert target(empty=False) == ["target-not-empty"]
    assert target(empty=False, resumed=True) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_clocks(sign):
    limit = int(CLOCK_SKEW * 1e9)
    assert ids(check_clocks(sign * limit)) == []
    assert ids(check_clocks(sign * (limit + 1))) == ["clock-skew"]

"""Which paths take part."""

from __future__ import annotations

import pytest

from livelift.facts.mounts import PlannedVolume
from livelift.model.job import Map
from livelift.model.problem import Skipped
from livelift.walk.scope import EXCLUDED, OTHER_LINE, OWN, Scope, Verdict

WALK, SKIP, HOLLOW = Verdict.WALK, Verdict.SKIP, Verdict.HOLLOW


def scope_of(*, exclude: tuple[bytes, ...] = (), include: tuple[bytes, ...] = ()) -> Scope:
    return Scope([Map(b"/", b"/replica", exclude, include)])


@pytest.mark.parametrize(
    ("exclude", "path", "is_dir", "expected"),
    [
        ((), b"etc/passwd", False, WALK),
        ((b"*.tmp",), b"a/b.tmp", False, SKIP),
        ((b"*.tmp",), b"a.tmp/b", False, SKIP),  # in an excluded tree
        ((b"*.tmp",), b"a/b.tmp2", False, WALK),
        ((b"var/cache",), b"var/cache", True, SKIP),
        ((b"var/cache",), b"var/cache/x/y", False, SKIP),
        ((b"var/cache",), b"srv/var/cache", True, WALK),  # with a slash: the whole path
        ((b"/swapfile",), b"swapfile", False, SKIP),
        ((b"/swapfile",), b"srv/swapfile", False, WALK),
        ((b"var/*/spool",), b"var/a/b/spool", True, SKIP),  # fnmatch: * matches a slash
        ((b"core",), b"core", False, SKIP),
        ((b"core",), b"a/core", True, SKIP),
        ((b"core",), b"a/score", False, WALK),
        ((b"cache/",), b"a/cache", True, SKIP),
        ((b"cache/",), b"a/cache", False, WALK),  # a slash at the end: directories only
        ((b"cache/",), b"a/cache/x", False, SKIP),
        ((b"[ab]?",), b"b1", False, SKIP),
        ((b"\xff*",), b"x/\xff\xfe\n", False, SKIP),
        ((b"a\nb",), b"a\nb", False, SKIP),
    ],
)
def test_exclude(exclude: tuple[bytes, ...], path: bytes, is_dir: bool, expected: Verdict) -> None:
    assert scope_of(exclude=exclude).judge(0, path, is_dir=is_dir) is expected


def test_include_wins_and_opens_the_way() -> None:
    scope = scope_of(exclude=(b"var/lib", b"*.log"), include=(b"var/lib/app/data", b"keep.log"))
    assert scope.judge(0, b"var/lib", is_dir=True) is WALK, "on the way"
    assert scope.judge(0, b"var/lib/app", is_dir=True) is WALK, "on the way"
    assert scope.judge(0, b"var/lib/app/data", is_dir=True) is WALK
    assert scope.judge(0, b"var/lib/app/data/x", is_dir=False) is WALK, "in an included tree"
    assert scope.judge(0, b"var/lib/app/data/x.log", is_dir=False) is SKIP, "the nearest match decides"
    assert scope.judge(0, b"var/lib/app/other", is_dir=False) is SKIP
    assert scope.judge(0, b"var/lib/other", is_dir=True) is SKIP
    assert scope.judge(0, b"a/keep.log", is_dir=False) is WALK


def test_the_source_itself_always_takes_part() -> None:
    assert scope_of(exclude=(b"*",)).judge(0, b"", is_dir=True) is WALK


def test_very_deep_paths() -> None:
    deep = b"/".join([b"d"] * 5000)
    assert scope_of(exclude=(b"x",)).judge(0, deep, is_dir=True) is WALK
    assert scope_of(exclude=(b"x",)).judge(0, b"x/" + deep, is_dir=True) is SKIP


def test_own_directories_are_never_walked_even_if_included() -> None:
    scope = Scope([Map(b"/var", b"/t", (), (b"*",))], own=[b"/var/lib/livelift/"])
    assert scope.judge(0, b"lib/livelift", is_dir=True) is SKIP
    assert scope.judge(0, b"lib/livelift2", is_dir=True) is WALK
    assert scope.skipped_trees() == [Skipped(b"/var/lib/livelift", OWN)]


def test_lines_within_lines() -> None:
    scope = Scope([Map(b"/srv", b"/a"), Map(b"/srv/db", b"/b"), Map(b"/srv2", b"/c")])
    assert scope.judge(0, b"db", is_dir=True) is HOLLOW
    assert scope.judge(1, b"db", is_dir=True) is WALK
    assert scope.skipped_trees() == [Skipped(b"/srv/db", OTHER_LINE)]


def test_mount_points_stay_as_empty_directories() -> None:
    scope = Scope([Map(b"/", b"/t")], skipped=[Skipped(b"/proc", "memory-only"), Skipped(b"/etc/resolv.conf", "tmpfs")])
    assert scope.judge(0, b"proc", is_dir=True) is HOLLOW
    assert scope.judge(0, b"etc/resolv.conf", is_dir=False) is SKIP
    assert scope.allows(0, b"proc", is_dir=True)
    assert not scope.allows(0, b"etc/resolv.conf", is_dir=False)
    assert scope.judge_alone(0, b"proc/1/maps", is_dir=False) is SKIP
    assert scope.judge_alone(0, b"proc2/1/maps", is_dir=False) is WALK


def test_a_path_out_of_an_event_counts_its_directories() -> None:
    scope = scope_of(exclude=(b"var/tmp", b"*.o"))
    assert scope.judge_alone(0, b"var/tmp/a/b", is_dir=False) is SKIP
    assert scope.judge_alone(0, b"var/lib/b", is_dir=False) is WALK
    assert scope.judge_alone(0, b"b.o", is_dir=False) is SKIP


def test_excluded_trees_are_listed_and_excluded_files_are_not() -> None:
    scope = scope_of(exclude=(b"*.o", b"tmp"))
    scope.judge(0, b"tmp", is_dir=True)
    scope.judge(0, b"a.o", is_dir=False)
    assert scope.skipped_trees() == [Skipped(b"/tmp", EXCLUDED)]


def test_volumes() -> None:
    scope = Scope(
        [Map(b"/", b"/t")],
        volumes=[
            PlannedVolume(0, 100, b"ext4", b"/dev/vda", b"/", (b"/",)),
            PlannedVolume(1, 200, b"xfs", b"/dev/vdb", b"/srv", (b"/srv", b"/var/www")),
        ],
    )
    assert (scope.volume_of(100), scope.volume_of(200), scope.volume_of(300)) == (0, 1, None)
    assert scope.enter(0, b"srv", 200, above=100) == 1
    assert scope.enter(0, b"var/www", 200, above=100) == 1
    assert scope.enter(0, b"mnt/again", 200, above=100) is None
    assert scope.enter(0, b"mnt/late", 300, above=100) is None
    assert [entry.path for entry in scope.skipped_trees()] == [b"/mnt/again", b"/mnt/late"]


def test_a_btrfs_subvolume_without_a_mount_is_a_volume() -> None:
    scope = Scope([Map(b"/", b"/t")], volumes=[PlannedVolume(0, 100, b"btrfs", b"/dev/vda", b"/", (b"/",))])
    assert scope.enter(0, b"var/lib/machines", 101, above=100) == 1
    assert scope.enter(0, b"var/lib/machines", 101, above=100) == 1, "the same again"
    assert scope.enter(0, b"var/lib/machines/inner", 102, above=101) == 2
    assert scope.enter(0, b"elsewhere", 101, above=100) is None, "a second way to it"
    assert [(volume.index, volume.mountpoint) for volume in scope.volumes[1:]] == [
        (1, b"/var/lib/machines"),
        (2, b"/var/lib/machines/inner"),
    ]

"""The judge is judged: generators repeat themselves exactly, and the comparers find whatever is planted."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.loopfs import loop_filesystem
from tests.oracle import ace, compare, syscalls, trees
from tests.oracle.fsx import FileExerciser
from tests.oracle.ops import KINDS, RandomOps

FILESYSTEMS = ("ext4", "xfs", "btrfs")


@pytest.fixture(params=FILESYSTEMS)
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    with loop_filesystem(request.param, 300) as mountpoint:
        yield mountpoint


def made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.root
def test_the_nasty_tree_is_the_same_each_time_and_can_be_removed(disk: Path) -> None:
    one, two = made(disk / "one"), made(disk / "two")
    refused = trees.build_nasty_tree(one, seed=5)
    assert trees.build_nasty_tree(two, seed=5) == refused
    assert set(refused) <= {"reflink"}  # ext4
    now = ("mtime",)  # most of the tree has no fixed time
    assert compare.compare_trees(one, two, ignore=now, allocation=True) == []
    assert trees.clean_flags(one) == 4
    assert any(d.aspect == "flags" for d in compare.compare_trees(one, two, ignore=now))
    shutil.rmtree(one)


@pytest.mark.root
def test_the_nasty_tree_holds_what_it_promises(disk: Path) -> None:
    tree = made(disk / "tree")
    trees.build_nasty_tree(tree)
    nodes = compare.manifest(tree)
    assert max(map(len, nodes)) > 4096
    assert {node.mode >> 12 for node in nodes.values()} == {1, 2, 4, 6, 8, 10, 12}  # every file type
    assert min(node.mtime for node in nodes.values()) < 0 and max(node.mtime for node in nodes.values()) > 2**32 * 10**9
    namespaces = {key.partition(b".")[0] for node in nodes.values() for key, _ in node.xattrs}
    assert namespaces == {b"user", b"trusted", b"security", b"system"}
    linked = [path for path, node in nodes.items() if node.first_name == b"dirs/a/b/fourth"]
    assert sorted(linked) == [b"dirs/a/b/fourth", b"links/first", b"links/other/third", b"links/second"]
    sparse = nodes[b"holes/sparse"]
    assert sparse.size > 3 << 30 and sparse.allocated < 1 << 20
    assert nodes[b"flags/both"].flags == syscalls.FLAG_IMMUTABLE | syscalls.FLAG_APPEND | syscalls.FLAG_NODUMP
    trees.clean_flags(tree)


@pytest.mark.skipif(shutil.which("setpriv") is None or os.geteuid() != 0, reason="needs root and setpriv to drop it")
def test_a_plain_user_gets_the_unprivileged_part(request: pytest.FixtureRequest) -> None:
    tree = Path(tempfile.mkdtemp(prefix="livelift-oracle-"))  # pytest's own directories are closed to other users
    request.addfinalizer(lambda: shutil.rmtree(tree))
    os.chown(tree, 65534, 65534)
    script = f"from tests.oracle import trees; print(sorted(trees.build_nasty_tree({str(tree)!r})))"
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert "device nodes" in done.stdout
    assert (tree / "holes" / "sparse").stat().st_size > 3 << 30


@pytest.mark.root
def test_one_seed_gives_one_trace_and_one_tree(disk: Path, seed: int) -> None:
    one, two = RandomOps(made(disk / "one"), seed), RandomOps(made(disk / "two"), seed)
    one.run(700)
    two.run(400)
    two.run(300)
    assert one.trace == two.trace
    assert compare.compare_trees(one.root, two.root, ignore=("mtime",)) == []
    names = {path for path in compare.manifest(one.root) if path != b"."}
    assert names == set(one.files) | set(one.directories[1:]) | set(one.others), "the model knows every name"
    other = RandomOps(made(disk / "three"), seed + 1)
    other.run(100)
    assert other.trace != one.trace[:100]
    for ops in (one, two, other):
        ops.close()


@pytest.mark.root
def test_every_kind_of_operation_happens(disk: Path) -> None:
    ops = RandomOps(made(disk / "ops"), 1)
    ops.run(2500)
    ops.close()
    lacking = {"ext4": {"reflink"}, "btrfs": {"collapse", "insert"}}
    fstype = subprocess.run(["stat", "-f", "-c", "%T", disk], capture_output=True, text=True, check=True).stdout.strip()
    expected = {kind.__name__ for kind in KINDS} - lacking.get("ext4" if "ext" in fstype else fstype, set())
    assert set(ops.counts) == expected
    assert len(ops.trace) == sum(ops.counts.values()) + sum(ops.skipped.values()) == 2500


@pytest.mark.root
def test_the_file_exerciser_agrees_with_a_good_file_system_and_not_with_a_bad_copy(disk: Path, seed: int) -> None:
    exerciser = FileExerciser(disk / "file", seed)
    exerciser.run(600)
    assert set(exerciser.counts) | set(exerciser.skipped) == set(FileExerciser.KINDS)
    copy = disk / "copy"
    copy.write_bytes(bytes(exerciser.expected))
    exerciser.check(copy)
    content = bytearray(exerciser.expected or b"x")
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    with pytest.raises(AssertionError, match="first difference"):
        exerciser.check(copy)
    exerciser.close()


def test_the_exhaustive_enumeration_never_changes() -> None:
    assert [sum(1 for _ in ace.sequences(length)) for length in (1, 2, 3)] == [52, 2297, 93_912]
    assert len(set(ace.all_sequences(2))) == 52 + 2297
    assert list(ace.sequences(2)) == list(ace.sequences(2))
    assert ace.sample(3, 50) == ace.sample(3, 50) != ace.sample(4, 50)
    assert set(ace.sample(9, 40, length=2)) <= set(ace.sequences(2))


def test_the_model_of_names_is_what_the_kernel_does(tmp_path: Path) -> None:
    """All sequences of one and two steps, and 300 of three: the kernel accepts them and leaves the modelled names."""
    for number, sequence in enumerate([*ace.all_sequences(2), *ace.sample(1, 300)]):
        directory, names = made(tmp_path / str(number)), ace.START
        ace.prepare(directory)
        for step in sequence:
            following = ace.after(names, step)
            assert following is not None
            names = following
            ace.perform(directory, step)
        found = {(str(path.relative_to(directory)), kind(path)) for path in directory.rglob("*")}
        assert found == {(path, k.replace("h", "f")) for path, k in names}, sequence


def kind(path: Path) -> str:
    return "l" if path.is_symlink() else "d" if path.is_dir() else "f"


def plant_content(tree: Path) -> None:
    status = (tree / "sub/file").stat()
    with open(tree / "sub/file", "r+b") as file:
        file.seek(70_000)
        file.write(b"!")
    os.utime(tree / "sub/file", ns=(status.st_atime_ns, status.st_mtime_ns))


def plant_nanosecond(tree: Path) -> None:
    status = (tree / "sub/file").stat()
    os.utime(tree / "sub/file", ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def plant_directory_time(tree: Path) -> None:
    os.utime(tree / "sub", ns=(5, 10**10))  # rsync compares whole seconds


def plant_mode(tree: Path) -> None:
    os.chmod(tree / "sub/file", 0o600)


def plant_owner(tree: Path) -> None:
    os.chown(tree / "sub/link", 1, 2, follow_symlinks=False)


def plant_xattr(tree: Path) -> None:
    os.setxattr(tree / "sub/file", "user.kept", b"other")


def plant_acl(tree: Path) -> None:
    os.setxattr(tree / "sub", "system.posix_acl_default", syscalls.acl(0o750, user=1, permissions=1))


def plant_flag(tree: Path) -> None:
    syscalls.change_flags(os.fsencode(tree / "sub/file"), add=syscalls.FLAG_NODUMP)


def plant_broken_hard_link(tree: Path) -> None:
    status = (tree / "sub").stat()
    shutil.copy2(tree / "sub/hard", tree / "sub/hard~")
    os.rename(tree / "sub/hard~", tree / "sub/hard")
    os.utime(tree / "sub", ns=(status.st_atime_ns, status.st_mtime_ns))


def plant_target(tree: Path) -> None:
    old = (tree / "sub/link").lstat()
    os.unlink(tree / "sub/link")
    os.symlink("elsewhere", tree / "sub/link")
    os.utime(tree / "sub/link", ns=(old.st_atime_ns, old.st_mtime_ns), follow_symlinks=False)
    os.utime(tree / "sub", ns=(5, 5))


def plant_missing(tree: Path) -> None:
    os.unlink(tree / "sub/empty")
    os.utime(tree / "sub", ns=(5, 5))


def plant_extra(tree: Path) -> None:
    (tree / "sub/extra").write_bytes(b"")
    os.utime(tree / "sub", ns=(5, 5))


def plant_device(tree: Path) -> None:
    os.unlink(tree / "sub/device")
    os.mknod(tree / "sub/device", 0o20600, os.makedev(1, 5))
    os.utime(tree / "sub/device", ns=(5, 5))
    os.utime(tree / "sub", ns=(5, 5))


PLANTED: dict[Callable[[Path], None], tuple[bytes, str, bool]] = {
    plant_content: (b"sub/file", "content", True),
    plant_nanosecond: (b"sub/file", "mtime", False),
    plant_directory_time: (b"sub", "mtime", True),
    plant_mode: (b"sub/file", "mode", True),
    plant_owner: (b"sub/link", "owner", True),
    plant_xattr: (b"sub/file", "xattrs", True),
    plant_acl: (b"sub", "xattrs", True),
    plant_flag: (b"sub/file", "flags", False),
    plant_broken_hard_link: (b"sub/hard", "first_name", True),
    plant_target: (b"sub/link", "link_target", True),
    plant_missing: (b"sub/empty", "existence", True),
    plant_extra: (b"sub/extra", "existence", True),
    plant_device: (b"sub/device", "rdev", True),
}
"""What is planted, where and as what the own comparer reports it, and whether rsync sees it as well."""


@pytest.mark.root
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_difference_is_found_and_only_it(plant: Callable[[Path], None], tmp_path: Path) -> None:
    with loop_filesystem("ext4", 32) as disk:
        one, two = made(disk / "one"), made(disk / "two")
        for tree in (one, two):
            sub = made(tree / "sub")
            (sub / "file").write_bytes(random.Random(1).randbytes(100_000))
            os.setxattr(sub / "file", "user.kept", b"value")
            (sub / "empty").touch()
            (sub / "first").write_bytes(b"linked")
            os.link(sub / "first", sub / "hard")
            os.symlink("somewhere", sub / "link")
            os.mknod(sub / "device", 0o20600, os.makedev(1, 3))
            for path in (*sub.iterdir(), sub, tree):
                os.utime(path, ns=(5, 5), follow_symlinks=False)
        compare.assert_equal(one, two)
        plant(two)
        path, aspect, rsync_sees_it = PLANTED[plant]
        found = compare.compare_trees(one, two)
        assert {(d.path, d.aspect) for d in found} >= {(path, aspect)}
        assert {d.path for d in found} <= {path, b"sub/first"} and len({d.aspect for d in found}) <= 2
        assert bool(compare.rsync_oracle(one, two)) == rsync_sees_it
        with pytest.raises(AssertionError, match="differences"):
            compare.assert_equal(one, two)

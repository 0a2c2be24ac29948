"""What stands in the way before anything is copied: machines, maps, directories; see `tests.system.refusals`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.loopfs import loop_filesystem, run
from tests.oracle.pair import LIVELIFT, ROOT, LivePair
from tests.system.refusals import MIB, expect, livelift, source_fails

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]


# -- preflight ---------------------------------------------------------------------------------------------------------


def test_a_target_that_is_too_small(targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with loop_filesystem("ext4", 120) as big, loop_filesystem("ext4", 40) as small:
        (big / "data").write_bytes(os.urandom(60 * MIB))
        done = source_fails(targets((big, small)), tmp_path / "source", (big, small))
        expect(done, 3, "target-too-small", "MiB free", "larger")
        assert os.listdir(small / ".livelift/limbo") == []


def test_a_target_without_acls_or_xattrs(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with loop_filesystem("btrfs", 128, mount_options="noacl") as plain:
        expect(source_fails(targets((trees[0], plain)), tmp_path / "a", (trees[0], plain)), 3, "target-no-acl", "acl")
    bare = tmp_path / "ramfs"
    bare.mkdir()
    run("mount", "-t", "ramfs", "none", str(bare))
    try:
        waiting = targets((trees[0], bare))
        expect(source_fails(waiting, tmp_path / "b", (trees[0], bare)), 3, "target-no-xattr", "use ext4, XFS or btrfs")
        waiting.agent.stop()
    finally:
        run("umount", "--lazy", str(bare))


def test_a_target_that_folds_case(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    if not os.path.exists("/sys/fs/ext4/features/casefold"):
        pytest.skip("this kernel's ext4 cannot fold case")
    with loop_filesystem("ext4", 40, ["-O", "casefold", "-E", "encoding=utf8"]) as folding:
        target = folding / "dst"
        target.mkdir()
        run("chattr", "+F", str(target))
        done = source_fails(targets((trees[0], target)), tmp_path / "source", (trees[0], target))
        expect(done, 3, "target-case", "case-sensitive")


def test_a_target_directory_that_is_in_use(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (trees[1] / "somebody's").write_bytes(b"precious")
    done = source_fails(targets(trees), tmp_path / "source", trees)
    expect(done, 3, "target-not-empty", "--ignore target-not-empty")
    assert (trees[1] / "somebody's").read_bytes() == b"precious"


def test_overlapping_maps(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source, target = trees
    (target / "inner").mkdir()
    done = livelift("target", "--state", tmp_path / "t", "--map", f"/a={target}", "--map", f"/b={target}/inner")
    expect(done, 3, "maps-overlap", "outer directory only")
    (tmp_path / "alias").symlink_to(target / "inner")
    done = livelift("target", "--state", tmp_path / "t", "--map", f"/a={target}", "--map", f"/b={tmp_path}/alias")
    expect(done, 3, "maps-overlap")
    done = livelift("target", "--state", tmp_path / "t", "--map", f"/a={target}", "--map", f"/a={source}")
    expect(done, 3, "maps-overlap")
    assert not (tmp_path / "t").exists()
    waiting = targets((source, target))
    inner = (source, "/elsewhere")
    expect(source_fails(waiting, tmp_path / "s", trees, inner), 3, "maps-overlap", "--exclude")
    assert not (tmp_path / "s").exists()


def test_replica_and_source_inside_each_other(tmp_path: Path, targets) -> None:  # type: ignore[no-untyped-def]
    outer = tmp_path / "outer"
    inner = outer / "inner"
    inner.mkdir(parents=True)
    (outer / "file").write_bytes(b"1")
    expect(source_fails(targets((outer, inner)), tmp_path / "a", (outer, inner)), 3, "replica-in-source", "outside")
    done = source_fails(targets((inner, outer)), tmp_path / "b", (inner, outer), words=("--ignore", "target-not-empty"))
    expect(done, 3, "source-in-replica", "outside")
    assert (outer / "file").read_bytes() == b"1"


def test_clocks_that_differ(trees: tuple[Path, Path], targets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """The target's clock is two hours ahead (its process is told so by a sitecustomize of its own)."""
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast/sitecustomize.py").write_text(
        "import time\nreal = time.time_ns\ntime.time_ns = lambda: real() + 7200 * 10**9\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fast"))
    waiting = targets(trees)
    monkeypatch.delenv("PYTHONPATH")
    expect(source_fails(waiting, tmp_path / "source", trees), 3, "clock-skew", "7200 s apart", "NTP")


def test_an_unknown_capture_mode(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    waiting = targets(trees)
    done = source_fails(waiting, tmp_path / "source", trees, words=("--capture", "telepathy"))
    expect(done, 3, "no capture mode 'telepathy'", "fanotify, inotify")
    assert not (tmp_path / "source").exists()
    waiting.agent.check_alive()


def test_not_root_is_a_warning(tmp_path: Path) -> None:
    skip = shutil.ignore_patterns("__pycache__")
    python = shutil.copytree(ROOT / "livelift", tmp_path / "code/livelift", ignore=skip)
    tree = tmp_path / "tree"
    tree.mkdir()
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_mode & 5 != 5:
            directory.chmod(directory.stat().st_mode | 5)
    prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *LIVELIFT)
    words = ("source", "--dry-run", "--json", "--map", f"{tree}=/x", "--state", "/nonexistent/state")
    done = livelift(*words, prefix=prefix, env={"PYTHONPATH": str(python.parent)})
    assert done.code == 0, done.err
    findings = {f["id"]: f for f in json.loads(done.out)["findings"]}
    assert findings["not-root"]["level"] == "warning"
    assert "as root" in findings["not-root"]["remedy"]


# -- directories of the job --------------------------------------------------------------------------------------------


def test_directories_that_are_missing_or_taken(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source, target = trees
    done = livelift("target", "--state", tmp_path / "t", "--map", f"{source}={tmp_path}/nowhere")
    expect(done, 2, "not a directory", "mounted?")
    expect(livelift("target", "--state", tmp_path / "t"), 2, "no directory mapping", "--map")
    assert not (tmp_path / "t").exists()
    waiting = targets(trees)
    expect(source_fails(waiting, tmp_path / "s", (tmp_path / "nothing", target)), 3, "source-missing", "correct --map")
    expect(livelift("source", "--state", tmp_path / "s"), 2, "no job in", "pair first")
    assert not (tmp_path / "s").exists()
    # A second agent in the state directory of a running one: refused, and the first is not disturbed.
    second = livelift("target", "--state", waiting.state, "--listen", "127.0.0.1:0")
    expect(second, 8, "another agent runs", "--state")
    assert livelift("status", "--state", waiting.state, "--json").code == 0
    waiting.agent.stop()
    # Another job's, or the other side's, state directory.
    other = livelift("target", "--state", waiting.state, "--map", f"/other={target}")
    expect(other, 2, "another directory mapping", "--state")
    expect(source_fails(waiting, waiting.state, trees), 2, "state directory of a target", "--state")
    assert not (waiting.state / "source.json").exists()


def test_a_source_state_directory_that_is_in_use(trees: tuple[Path, Path], tmp_path: Path) -> None:
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        state = pair.states["source"]
        expect(livelift("source", "--state", state), 8, "another agent runs")
        expect(livelift("source", "--state", state, "--resync"), 8, "another agent runs")
        expect(livelift("target", "--state", state, "--map", f"/a={trees[1]}"), 2, "state directory of a source")
        pair.agents["source"].stop()
        other = livelift("source", "--state", state, "--map", f"{trees[1]}=/x")
        expect(other, 2, "another directory mapping", "livelift remove")
        expect(livelift("source", "--state", state, "--bandwidth", "fast"), 2, "bandwidth limit 'fast'")
        pair.restart("source")
        pair.wait_following()

"""Logs that are damaged, disks that are full, verbs at the wrong moment; see `tests.system.refusals`."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from livelift.spool.files import segment_names
from tests.loopfs import loop_filesystem, run
from tests.oracle.compare import assert_equal
from tests.oracle.pair import LivePair
from tests.system.refusals import MIB, agent_of, expect, livelift

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]


# -- the log and the disks ---------------------------------------------------------------------------------------------


def damage(spool: Path) -> Path:
    """Overwrite bytes in the middle of the newest segment's frames."""
    name = Path(os.fsdecode(segment_names(os.fsencode(spool))[-1][1]))
    with name.open("r+b") as file:
        file.seek(max(os.path.getsize(name) // 2, 200))
        file.write(b"\xff" * 64)
    return name


def test_a_corrupt_log_and_its_remedy(trees: tuple[Path, Path], tmp_path: Path) -> None:
    """Refused, with the file and the first lost LSN; --resync sets it aside, and the trees are equal again."""
    source, target = trees
    for number in range(50):
        (source / f"doomed-{number}").write_bytes(b"%d" % number)
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        pair.kill9("target")
        for number in range(0, 50, 2):  # what only the damaged log knows: the target has not heard of it
            (source / f"doomed-{number}").unlink()
            (source / f"new-{number}").write_bytes(b"new %d" % number)
        (source / "file").write_bytes(b"changed")
        time.sleep(1.5)
        pair.agents["source"].stop()
        broken = damage(pair.states["source"] / "spool")
        before = broken.read_bytes()
        expect(agent_of(pair, "source"), 1, "corrupt:", broken.name, "first lost LSN", "livelift source --resync")
        assert broken.read_bytes() == before, "a log that is refused is not touched"
        pair.restart("target")
        pair._spawn("source", ["--resync"])
        pair.wait_following(90)
        aside = list((pair.states["source"] / "spool").glob("damaged-*"))
        assert [p.name for p in aside[0].iterdir() if p.name == broken.name], "the damaged log is kept"
        verified = livelift("verify", "--state", pair.states["source"], "--json")
        assert verified.code == 0 and json.loads(verified.out)["differences"] == 0
        pair.agents["source"].stop()
        pair.restart("source")  # once is enough: the next start is an ordinary one
        pair.wait_following()
        pair.cutover()
    assert_equal(source, target)


def test_a_corrupt_index_and_its_remedy(trees: tuple[Path, Path], tmp_path: Path) -> None:
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        pair.agents["source"].stop()
        index = pair.states["source"] / "index.sqlite"
        index.write_bytes(b"this is no database, whatever it was" * 300)
        expect(agent_of(pair, "source"), 1, "corrupt:", "index.sqlite", "livelift source --resync")
        (trees[0] / "directory/inner").unlink()
        pair._spawn("source", ["--resync"])
        pair.wait_following(90)
        pair.cutover()
    assert_equal(*trees)


def test_a_full_target_says_so(tmp_path: Path) -> None:
    """In mid-copy. (That nothing is lost under load is in test_crash.)"""
    with loop_filesystem("ext4", 60) as volume:
        source, target = tmp_path / "src", volume / "dst"
        source.mkdir()
        target.mkdir()
        for number in range(30):
            (source / f"file-{number}").write_bytes(os.urandom(MIB))
        room = os.statvfs(volume)
        filler = volume / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - 8 * MIB)
        with LivePair([(source, target)], tmp_path / "pair") as pair:
            pair.wait(lambda s: "full" in s.raw["stalled"], 30)
            shown = livelift("status", "--state", pair.states["source"]).out
            assert "stalled(" in shown and "No space left" in shown
            filler.unlink()
            pair.wait_following()
            pair.cutover()
        assert_equal(source, target)


def test_a_full_disk_under_the_source_agent(trees: tuple[Path, Path], tmp_path: Path) -> None:
    """Its own store: the workload notices nothing; the agent either bears it or stops loudly, and goes on after."""
    source, target = trees
    with loop_filesystem("ext4", 16) as volume, LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        pair.agents["source"].stop()
        shutil.move(pair.states["source"], volume / "state")
        pair.states["source"] = volume / "state"
        pair.restart("source")
        pair.wait_following()
        filler = volume / "filler"
        room = os.statvfs(volume)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - 16384)
        began = time.monotonic()
        for number in range(3000):
            (source / f"many-{number}").write_bytes(os.urandom(500))
        assert time.monotonic() - began < 20
        ended = pair.agents["source"].process
        deadline = time.monotonic() + 15
        while ended.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        stderr = pair.agents["source"].log.with_suffix(".stderr").read_text()
        if ended.poll() is not None:
            assert ended.returncode == 1, stderr
            assert "what to do:" in stderr and "free space" in stderr, stderr
        else:
            assert "given up" in stderr, stderr
        filler.unlink()
        if ended.poll() is not None:
            pair.restart("source")
        pair.wait_following(90)
        pair.cutover(90)
        pair.close()
    assert_equal(source, target)


# -- verbs in the wrong state ------------------------------------------------------------------------------------------


def test_a_cutover_during_the_initial_copy(tmp_path: Path) -> None:
    source, target = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    target.mkdir()
    for number in range(20):
        (source / f"file-{number}").write_bytes(os.urandom(MIB))
    words = ["--bandwidth", "200K", "--memory", "1M"]
    with LivePair([(source, target)], tmp_path / "pair", source_arguments=words) as pair:
        pair.wait(lambda s: s.state == "initial", 20)
        state = pair.states["source"]
        for verb in (("cutover",), ("cutover", "--dry-run"), ("verify",)):
            expect(livelift(*verb, "--state", state), 6, "initial", "wait until it is following")
        expect(livelift("rollback", "--state", state), 6, "nothing to roll back")
        expect(livelift("rollback", "--dry-run", "--state", state), 6, "nothing to roll back")


def test_verify_finds_what_is_planted_and_status_without_an_agent(trees: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = trees
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        (target / "file").write_bytes(b"cOntent")
        times = os.stat(source / "file")
        os.utime(target / "file", ns=(times.st_atime_ns, times.st_mtime_ns))
        done = livelift("verify", "--state", pair.states["source"], "--json")
        assert done.code == 5, done.err
        answer = json.loads(done.out)
        assert answer["differences"] == 1 and answer["listing"][0].startswith("file: content")
        pair.agents["source"].stop()
        expect(livelift("status", "--state", pair.states["source"]), 7, "agent in", "start it")
        expect(livelift("status", "--state", tmp_path / "nothing"), 7, "does not exist")
        expect(livelift("cutover", "--state", pair.states["source"]), 7, "agent in")


def test_an_unreadable_directory_is_a_gap_and_no_cut_is_made(tmp_path: Path) -> None:
    """A directory whose block is damaged on the disk: readdir(3) fails with EBADMSG or EUCLEAN, also for root."""
    if shutil.which("debugfs") is None:
        pytest.skip("debugfs is not installed")
    with ExitStack() as undo:
        image, mountpoint, target = tmp_path / "image", tmp_path / "mnt", tmp_path / "dst"
        mountpoint.mkdir()
        target.mkdir()
        with image.open("wb") as file:
            file.truncate(32 * MIB)
        run("mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^has_journal", str(image))
        device = run("losetup", "--find", "--show", str(image)).strip()
        undo.callback(run, "losetup", "--detach", device)
        run("mount", "-o", "errors=continue", device, str(mountpoint))
        (mountpoint / "src/broken").mkdir(parents=True)
        (mountpoint / "src/fine").write_bytes(b"fine")
        (mountpoint / "src/broken/file").write_bytes(b"out of reach")
        run("umount", str(mountpoint))
        block = int(run("debugfs", "-R", "blocks /src/broken", device).split()[0])
        with open(device, "r+b") as disk:
            disk.seek(block * 4096)
            disk.write(b"\xa5" * 4096)
            disk.flush()
            os.fsync(disk.fileno())
        run("mount", "-o", "errors=continue", device, str(mountpoint))
        undo.callback(run, "umount", "--lazy", str(mountpoint))
        with pytest.raises(OSError):
            os.listdir(mountpoint / "src/broken")
        with LivePair([(mountpoint / "src", target)], tmp_path / "pair") as pair:
            pair.wait(lambda s: s.state == "following" and s.gaps > 0, 30)
            state = pair.states["source"]
            status = json.loads(livelift("status", "--state", state, "--json").out)
            assert [p["path"] for p in status["problems"]] == [f"{mountpoint}/src/broken"]
            assert status["problems"][0]["code"] == "unreadable" and status["problems"][0]["remedy"]
            assert any(gap["path"].endswith("broken") for gap in status["gap_list"])
            assert "src/broken" in livelift("status", "--state", state).out
            cut = livelift("cutover", "--state", state, "--timeout", "20")
            expect(cut, 6, "src/broken")
            assert pair.wait(lambda s: s.state == "following", 10), "the fence is down again"
            assert (target / "fine").read_bytes() == b"fine"

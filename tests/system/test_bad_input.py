"""What operators and machines do wrong: each ends with the right exit code, a text that says what to do, and nothing
half done. Whole agents as processes; files are few and small, so that all of it takes a minute or two."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from livelift.identity import ca
from livelift.protocol.messages import PROTOCOL
from livelift.spool.files import segment_names
from tests.loopfs import loop_filesystem, run
from tests.oracle.compare import assert_equal
from tests.oracle.pair import LIVELIFT, ROOT, Agent, LivePair, environment

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]

MIB = 1 << 20


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def error(self) -> dict[str, object]:
        """The JSON object of the error: the last line of stdout."""
        value: dict[str, object] = json.loads(self.out.splitlines()[-1])
        return value


def livelift(*words: object, prefix: tuple[str, ...] = LIVELIFT, env: dict[str, str] | None = None) -> Done:
    done = subprocess.run(
        [*prefix, *map(str, words)],
        env={**environment(), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def expect(done: Done, code: int, *words: str) -> None:
    """The exit code, the words in what the operator reads, a remedy, and no traceback."""
    assert done.code == code, f"exit {done.code}, not {code}\n{done.out}\n{done.err}"
    for word in (*words, "what to do:"):
        assert word in done.err, f"{word!r} is not in\n{done.err}"
    assert "Traceback" not in done.err, done.err


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    target.mkdir()
    (source / "file").write_bytes(b"content")
    (source / "directory").mkdir()
    (source / "directory/inner").write_bytes(os.urandom(70_000))
    return source, target


class Waiting(NamedTuple):
    """A target that waits for its source."""

    agent: Agent
    state: Path
    code: str
    port: int


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[object]:
    """Starts target agents; all are stopped at the end."""
    with ExitStack() as undo:
        count = iter(range(100))

        def start(*maps: tuple[object, object], state: Path | None = None, words: tuple[str, ...] = ()) -> Waiting:
            state = state or tmp_path / f"target-{next(count)}"
            arguments = ["target", "--listen", "127.0.0.1:0", "--json", "--state", str(state), *words]
            for one, other in maps:
                arguments += ["--map", f"{one}={other}"]
            agent = Agent("target", arguments, tmp_path / f"log-{next(count)}.json")
            undo.callback(agent.stop)
            event = agent.wait_event(lambda e: e.get("event") == "pairing", 20)
            return Waiting(agent, state, event["code"], event["port"])

        yield start


def source_fails(waiting: Waiting, state: Path, *maps: tuple[object, object], words: tuple[str, ...] = ()) -> Done:
    arguments: list[object] = ["source", "--pair", waiting.code, f"127.0.0.1:{waiting.port}", "--state", state, *words]
    for one, other in maps:
        arguments += ["--map", f"{one}={other}"]
    return livelift(*arguments)


def agent_of(pair: LivePair, side: str) -> Done:
    """Run an agent of the pair in the foreground: it is expected to end by itself."""
    return livelift(side, "--state", pair.states[side])  # type: ignore[index]


# -- trust -------------------------------------------------------------------------------------------------------------


def wrong(code: str) -> str:
    return ("0" if code[0] != "0" else "1") + code[1:]


def test_pairing_codes(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Wrong: refused, with the tries left; a typing mistake costs none; after five even the right one is void."""
    waiting = targets(trees)
    state = tmp_path / "source"
    typo = waiting._replace(code="K3M9")
    expect(source_fails(typo, state, trees), 9, "not a pairing code", "ten characters")
    for left in (4, 3, 2, 1):
        bad = waiting._replace(code=wrong(waiting.code))
        expect(source_fails(bad, state, trees), 9, "wrong pairing code", f"{left} tries left")
    expect(source_fails(bad, state, trees), 9, "the code is void now", "--new-code")
    expect(source_fails(waiting, state, trees), 9, "--new-code")
    assert not (state / "source.json").exists()
    assert not (state / "identity").exists()
    waiting.agent.check_alive()
    waiting.agent.stop()
    # The remedy works.
    again = targets(state=waiting.state, words=("--new-code",))
    source = Agent(
        "source",
        [
            *("source", "--pair", again.code, f"127.0.0.1:{again.port}", "--json", "--state", str(state)),
            *("--map", f"{trees[0]}={trees[1]}"),
        ],
        tmp_path / "paired.json",
    )
    try:
        source.wait_event(lambda e: e.get("event") == "started", 20)
        # Used: nobody else gets in with it.
        expect(source_fails(again, tmp_path / "second", trees), 9, "code was used", "--new-code")
    finally:
        source.stop()


def expire(identity: Path, authority: Path) -> None:
    """The leaf in ``identity`` becomes one that ended yesterday, signed by the job's own authority."""
    key = ca.load_key((identity / ca.LEAF).read_bytes())
    job = json.loads((authority.parent / "job.json").read_text())["id"]
    past = datetime.datetime.now(datetime.UTC) - ca.LEAF_LIFE - datetime.timedelta(days=1)
    signer = ca.load_authority(authority, job)
    certificate = signer.sign(ca.make_request(key), "source", past)
    ca.save_leaf(identity, key, certificate, signer.der)


def test_an_expired_certificate_and_its_remedy(trees: tuple[Path, Path], tmp_path: Path) -> None:
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        pair.agents["source"].stop()
        expire(pair.states["source"] / "identity", pair.states["target"] / "identity")
        expect(agent_of(pair, "source"), 9, "expired", "--new-code")
        pair.agents["target"].stop()
        pair._spawn("target", ["--listen", "127.0.0.1:0", "--new-code"])
        event = pair.agents["target"].wait_event(lambda e: e.get("event") == "pairing", 20)
        # A wrong code leaves the job as it is.
        words = ("--state", str(pair.states["source"]))
        expect(
            livelift("source", "--pair", wrong(event["code"]), f"127.0.0.1:{event['port']}", *words), 9, "4 tries left"
        )
        assert not (pair.states["source"] / "identity.new").exists()
        (trees[0] / "while nobody watched").write_bytes(b"x")
        pair._spawn("source", ["--pair", event["code"], f"127.0.0.1:{event['port']}"])
        pair.wait_following()
        pair.cutover()
    assert_equal(*trees)


def test_a_certificate_of_another_job(trees: tuple[Path, Path], tmp_path: Path) -> None:
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        pair.agents["source"].stop()
        identity = pair.states["source"] / "identity"
        job = json.loads((pair.states["target"] / "job.json").read_text())["id"]
        stranger = ca.create_authority(job, datetime.datetime.now(datetime.UTC))
        key = ca.new_key()
        certificate = stranger.sign(ca.make_request(key), "source", datetime.datetime.now(datetime.UTC))
        ca.save_leaf(identity, key, certificate, stranger.der)
        expect(agent_of(pair, "source"), 9, "pair the two machines again")
        pair.agents["target"].check_alive()


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


# -- the link ----------------------------------------------------------------------------------------------------------


def test_a_dead_peer(trees: tuple[Path, Path], tmp_path: Path) -> None:
    nobody = livelift(
        "source", "--pair", "K3M9X-7QWTP", "127.0.0.1:9", "--state", tmp_path / "s", "--map", f"{trees[0]}={trees[1]}"
    )
    expect(nobody, 7, "Connection refused", "port open")
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        pair.kill9("target")
        (trees[0] / "later").write_bytes(b"later")
        state = pair.states["source"]
        deadline = time.monotonic() + 10
        while "refused" not in (shown := livelift("status", "--state", state).out):  # after the first try to reconnect
            assert time.monotonic() < deadline, shown
            time.sleep(0.1)
        assert "stalled(" in shown
        expect(livelift("status", "--state", pair.states["target"]), 7, "agent in", "is it running")
        pair.restart("target")
        pair.wait_following()
        pair.cutover()
    assert_equal(*trees)


def newer_release(directory: Path) -> dict[str, str]:
    """A copy of this release that speaks the next major protocol."""
    code = shutil.copytree(ROOT / "livelift", directory / "livelift", ignore=shutil.ignore_patterns("__pycache__"))
    messages = code / "protocol/messages.py"
    text = messages.read_text()
    changed = text.replace(f"PROTOCOL: Final = {PROTOCOL}", f"PROTOCOL: Final = {(PROTOCOL[0] + 1, 0)}")
    assert changed != text
    messages.write_text(changed)
    return {"PYTHONPATH": str(directory)}


def test_another_version(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    env = newer_release(tmp_path / "newer")
    waiting = targets(trees)
    words = ("--state", str(tmp_path / "s"), "--map", f"{trees[0]}={trees[1]}")
    run_newer = (sys.executable, "-P", "-m", "livelift")  # -P: not the checkout in the working directory
    done = livelift("source", "--pair", waiting.code, f"127.0.0.1:{waiting.port}", *words, prefix=run_newer, env=env)
    expect(done, 1, "version:", "same Livelift release on both machines")
    waiting.agent.stop()
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        pair.agents["source"].stop()
        done = livelift("source", "--state", pair.states["source"], prefix=run_newer, env=env)
        expect(done, 1, "version:", "same Livelift release on both machines")
        pair.restart("source")  # the right release goes on where it was
        pair.wait_following()


def test_different_maps_on_both_sides(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    waiting = targets(trees)
    done = source_fails(waiting, tmp_path / "s", (trees[0], tmp_path / "elsewhere"))
    expect(done, 2, "different directory mappings", "livelift remove")


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

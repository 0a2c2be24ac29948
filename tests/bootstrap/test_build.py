"""The agent file: reproducible, runs without anything installed, refuses what it cannot run on, repairs its cache."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from livelift.bootstrap import build, front
from livelift.model.code import code
from tests.bootstrap.agentfile import LOCK, PACKAGE, ROOT, WHEELS, agent_file, own_platform

CLEAN = {"PATH": os.environ.get("PATH", os.defpath), "LIVELIFT_PYTHON": sys.executable}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return agent_file(tmp_path_factory.mktemp("agent"))


def run(*words: str | Path, **environment: str | Path) -> subprocess.CompletedProcess[str]:
    env = CLEAN | {name: str(value) for name, value in environment.items()}
    return subprocess.run(list(map(str, words)), env=env, capture_output=True, text=True, timeout=50, cwd="/")


def copies(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def test_the_same_input_gives_the_same_bytes(agent: Path, tmp_path: Path) -> None:
    out = tmp_path / "deeper/again"
    digest = build.build(PACKAGE, WHEELS, out, [own_platform()])
    assert out.read_bytes() == agent.read_bytes()
    assert digest == hashlib.sha256(agent.read_bytes()).hexdigest()
    assert os.access(out, os.X_OK)
    with zipfile.ZipFile(agent) as archive:
        assert {info.date_time for info in archive.infolist()} == {build.EPOCH}


def test_the_wheels_in_it_are_those_of_the_lock(agent: Path) -> None:
    locked = set(re.findall(r"sha256:([0-9a-f]{64})", LOCK.read_text()))
    with zipfile.ZipFile(agent) as archive:
        wheels = [name for name in archive.namelist() if name.endswith(".whl")]
        assert len(wheels) >= 7
        assert {hashlib.sha256(archive.read(name)).hexdigest() for name in wheels} <= locked


def test_the_lock_has_every_dependency() -> None:
    names = set(re.findall(r"^([a-z0-9-]+)==", LOCK.read_text(), re.M))
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[<>=]", line)[0] for line in wanted} <= names


def test_it_runs_by_itself_and_only_its_user_can_enter_the_cache(agent: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = run(agent, "--version", LIVELIFT_CACHE=cache)
    assert (done.returncode, done.stdout) == (0, "livelift 0.1.0\n"), done.stderr
    (place,) = copies(cache)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (cache, place)] == [0o700, 0o700]
    before = (place / "livelift/cli/main.py").stat().st_ino
    done = run(agent, "status", "--state", tmp_path / "none", LIVELIFT_CACHE=cache)
    assert done.returncode == 7 and "does not exist" in done.stderr
    assert copies(cache) == [place], "unpacked once"
    assert (place / "livelift/cli/main.py").stat().st_ino == before
    words = [sys.executable, "-c", "from livelift.model.code import code; print(code())"]
    said = subprocess.run(words, env={"PYTHONPATH": str(place)}, cwd="/", capture_output=True, text=True, check=True)
    assert said.stdout == f"0.1.0 {place.name}\n" and code() == "0.1.0", "another file is told from this one"


def test_a_placed_agent_has_one_cache_whoever_starts_it(agent: Path, tmp_path: Path) -> None:
    placed, home = tmp_path / "livelift-agent", tmp_path / "home"
    shutil.copy(agent, placed)
    beside = tmp_path / "cache"
    beside.mkdir(0o700)  # a stranger's directory of that name: not ours yet
    assert front.default_cache(str(placed)) != beside
    assert run(placed, "--version", LIVELIFT_CACHE=beside).returncode == 0
    assert run(placed, "--version", XDG_CACHE_HOME=home).returncode == 0
    assert front.default_cache(str(placed)) == beside and not home.exists()
    beside.chmod(0o755)
    assert front.default_cache(str(placed)) != beside, "others can enter it"


def test_remove_takes_the_cache_too_unless_somebody_runs_from_it(agent: Path, tmp_path: Path) -> None:
    cache, states = tmp_path / "deep/cache", [tmp_path / "one", tmp_path / "two"]
    for state in states:
        state.mkdir()
        (state / "job.json").write_text("{}")
    fd = front.used(cache)
    done = run(agent, "remove", "--state", states[0], LIVELIFT_CACHE=cache)
    assert done.returncode == 0 and not states[0].exists(), done.stderr
    assert copies(cache), "somebody runs from it, and longer than an agent takes to end"
    os.close(fd)
    done = run(agent, "remove", "--state", states[1], "--dry-run", LIVELIFT_CACHE=cache)
    assert done.returncode == 0 and copies(cache), done.stderr
    done = run(agent, "remove", "--state", states[1], LIVELIFT_CACHE=cache)
    assert done.returncode == 0 and "removed" in done.stdout, done.stderr
    assert list(cache.parent.iterdir()) == []


def test_remove_leaves_what_is_not_ours_in_a_cache_that_the_operator_has_named(agent: Path, tmp_path: Path) -> None:
    home, state = tmp_path / "home", tmp_path / "state"
    (home / "letters").mkdir(parents=True)
    (home / "letters/one").write_text("dear")
    (home / ".profile").write_text("")
    home.chmod(0o700)
    state.mkdir()
    (state / "job.json").write_text("{}")
    done = run(agent, "remove", "--state", state, LIVELIFT_CACHE=home)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in home.iterdir()) == [".profile", "letters"]
    assert (home / "letters/one").read_text() == "dear"


def test_an_agent_that_is_placed_in_the_state_removes_itself(agent: Path, tmp_path: Path) -> None:
    state = tmp_path / "livelift/state"
    state.mkdir(parents=True)
    (state / "job.json").write_text("{}")
    placed = state / "livelift-agent"
    shutil.copy(agent, placed)
    without = os.path.join(sys.base_prefix, "bin/python3")  # Livelift is installed in the environment of the tests
    done = run(placed, "remove", "--state", state, LIVELIFT_CACHE=state / "cache", LIVELIFT_PYTHON=without)
    assert (done.returncode, done.stdout) == (0, f"removed {state}\n"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_agent_that_is_ending_is_waited_for(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    fd, other = front.used(cache), front.used(cache)
    with ThreadPoolExecutor(1) as pool:
        gone = pool.submit(front.forget, cache, fd)
        time.sleep(0.3)
        assert not gone.done() and cache.exists()
        os.close(other)
        gone.result(30)
    assert not cache.exists()
    os.close(fd)


def test_whoever_comes_while_the_cache_goes_makes_another(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    fd = front.used(cache)
    gone = cache / front.USED
    fcntl.flock(fd, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(front.used, cache)
        while f" {os.stat(gone).st_ino} " not in waiting():  # it has opened what goes away
            assert not other.done()
            time.sleep(0.01)
        front.forget(cache, fd)
        os.close(fd)
        again = other.result(30)
    assert os.fstat(again).st_ino == os.stat(gone).st_ino and os.fstat(again).st_nlink == 1
    front.forget(cache, again)
    assert not cache.exists()
    os.close(again)


def waiting() -> str:
    """proc_locks(5): "1: -> FLOCK ADVISORY READ 1 fe:00:123 0 EOF" waits."""
    lines = [line for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return " ".join(word.rpartition(":")[2] for line in lines for word in line.split()) + " "


def test_everything_comes_from_the_cache(agent: Path, tmp_path: Path) -> None:
    """Compiled modules included; and a reader process, started with the parent's sys.path, reads a real file."""
    cache, file = tmp_path / "cache", tmp_path / "tree/file"
    file.parent.mkdir()
    file.write_bytes(b"content")
    assert run(agent, "--version", LIVELIFT_CACHE=cache).returncode == 0
    (place,) = copies(cache)
    probe = f"""
import sys, os
sys.path[:] = [{str(place)!r}] + [p for p in sys.path if "site-packages" not in p]
import blake3, cryptography.hazmat.primitives.asymmetric.ec, google_crc32c, msgspec, zstandard
for module in (blake3, cryptography, google_crc32c, msgspec, zstandard):
    assert module.__file__.startswith({str(place)!r}), module
assert google_crc32c.implementation == "c"
from livelift.walk.remote import Processes
readers = Processes(1, 1)
fd = os.open({str(file.parent)!r}, os.O_RDONLY)
frames = list(readers.lanes[0].read([(fd, b"file")]))
print(bytes(frames[0].payloads[0]))
readers.close()
"""
    done = run(sys.executable, "-I", "-S", "-c", probe)
    assert done.stdout == "b'content'\n", done.stderr


def test_a_damaged_cache_is_made_anew(agent: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(agent, "--version", LIVELIFT_CACHE=cache)
    (place,) = copies(cache)
    (place / "livelift/__init__.py").write_text('__version__ = "6.6.6"\n')
    done = run(agent, "--version", LIVELIFT_CACHE=cache)
    assert done.stdout == "livelift 0.1.0\n", done.stderr
    (place / "livelift/cli/main.py").unlink()
    place.rename(cache / ".new-1")  # killed while it unpacked
    done = run(agent, "--version", LIVELIFT_CACHE=cache)
    assert done.stdout == "livelift 0.1.0\n", done.stderr
    assert copies(cache) == [place]


def test_what_has_been_compared_in_this_boot_is_known_by_its_stamp(agent: Path, tmp_path: Path) -> None:
    """10 s of every command went into digests where the processor was emulated. A power cut may leave a file with its
    size and without its content, so the next boot compares again."""
    cache = tmp_path / "cache"
    for _ in range(2):  # unpacked; compared
        run(agent, "--version", LIVELIFT_CACHE=cache)
    (place,) = copies(cache)
    (seen,) = cache.glob("*.seen")
    boot, *stamps = json.loads(seen.read_bytes())
    changed = place / "livelift/__init__.py"
    before = changed.stat()
    changed.write_text(changed.read_text().replace("0.1.0", "66.6.6"))  # another size, or Python runs its cached code
    after = changed.stat()
    which = stamps.index([before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino])
    stamps[which] = [after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino]
    seen.write_text(json.dumps([boot, *stamps]))
    assert run(agent, "--version", LIVELIFT_CACHE=cache).stdout == "livelift 66.6.6\n", "by its stamp alone"
    seen.write_text(json.dumps(["another boot", *stamps]))
    assert run(agent, "--version", LIVELIFT_CACHE=cache).stdout == "livelift 0.1.0\n"
    assert copies(cache) == [place]


def test_a_cache_that_others_can_enter_is_refused(agent: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o755)
    done = run(agent, "--version", LIVELIFT_CACHE=cache)
    assert done.returncode == 2 and "only this user can enter" in done.stderr and "what to do" in done.stderr
    assert not list(cache.iterdir())
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert run(agent, "--version", LIVELIFT_CACHE=link).returncode == 2


def test_a_damaged_file_is_refused(agent: Path, tmp_path: Path) -> None:
    content = bytearray(agent.read_bytes())
    with zipfile.ZipFile(agent) as archive:
        info = max(archive.infolist(), key=lambda info: info.file_size)
    content[info.header_offset + info.file_size // 2] ^= 1
    broken = tmp_path / "broken"
    broken.write_bytes(content)
    broken.chmod(0o755)
    done = run(broken, "--version", LIVELIFT_CACHE=tmp_path / "cache")
    assert done.returncode == 2 and "copy" in done.stderr, done.stderr
    assert not copies(tmp_path / "cache") or all(path.name.startswith(".new-") for path in copies(tmp_path / "cache"))
    whole = run(agent, "--version", LIVELIFT_CACHE=tmp_path / "cache")
    assert whole.returncode == 0 and len(copies(tmp_path / "cache")) == 1


@pytest.fixture
def parts() -> dict[str, object]:
    files = {"python": ["3.11"], "platforms": {"cp311-x86_64": {"glibc": [2, 17]}, "cp311-aarch64": {"glibc": [2, 17]}}}
    return json.loads(json.dumps(files))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "libc", "text"),
    [
        ("cp311-riscv64", ("glibc", "2.36"), "nothing for cp311-riscv64"),
        ("cp314-x86_64", ("glibc", "2.36"), "CPython 3.11 on aarch64 and x86_64"),
        ("cp311-x86_64", ("glibc", "2.5"), "glibc 2.5; the agent needs glibc 2.17"),
        ("cp311-x86_64", ("", ""), "not glibc"),
    ],
)
def test_another_machine_is_told_what_to_do(
    parts: dict[str, object], name: str, libc: tuple[str, str], text: str
) -> None:
    with pytest.raises(front.RefusedError, match=text) as caught:
        front.choose(parts, name, libc)
    assert "what to do" in str(caught.value)
    assert front.choose(parts, "cp311-x86_64", ("glibc", "2.17")) == {"glibc": [2, 17]}


def pythons(*versions: str) -> Iterator[tuple[str, Path]]:
    """Those of this machine: the system's, and those beside the one that runs the tests (as pyenv lays them out)."""
    beside = Path(sys.base_prefix).parent
    for version in versions:
        for path in [Path(f"/usr/bin/python{version}"), *beside.glob(f"{version}.*/bin/python")]:
            if os.access(path, os.X_OK):
                yield version, path
                break


def test_an_old_python_is_told_what_to_do(agent: Path, tmp_path: Path) -> None:
    old = list(pythons("2.7", "3.6", "3.9", "3.10"))
    if not old:
        pytest.skip("no Python older than 3.11 on this machine")
    for version, path in old:
        done = run(path, agent, "--version", LIVELIFT_CACHE=tmp_path / "cache")
        assert done.returncode == 2 and f"this is Python {version};" in done.stderr, done.stderr
    assert not (tmp_path / "cache").exists()


def test_the_script_passes_by_a_python_that_does_not_fit(agent: Path, tmp_path: Path) -> None:
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    good = tmp_path / "python3.11"
    good.symlink_to(sys.executable)
    cache = tmp_path / "cache"
    done = run("/bin/sh", agent, "--version", LIVELIFT_PYTHON=broken, PATH=tmp_path, LIVELIFT_CACHE=cache)
    assert done.stdout == "livelift 0.1.0\n", done.stderr
    good.unlink()
    if not os.access("/usr/local/bin/python3", os.X_OK):
        done = run("/bin/sh", agent, "--version", LIVELIFT_PYTHON=broken, PATH=tmp_path)
        assert done.returncode == 2 and "no CPython 3.11, 3.12 or 3.13" in done.stderr


@pytest.mark.parametrize(
    ("wheel", "glibc"),
    [
        ("a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl", (2, 17)),
        ("a-1-cp311-abi3-manylinux_2_28_aarch64.whl", (2, 28)),
        ("a-1-py3-none-any.whl", (2, 5)),
    ],
)
def test_glibc_of_a_wheel(wheel: str, glibc: tuple[int, int]) -> None:
    assert build.glibc_of(wheel) == glibc


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_whole_file(tmp_path: Path) -> None:
    """Every platform, through the command that `make agent` runs; and with every other Python of this machine."""
    agent_file(tmp_path)  # skips where the wheels cannot be had
    out = tmp_path / "livelift-agent"
    words = ["--lock", str(LOCK), "--wheels", str(WHEELS), "--out", str(out)]
    assert build.main(words) == 0
    with zipfile.ZipFile(out) as archive:
        assert set(json.loads(archive.read("manifest.json"))["platforms"]) == set(build.PLATFORMS)
    for _, python in pythons(*build.PYTHONS):
        done = run(python, "-I", out, "--version", LIVELIFT_CACHE=tmp_path / "cache")
        assert done.stdout == "livelift 0.1.0\n", done.stderr

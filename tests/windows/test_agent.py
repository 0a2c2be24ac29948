"""A whole source agent on a Windows Python under Wine, and a Linux target: over TLS on the loopback address.

What arrived is judged by hashing both trees with the standard library, not by Livelift's own verification.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import random
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.ntfsfs import make_ntfs
from tests.windows.wine import REPOSITORY, Wine

MAIN = "import sys; from livelift.cli.main import main; sys.exit(main(sys.argv[1:]))"

CHURN = """
import os, random, sys, time
top, seed, count, verbs = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4].split()
rng = random.Random(seed)
os.chdir(top)

def everything():
    files, directories = [], ["."]
    for where, below, names in os.walk("."):
        directories += [os.path.join(where, d) for d in below]
        files += [os.path.join(where, f) for f in names]
    return files, directories

def change(verb, new, files, directories):
    if verb == "create":
        with open(new, "wb") as f: f.write(rng.randbytes(rng.randrange(20000)))
    elif verb == "mkdir":
        os.mkdir(new)
    elif verb == "move" and len(directories) > 3:
        os.rename(rng.choice(directories[1:]), new)
    elif files:
        file = rng.choice(files)
        if verb == "write":
            with open(file, "r+b") as f:
                f.seek(rng.randrange(30000)); f.write(b"W" * rng.randrange(1, 5000))
        elif verb == "append":
            with open(file, "ab") as f: f.write(b"A" * rng.randrange(1, 300000))
        elif verb == "cut":
            with open(file, "r+b") as f: f.truncate(rng.randrange(10000))
        elif verb == "rename":
            os.rename(file, new)
        elif verb == "replace":
            os.replace(file, rng.choice(files))
        elif verb == "unlink":
            os.unlink(file)
        elif verb == "link":
            os.link(file, new)

made = 0
for n in range(count):
    files, directories = everything()
    new = os.path.join(rng.choice(directories), f"n{n} \\u2603")
    verb = rng.choice(verbs)
    for attempt in range(10):
        try:
            change(verb, new, files, directories)
            made += 1
            break
        except PermissionError:  # another program has it open: Windows programs try again. open() tells no winerror
            time.sleep(0.02 * attempt)
        except OSError as error:
            if error.errno not in (2, 17) and error.winerror not in (5, 32, 87, 3, 2, 17, 183): raise
            break
print("done" if made > count // 2 else f"only {made} of {count}", flush=True)
"""

VERBS = "create create write append cut rename replace unlink mkdir link"

HOLD = """
import os, sys, time
from livelift.platform.windows import files
handle = files.open_path(sys.argv[1], files.GENERIC_READ | files.GENERIC_WRITE, 3, 0, 0)
print("held", flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.1)
"""

PATIENCE = 120.0
"""Seconds for anything that takes a few on an idle machine."""


def tree(top: Path) -> dict[str, str]:
    """Path -> type and SHA-256, by nothing of ours."""
    found = {}
    for where, directories, files in os.walk(top):
        if ".livelift" in directories:
            directories.remove(".livelift")
        for name in directories:
            found[os.path.relpath(os.path.join(where, name), top)] = "directory"
        for name in files:
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = hashlib.sha256(file.read()).hexdigest()
    return found


class Migration:
    """A target here, a source under Wine."""

    def __init__(self, wine: Wine, work: Path, replica: Path, undo: ExitStack, *options: str) -> None:
        self.wine, self.replica = wine, replica
        self.linux, self.windows = wine.scratch()
        self.source = self.linux / "data"
        self.source.mkdir()
        self._work, self._undo, self._options = work, undo, options
        self.said: list[str] = []

    def start(self) -> None:
        mapping = f"{self.windows}\\data={self.replica}"
        command = [sys.executable, "-m", "livelift", "target", "--listen", "127.0.0.1:0", "--json"]
        log = self._undo.enter_context((self._work / "target.log").open("wb"))
        target = subprocess.Popen(
            [*command, "--state", str(self._work / "target"), "--map", mapping],
            stdout=subprocess.PIPE, stderr=log, cwd=REPOSITORY,
        )  # fmt: skip
        self._undo.callback(self._end, target)
        assert target.stdout is not None
        told = json.loads(target.stdout.readline())
        self.agent = self.wine.start(
            MAIN, "source", "--pair", told["code"], f"127.0.0.1:{told['port']}", "--map", mapping,
            "--state", f"{self.windows}\\state", "--json", *self._options,
        )  # fmt: skip
        self._undo.callback(self._end, self.agent)
        threading.Thread(target=self._listen, daemon=True).start()
        deadline = time.monotonic() + PATIENCE
        # Two processes that begin in the same moment can wait for each other in Wine 8.
        while not any('"started"' in line for line in self.said):
            assert time.monotonic() < deadline and self.agent.poll() is None, "".join(self.said)
            time.sleep(0.1)
        self.until(lambda _: True)

    def _listen(self) -> None:
        assert self.agent.stdout is not None
        with contextlib.suppress(ValueError):  # closed at the end
            for line in self.agent.stdout:
                self.said.append(line.decode("utf-8", "replace"))

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        if process.stdout is not None:
            process.stdout.close()

    def ask(self, verb: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        text = self.wine.run(MAIN, verb, "--state", f"{self.windows}\\state", "--json", *arguments, codes=codes)
        value: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
        return value

    def until(self, what: Callable[[dict[str, Any]], bool], seconds: float = PATIENCE) -> dict[str, Any]:
        """The first status for which ``what`` holds. An agent that does not answer yet is asked again."""
        deadline = time.monotonic() + seconds
        last = ""
        while time.monotonic() < deadline:
            if self.agent.poll() is not None:
                raise AssertionError("".join(self.said))
            try:
                status = self.ask("status")
            except AssertionError as error:
                last = str(error)
            else:
                if what(status):
                    return status
                last = json.dumps(status, indent=1)
            time.sleep(0.2)
        raise AssertionError(last + "".join(self.said))

    def settled(self) -> dict[str, Any]:
        return self.until(lambda s: s["state"] == "following" and s["durable"] and not s["gaps"])


def equal(job: Migration, replica: Path, seed: int, seconds: float = PATIENCE) -> None:
    """Wine tells of changes a moment later, so there is no instant at which all of them must have arrived."""
    deadline = time.monotonic() + seconds
    while tree(replica) != tree(job.source):
        assert time.monotonic() < deadline, (seed, set(tree(job.source).items()) ^ set(tree(replica).items()))
        job.settled()


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def fill(top: Path, rng: random.Random) -> None:
    for number in range(12):
        below = top / f"dir {number}" / "Ünterverzeichnis"
        below.mkdir(parents=True)
        for n in range(10):
            (below / f"file{n}.txt").write_bytes(rng.randbytes(rng.randrange(3000)))
    (top / "big.bin").write_bytes(rng.randbytes(5_000_000))
    (top / "empty").write_bytes(b"")
    os.link(top / "big.bin", top / "dir 1" / "second name")


@pytest.mark.root
@pytest.mark.timeout(500)
def test_a_windows_tree_arrives_stays_identical_and_is_cut_over(
    wine: Wine, tmp_path: Path, undo: ExitStack, rng: random.Random, seed: int
) -> None:
    replica = tmp_path / "replica"
    replica.mkdir()
    job = Migration(wine, tmp_path, replica, undo)
    fill(job.source, rng)
    job.start()
    status = job.settled()
    assert status["capture_mode"] == "watch"
    assert status["capture_rejected"][0][0] == "usn"
    assert tree(replica) == tree(job.source)
    assert (replica / "big.bin").stat().st_ino == (replica / "dir 1" / "second name").stat().st_ino

    # While it is followed: many changes by a Windows program.
    assert wine.run(CHURN, f"{job.windows}\\data", str(seed), "200", VERBS).strip() == "done"
    equal(job, replica, seed)
    assert job.ask("verify")["differences"] == 0

    # Renamed directories too: Wine loses track of what is in them, so it is the cutover that must find it.
    assert wine.run(CHURN, f"{job.windows}\\data", f"{seed}+", "100", f"{VERBS} move").strip() == "done"
    result = job.ask("cutover")
    assert result["state"] == "cut" and result["differences"] == 0, result
    assert tree(replica) == tree(job.source)


@pytest.mark.root
@pytest.mark.timeout(400)
def test_a_file_held_by_another_program_is_a_gap_until_it_is_let_go(
    wine: Wine, tmp_path: Path, undo: ExitStack
) -> None:
    replica = tmp_path / "replica"
    replica.mkdir()
    job = Migration(wine, tmp_path, replica, undo)
    (job.source / "free").write_bytes(b"free")
    (job.source / "held").write_bytes(b"held" * 100)
    holder = wine.start(HOLD, f"{job.windows}\\data\\held", f"{job.windows}\\let go")
    undo.callback(Migration._end, holder)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == b"held"
    job.start()
    status = job.until(lambda s: s["state"] == "following" and s["gaps"] == 1)
    (gap,) = status["gap_list"]
    for way in ("registry", "snapshot", "sectors"):
        assert re.search(rf"{way}: \S", gap["detail"]), gap
    assert tree(replica).get("free") == hashlib.sha256(b"free").hexdigest()
    (job.linux / "let go").touch()
    assert holder.wait(PATIENCE) == 0
    job.settled()  # it is tried again every ten seconds
    assert tree(replica) == tree(job.source)


def long_xattr(path: Path, name: bytes) -> bytes:
    """getxattr(2) with room at once: ntfs-3g says EIO to the small buffer that os.getxattr offers first."""
    buffer = ctypes.create_string_buffer(65536)
    size = ctypes.CDLL(None, use_errno=True).getxattr(os.fsencode(path), name, buffer, 65536)
    if size < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    return buffer.raw[:size]


@pytest.mark.root
@pytest.mark.timeout(400)
def test_an_ntfs_target_keeps_what_belongs_to_the_files(wine: Wine, tmp_path: Path, undo: ExitStack) -> None:
    """ntfs-3g answers with what is in the volume, in its own attributes."""
    ntfs = make_ntfs(tmp_path, 32)
    mountpoint = undo.enter_context(ntfs.mounted("streams_interface=xattr"))
    replica = mountpoint / "replica"
    replica.mkdir()
    job = Migration(wine, tmp_path, replica, undo, "--ntfs-target")
    (job.source / "a").write_bytes(b"a" * 5000)
    (job.source / "readonly").write_bytes(b"r")
    (job.source / "dir").mkdir()
    wine.run("import subprocess, sys; subprocess.run(['attrib', '+r', sys.argv[1]])", f"{job.windows}\\data\\readonly")
    asked = (
        "import os, sys, struct; from livelift.platform.windows import files;"
        "h = files.open_path(sys.argv[1], 0x20080); i = files.information(h);"
        "print(i.created, i.attributes, files.security_descriptor(h, 7).hex())"
    )
    job.start()
    status = job.settled()
    assert status["problem_count"] == 0, status["problems"]
    assert tree(replica) == tree(job.source)
    for name in ("a", "readonly", "dir"):
        created, bits, security = wine.run(asked, f"{job.windows}\\data\\{name}").split()
        path = replica / name
        assert struct.unpack(">q", os.getxattr(path, "system.ntfs_crtime_be"))[0] == int(created)
        kept = struct.unpack(">I", os.getxattr(path, "system.ntfs_attrib_be"))[0]
        assert kept & 0x27 == int(bits) & 0x27, name
        raw = long_xattr(path, b"system.ntfs_acl")
        owner = struct.unpack_from("<I", raw, 4)[0]
        assert raw[owner : owner + 28].hex() in security, f"the owner of {name}"

    (job.source / "later").write_bytes(b"later")
    job.settled()
    os.setxattr(replica / "a", "system.ntfs_crtime_be", struct.pack(">q", 132 * 10**15))
    found = job.ask("verify", codes=(0, 5))
    listing = found["listing"]
    if not listing:  # on a busy machine the rolling comparison may be there first
        listing = [line for line in job.said if "rolling verification: 1 differences" in line]
    assert len(listing) == 1 and "ntfs_crtime_be" in listing[0], (found, job.said)
    job.settled()
    result = job.ask("cutover")
    assert result["state"] == "cut" and result["differences"] == 0, result
    created = wine.run(asked, f"{job.windows}\\data\\a").split()[0]
    assert struct.unpack(">q", os.getxattr(replica / "a", "system.ntfs_crtime_be"))[0] == int(created), "repaired"

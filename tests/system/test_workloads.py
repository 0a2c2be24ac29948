"""Programs that people run, on a live tree: each is its own judge of what arrived, beside the two comparers."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.oracle.compare import assert_equal
from tests.oracle.pair import LivePair
from tests.system.conftest import Disks

pytestmark = [pytest.mark.system, pytest.mark.root]

Workload = Callable[[Path, Path], Iterator[None]]
"""Prepares the source up to its first yield, works on the live source up to its second, then judges the target."""

SECONDS = 4.0
POSTGRES = Path("/usr/lib/postgresql/15/bin")
STRESSORS = (
    "access", "chattr", "chmod", "chown", "copy-file", "dentry", "dir", "dirdeep", "dirmany", "fallocate", "fiemap",
    "filename", "fpunch", "fsize", "getdent", "hdd", "iomix", "link", "lockf", "mknod", "open", "readahead", "rename",
    "seek", "symlink", "sync-file", "touch", "utime", "xattr",
)  # fmt: skip


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str | Path, timeout: float = 60, **options: object) -> str:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return str(done.stdout)


@contextlib.contextmanager
def background(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """A writer in a thread, until the end of the block; its exception is the test's."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def body() -> None:
        try:
            work(stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    if failures:
        raise failures[0]


def stress_ng(source: Path, target: Path) -> Iterator[None]:
    """The file-system class all at once, killed in the middle so that its files stay for the comparison."""
    command = [tool("stress-ng"), "--temp-path", str(source), "--timeout", "60", "--seed", "7", "--quiet", "--oomable"]
    for stressor in STRESSORS:
        command += [f"--{stressor}", "1"]
    command += ["--hdd-bytes", "8m", "--iomix-bytes", "8m", "--fallocate-bytes", "8m", "--copy-file-bytes", "128m"]
    command += ["--sync-file-bytes", "4m", "--seek-size", "4m", "--readahead-bytes", "4m"]
    yield
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(SECONDS)
        assert process.poll() is None, "stress-ng did not run"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    left = subprocess.run(["pgrep", "--session", str(process.pid)], capture_output=True, check=False)
    for pid in left.stdout.split():  # stressors may be in process groups of their own
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    time.sleep(0.5)
    yield
    assert any(target.iterdir())


def fio_verify(source: Path, target: Path) -> Iterator[None]:
    """Blocks with checksums and offsets in them, written buffered, direct and by mapping; verified on the target."""
    jobs = ["--directory={}", "--size=24m", "--bs=4k", "--verify=crc32c", "--verify_fatal=1", "--randseed=3"]
    names = [
        ["--name=buffered", "--rw=randwrite", "--ioengine=psync"],
        ["--name=direct", "--rw=randwrite", "--ioengine=psync", "--direct=1"],
        ["--name=mapped", "--rw=randwrite", "--ioengine=mmap"],
    ]
    fio = tool("fio")
    yield
    # verify_only repeats the generator's sequence: each job must have finished, so it is bounded by size, not time
    for name in names:
        run(fio, *name, *(job.format(source) for job in jobs), "--do_verify=0", "--rate_iops=4000", cwd=source)
    yield
    for name in names:
        run(fio, *name, *(job.format(target) for job in jobs), "--verify_only", cwd=target.parent)


def sqlite_wal(source: Path, target: Path) -> Iterator[None]:
    """Commits in WAL mode; the writer's process is gone at the cut, the WAL is not yet folded into the database."""
    path = source / "ledger.db"
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma wal_autocheckpoint=50")
    connection.execute("create table ledger (n integer primary key, filler blob)")
    connection.commit()
    committed = 0
    yield
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        committed += 1
        connection.execute("insert into ledger values (?, randomblob(3000))", (committed,))
        connection.commit()
    yield
    copy = target.parent / "sqlite-copy"  # opening it in place would fold the WAL and change the replica
    shutil.copytree(target, copy)
    with contextlib.closing(sqlite3.connect(copy / "ledger.db")) as replica:
        assert replica.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert replica.execute("select count(*), max(n) from ledger").fetchone() == (committed, committed)
    connection.close()


def lmdb_writemap(source: Path, target: Path) -> Iterator[None]:
    """All stores go through a shared mapping, which no event queue of the kernel reports."""
    lmdb = pytest.importorskip("lmdb")
    environment = lmdb.open(str(source / "lmdb"), map_size=32 << 20, writemap=True, map_async=False)
    count = 0
    yield
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with environment.begin(write=True) as transaction:
            for _ in range(20):
                transaction.put(b"%d" % (count % 3000), b"%d:" % count + os.urandom(500))
                count += 1
        time.sleep(0.005)
    with environment.begin() as transaction:
        expected = dict(transaction.cursor())
    yield
    copy = target.parent / "lmdb-copy"
    shutil.copytree(target / "lmdb", copy)
    with lmdb.open(str(copy), readonly=True, lock=False, map_size=32 << 20) as replica, replica.begin() as transaction:
        assert dict(transaction.cursor()) == expected
    environment.close()


def postgresql(source: Path, target: Path) -> Iterator[None]:
    """pgbench on a real cluster, stopped without a checkpoint; the replica must recover and satisfy pg_amcheck."""
    if not POSTGRES.is_dir():
        pytest.skip(f"no PostgreSQL in {POSTGRES}")
    port = "54391"
    for directory in (source, target):
        os.chmod(directory, 0o755)
        for parent in (directory.parent, directory.parent.parent):
            os.chmod(parent, 0o755)  # the postgres user must get in
    shutil.chown(source, "postgres", "postgres")

    def pg(program: str, *arguments: str | Path, timeout: float = 60) -> str:
        return run("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", POSTGRES / program, *arguments,
                   timeout=timeout, cwd="/")  # fmt: skip

    def control(data: Path, *arguments: str) -> str:
        options = f"-p {port} -k {data} -c listen_addresses= -c shared_buffers=16MB"
        return pg("pg_ctl", "-D", data, "-w", "-o", options, "-l", data / "server.log", *arguments)

    def ask(data: Path, question: str) -> str:
        return pg("psql", "-h", data, "-p", port, "-At", "-d", "postgres", "-c", question).strip()

    data = source / "pg"
    pg("initdb", "-D", data, "--no-sync", "-k")
    control(data, "start")
    try:
        pg("pgbench", "-h", data, "-p", port, "-i", "-s", "2", "-q", "postgres")
        yield
        pg("pgbench", "-h", data, "-p", port, "-c", "4", "-T", str(int(SECONDS)), "postgres")
        total = ask(data, "select count(*), sum(delta) from pgbench_history")
    finally:
        control(data, "stop", "-m", "immediate")
    yield
    replica = target.parent / "pg-copy"
    run("cp", "-a", target / "pg", replica)
    (replica / "postmaster.pid").unlink(missing_ok=True)
    control(replica, "start")
    try:
        assert ask(replica, "select count(*), sum(delta) from pgbench_history") == total
        pg("pg_amcheck", "-h", replica, "-p", port, "--install-missing", "--heapallindexed", "-d", "postgres")
    finally:
        control(replica, "stop", "-m", "fast")
    pg("pg_checksums", "--check", "-D", replica)


def dpkg(source: Path, target: Path) -> Iterator[None]:
    """Packages unpacked, upgraded and removed as package managers do it: aside, sync, rename, with a database."""
    tool("dpkg-deb")
    build = source.parent / "build"
    packages: list[Path] = []
    for name in ("alpha", "beta"):
        for version in ("1", "2"):
            tree = build / f"{name}-{version}"
            (tree / "DEBIAN").mkdir(parents=True)
            for number in range(250):
                path = tree / f"usr/share/{name}/{number % 7}" / f"file-{number}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{name} {version} {number}\n" * (number + 1))
            (tree / "usr/share" / name / "link").symlink_to("0/file-0")
            control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody\nDescription: test\n"
            (tree / "DEBIAN/control").write_text(control)
            packages.append(build / f"{name}_{version}.deb")
            run("dpkg-deb", "--build", "--root-owner-group", tree, packages[-1])
    for directory in ("info", "updates", "triggers"):
        (source / "var/lib/dpkg" / directory).mkdir(parents=True)
    (source / "var/lib/dpkg/status").touch()
    (source / "var/log").mkdir()

    def install(*arguments: str | Path) -> None:
        run("dpkg", f"--root={source}", f"--log={source}/var/log/dpkg.log", "--force-not-root", *arguments)

    install("-i", packages[0])
    yield
    install("-i", packages[1], packages[2])  # an upgrade and a new one
    install("-i", packages[3])
    install("-r", "alpha")
    install("-i", packages[0])
    yield
    assert "ii  beta" in run("dpkg-query", f"--admindir={target}/var/lib/dpkg", "-l", "beta")
    assert run("dpkg-query", f"--admindir={target}/var/lib/dpkg", "-W", "-f", "${Version}", "alpha") == "1"
    assert (target / "usr/share/alpha/3/file-3").read_text() == "alpha 1 3\n" * 4


def log_rotation(source: Path, target: Path) -> Iterator[None]:
    """One log rotated by renaming, one by copytruncate while two writers append; every line is counted."""
    renamed = logging.handlers.RotatingFileHandler(source / "renamed.log", maxBytes=20_000, backupCount=500)
    cut = source / "cut.log"
    written = 0
    writers = [os.open(cut, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644) for _ in range(2)]
    yield
    end = time.monotonic() + SECONDS
    rotations = 0
    while time.monotonic() < end:
        written += 1
        renamed.emit(logging.LogRecord("x", logging.INFO, "", 0, f"line {written} " + "x" * 80, None, None))
        os.write(writers[written % 2], b"line %d\n" % written)
        if written % 1000 == 0:
            rotations += 1
            shutil.copy2(cut, source / f"cut.log.{rotations}")
            os.truncate(cut, 0)
        time.sleep(0.0002)
    for fd in writers:
        os.close(fd)
    renamed.close()
    yield
    lines = sum(path.read_text().count("\n") for path in target.glob("renamed.log*"))
    assert lines == written
    numbers = [int(line.split()[1]) for path in target.glob("cut.log*") for line in path.read_text().splitlines()]
    assert sorted(numbers) == list(range(1, written + 1))


def mail_spool(source: Path, target: Path) -> Iterator[None]:
    """Maildir: written in tmp, linked into new, unlinked, renamed to cur, deleted after a while, at full speed."""
    for name in ("tmp", "new", "cur"):
        (source / name).mkdir()

    def deliver(stop: threading.Event) -> None:
        serial = 0
        while not stop.is_set():
            serial += 1
            aside = source / "tmp" / str(serial)
            aside.write_bytes(os.urandom(serial % 5000))
            os.link(aside, source / "new" / str(serial))
            aside.unlink()
            if serial % 2:
                os.rename(source / "new" / str(serial), source / "cur" / f"{serial}:2,S")
            if serial > 400:
                with contextlib.suppress(FileNotFoundError):
                    (source / "cur" / f"{serial - 400}:2,S").unlink()
            if serial % 50 == 0:
                time.sleep(0.02)

    yield
    with background(deliver):
        time.sleep(SECONDS)
    yield
    assert not any((target / "tmp").iterdir())


WORKLOADS: tuple[Workload, ...] = (
    stress_ng, fio_verify, sqlite_wal, lmdb_writemap, postgresql, dpkg, log_rotation, mail_spool,
)  # fmt: skip


LIVE = [(workload, "fanotify") for workload in WORKLOADS] + [
    pytest.param(workload, "inotify", marks=[] if workload in (log_rotation, mail_spool) else pytest.mark.long)
    for workload in WORKLOADS
]
"""The rest of the second mode is for --long: this folder is to take less than ten minutes on two cores."""


@pytest.mark.usefixtures("agents")
@pytest.mark.parametrize(
    ("workload", "mode"), LIVE, ids=lambda value: value if isinstance(value, str) else value.__name__
)
def test_a_live_workload_arrives_whole(disks: Disks, workload: Workload, mode: str, tmp_path: Path) -> None:
    phases = workload(disks.source, disks.target)
    try:
        next(phases)
        with LivePair([(disks.source, disks.target)], tmp_path, capture=mode) as pair:
            next(phases)
            pair.wait_following(120)
            pair.cutover(120)
        assert_equal(disks.source, disks.target)
        next(phases, None)
    finally:
        phases.close()


@pytest.mark.long
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.__name__)
def test_the_workload_itself_is_sound(disks: Disks, workload: Workload) -> None:
    """Without agents, with a plain copy at the end: so a failure above is the product's and not the workload's."""
    phases = workload(disks.source, disks.target)
    try:
        next(phases)
        next(phases)
        run("cp", "-a", "--sparse=always", f"{disks.source}/.", disks.target)
        next(phases, None)
    finally:
        phases.close()

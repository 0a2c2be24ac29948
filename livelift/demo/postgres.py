"""A real PostgreSQL: the cluster on the source, and the same cluster started again from the replica."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from livelift.demo.process import Child, environment, run
from livelift.errors import LiveliftError, PreflightError

SETTINGS = {
    "listen_addresses": "",  # the Unix socket only
    "shared_buffers": "64MB",
    "max_connections": "20",
    "fsync": "on",
    "full_page_writes": "on",
    "checkpoint_timeout": "30s",  # the least that is allowed: checkpoints happen while the tree moves
    "max_wal_size": "256MB",
    "dynamic_shared_memory_type": "sysv",  # goes with the IPC namespace, unlike files in /dev/shm
    "log_min_messages": "log",
}


@dataclass(frozen=True)
class Programs:
    """Where PostgreSQL's programs are, and their version."""

    directory: Path
    amcheck: Path


def find_programs() -> Programs:
    """The newest of Debian's /usr/lib/postgresql/VERSION/bin, or where a ``postgres`` on the PATH leads."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("postgres", path=environment()["PATH"])
    if on_path:
        places += [Path(on_path).resolve().parent, Path(on_path).parent]
    for place in places:
        if all((place / name).exists() for name in ("postgres", "initdb")):
            amcheck = place / "pg_amcheck"
            if not amcheck.exists() and (other := shutil.which("pg_amcheck")):
                amcheck = Path(other)
            if amcheck.exists():
                return Programs(place, amcheck)
    raise PreflightError(
        "PostgreSQL with pg_amcheck (version 14 or newer) is missing", remedy="apt-get install postgresql"
    )


def account() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as: it refuses root. None: as the user that we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PreflightError("no account for PostgreSQL", remedy="apt-get install postgresql")


def as_account(user: pwd.struct_passwd | None) -> list[str]:
    """The words in front of a command that give up root (setpriv(1), util-linux)."""
    if user is None:
        return []
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


def require_access(directory: Path) -> None:
    """`PreflightError` if the account of PostgreSQL cannot reach a directory (a private one on the way)."""
    user = account()
    if user is not None and run([*as_account(user), "test", "-x", directory], check=False).returncode != 0:
        raise PreflightError(
            f"{user.pw_name}, as whom PostgreSQL runs, cannot enter {directory}",
            remedy="name a directory below one that everybody may enter: livelift demo --dir /var/tmp",
        )


@dataclass
class Cluster:
    """A data directory and the server that may run on it. ``sockets`` is outside the tree, ``port`` names it."""

    programs: Programs
    data: Path
    sockets: Path
    log: Path
    port: int = 5432
    user: pwd.struct_passwd | None = field(default_factory=account)
    server: Child | None = None

    def initialise(self) -> None:
        """initdb with checksums, as ``postgres``, without a password: only the socket's directory leads there."""
        self.data.mkdir(parents=True)
        self.data.chmod(0o700)
        if self.user is not None:
            os.chown(self.data, self.user.pw_uid, self.user.pw_gid)
        run([*as_account(self.user), self.programs.directory / "initdb", "--pgdata", self.data, "--username=postgres",
             "--auth=trust", "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])  # fmt: skip
        with open(self.data / "postgresql.auto.conf", "a", encoding="ascii") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())

    def start(self, enter: list[str], patience: float = 60) -> float:
        """Start the server behind the words ``enter`` and wait until it answers; seconds until then."""
        began = time.monotonic()
        self.sockets.mkdir(exist_ok=True)
        if self.user is not None:
            os.chown(self.sockets, self.user.pw_uid, self.user.pw_gid)
        arguments: list[str | Path] = ["-D", self.data, "-p", str(self.port), "-k", self.sockets]
        self.server = Child(
            "PostgreSQL", [*enter, *as_account(self.user), self.programs.directory / "postgres", *arguments], self.log
        )
        while True:
            self.server.require_alive()
            try:
                self.connect().close()
                return time.monotonic() - began
            except psycopg.OperationalError as error:
                if time.monotonic() - began > patience:
                    raise LiveliftError(f"PostgreSQL does not answer: {error}\n{self.server.tail()}") from error
                time.sleep(0.05)

    def connect(self, autocommit: bool = False) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.sockets), port=self.port, user="postgres", dbname="postgres", autocommit=autocommit,
            connect_timeout=5,
        )  # fmt: skip

    def amcheck(self) -> list[str]:
        """What pg_amcheck finds: every heap page, every index, and that every tuple is in its indexes. Empty: clean."""
        done = run(
            [self.programs.amcheck, "--host", self.sockets, "--port", str(self.port), "--username=postgres", "--all",
             "--install-missing", "--heapallindexed", "--parent-check", "--no-password"],
            check=False,
        )  # fmt: skip
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        return lines or ([f"exit {done.returncode}"] if done.returncode else [])


OWN_IPC = ["unshare", "--ipc", "--"]
"""In front of the source's server: its System V segments vanish with its last process, even one that is killed."""

OTHER_MACHINE = ["unshare", "--pid", "--ipc", "--fork", "--kill-child", "--"]
"""In front of the replica's server: its own process ids and System V IPC, as on another machine. The replica holds the
source's postmaster.pid, and here that process still exists (frozen): PostgreSQL would rightly refuse to start."""

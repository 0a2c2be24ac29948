"""Who is compared. A peer is opened (servers start, not measured) and gives a function that copies once (measured).

The copy is done when it is on the disk: Livelift says itself when it is durable, the others are followed by syncfs(2).
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import services
from benchmarks.accounting import CpuGroup
from tests.oracle.pair import LivePair

RSYNC = ("rsync", "-aHAXS", "--numeric-ids")
TAR = "--xattrs --xattrs-include=* --acls --numeric-owner"

Copy = Callable[[], None]
Opened = contextlib.AbstractContextManager[Copy]


class Peer(NamedTuple):
    """``open(group, work, source, target)``: every process it starts runs inside the group."""

    name: str
    encrypted: bool
    open: Callable[[CpuGroup, Path, Path, Path], Opened]


def inside(group: CpuGroup, *command: str | Path) -> None:
    """Run to the end within the group. RuntimeError when it fails (rsync's exit 24 included: nothing vanishes here)."""
    done = subprocess.run(
        [*group.prefix, *map(str, command)], capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command}: exit {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")


@contextlib.contextmanager
def rsync_ssh(group: CpuGroup, work: Path, source: Path, target: Path, *options: str) -> Iterator[Copy]:
    with services.sshd(group, work) as ssh:
        *shell, host = ssh

        def copy() -> None:
            inside(group, *RSYNC, *options, "-e", shlex.join(shell), f"{source}/", f"{host}:{target}/")
            inside(group, "sync", "-f", target)

        yield copy


def rsync_ssh_inplace(group: CpuGroup, work: Path, source: Path, target: Path) -> Opened:
    return rsync_ssh(group, work, source, target, "--inplace")


@contextlib.contextmanager
def rsync_daemon(group: CpuGroup, work: Path, source: Path, target: Path) -> Iterator[Copy]:
    with services.rsyncd(group, work, target) as url:

        def copy() -> None:
            inside(group, *RSYNC, f"{source}/", url)
            inside(group, "sync", "-f", target)

        yield copy


@contextlib.contextmanager
def tar_zstd_ssh(group: CpuGroup, work: Path, source: Path, target: Path) -> Iterator[Copy]:
    with services.sshd(group, work) as ssh:
        there = f"zstd -dc | tar {TAR} -xpSf - -C {shlex.quote(str(target))}"
        # Sockets are dropped by tar, with a message and exit 0; a failure anywhere in the pipe is one (pipefail: bash).
        pipe = f"tar {TAR} -cSf - -C {shlex.quote(str(source))} . | zstd -q -3 -c | {shlex.join([*ssh, there])}"

        def copy() -> None:
            inside(group, "bash", "-o", "pipefail", "-c", pipe)
            inside(group, "sync", "-f", target)

        yield copy


@contextlib.contextmanager
def livelift(group: CpuGroup, work: Path, source: Path, target: Path) -> Iterator[Copy]:
    """From the start of the source agent until it follows, nothing is outstanding and all of it is durable."""
    with live_pair(group, work, source, target) as pair:

        def copy() -> None:
            pair.start_source()
            pair.wait_following(timeout=1800, interval=0.05)

        yield copy


@contextlib.contextmanager
def live_pair(group: CpuGroup, work: Path, source: Path, target: Path) -> Iterator[LivePair]:
    """A target agent that waits for its source; state directories on the disk beside the images."""
    state = work / "agents"
    pair = LivePair([(source, target)], state, prefix=group.prefix)
    try:
        pair.start_target()
        yield pair
    finally:
        pair.close()
        shutil.rmtree(state)


LIVELIFT = Peer("livelift", True, livelift)
RSYNC_SSH = Peer("rsync over ssh", True, rsync_ssh)
RSYNC_INPLACE = Peer("rsync --inplace over ssh", True, rsync_ssh_inplace)
RSYNC_DAEMON = Peer("rsync daemon", False, rsync_daemon)
TAR_ZSTD_SSH = Peer("tar|zstd -3|ssh", True, tar_zstd_ssh)

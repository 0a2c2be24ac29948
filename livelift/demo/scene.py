"""The scene of the demo: disks, hosts, the system tree, the services on it. Everything made is on the undo stack."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from livelift.demo import nasties, storage, systemtree
from livelift.demo.fence import ServiceGroup, shared_memory, signal_all, stop_tree
from livelift.demo.ledger import Ledger
from livelift.demo.netns import LOCAL, Host, make_hosts
from livelift.demo.postgres import OTHER_MACHINE, OWN_IPC, Cluster, find_programs, require_access
from livelift.demo.process import Child, run
from livelift.errors import LiveliftError

GIB = 1 << 30
DISK = 3 * GIB
DATABASE = "var/lib/postgresql/main"


@dataclass
class Scene:
    """A source with services that run, and an empty target."""

    directory: Path
    as_root: bool
    hosts: tuple[Host, Host]
    tree: Path
    replica: Path
    cluster: Cluster
    ledger: Ledger
    activity: Child
    group: ServiceGroup | None

    def require_alive(self) -> None:
        """Raise if a service of the source has ended by itself."""
        self.activity.require_alive()
        if self.cluster.server is not None:
            self.cluster.server.require_alive()

    def operations(self) -> int:
        """How many operations the other activity has done."""
        counter = self.directory / "operations"
        return int(counter.read_text() or 0) if counter.exists() else 0

    def stop_services(self) -> None:
        """The fence without root: SIGSTOP to every process of the services."""
        stop_tree(self._roots())

    def kill_services(self) -> None:
        """End the services where they stand, frozen or not, without a last write."""
        segments: set[int] = set()
        if self.group is not None:
            self.group.kill()
        else:
            members = stop_tree(self._roots())
            segments = shared_memory(members)
            signal_all(members, signal.SIGKILL)
        for child in (self.activity, self.cluster.server):
            if child is not None and child.wait(10) is None:
                raise LiveliftError(f"{child.name} does not die")
        for segment in segments:
            run(["ipcrm", "--shmem-id", str(segment)])

    def _roots(self) -> list[int]:
        children = (self.activity, self.cluster.server)
        return [child.pid for child in children if child is not None and child.exit_code() is None]

    def replica_cluster(self) -> Cluster:
        """The same cluster as it stands on the target, not started."""
        return Cluster(
            self.cluster.programs, self.replica / DATABASE, self.directory / "sockets-target",
            self.directory / "logs/postgres-target.log", port=5433,
        )  # fmt: skip

    def start_replica(self, undo: contextlib.ExitStack, cluster: Cluster) -> float:
        """Start PostgreSQL from the replica, on the target host; seconds until it answered."""
        if not self.as_root:
            self.kill_services()  # no other process ids here; see OTHER_MACHINE
        enter = [*self.hosts[1].enter, *OTHER_MACHINE] if self.as_root else []
        undo.callback(lambda: cluster.server.stop() if cluster.server else None)
        return cluster.start(enter)


def build(undo: contextlib.ExitStack, directory: Path, say: Callable[[str], None]) -> Scene:
    """Set the scene below ``directory`` (exists, empty). Takes about half a minute."""
    as_root = os.geteuid() == 0
    key = os.getpid()
    programs = find_programs()
    storage.require_space(directory, systemtree.BYTES * 3)
    require_access(directory)
    tree, replica = directory / "source", directory / "target"
    for path in (tree, replica):
        if as_root:
            storage.make_disk(undo, directory / f"{path.name}.ext4", path, DISK)
        else:
            storage.make_directory(undo, path)
    systemtree.build(tree, say)
    nasties.plant(tree)

    hosts = make_hosts(undo, key) if as_root else (LOCAL, LOCAL)
    group = ServiceGroup(undo, key) if as_root else None
    enter = [*(group.enter if group else []), *hosts[0].enter]

    cluster = Cluster(programs, tree / DATABASE, directory / "sockets-source", directory / "logs/postgres-source.log")
    say(f"PostgreSQL from {programs.directory}, its data in /{DATABASE} of the tree")
    cluster.initialise()
    # From here on the undo stack works backwards from: clients end when their server is gone.
    ledger = Ledger(cluster, directory / "acknowledged")
    undo.callback(ledger.stop)
    undo.callback(lambda: cluster.server.stop() if cluster.server else None)
    if group is not None:
        undo.callback(group.kill)
    cluster.start([*enter, *OWN_IPC] if as_root else [])
    words: list[str | Path] = [sys.executable, "-m", "livelift.demo.activity"]
    words += [tree, directory / "operations", "40", "1"]
    activity = Child("the activity on the source", [*enter, *words], directory / "logs/activity.log")
    scene = Scene(directory, as_root, hosts, tree, replica, cluster, ledger, activity, group)
    undo.callback(scene.kill_services)
    ledger.start()
    return scene

"""CPU time and memory of everything that takes part in a run: senders, receivers, sshd, rsyncd, compressors.

A cgroup counts it, because processes that have ended are counted as well and a server's children cannot slip out.
What the kernel does in its own threads (writeback, the loop device) is in nobody's count, neither ours nor a peer's.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/cpuacct")
_V2 = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))

_ENTER = 'echo $$ > "$1" && shift && exec "$@"'


class CpuGroup:
    """A cgroup of its own; ``prefix`` put before a command runs it inside. Use as a context manager.

    ``cpu()``: seconds of CPU used so far by all processes that are or were inside. ``peak_rss()``: the sum of the
    highest resident sizes (VmHWM, proc(5)) of the processes seen, in bytes; looked at four times a second.
    """

    def __init__(self, name: str) -> None:
        if (_V1 / "cpuacct.usage").exists():
            self._path = _V1 / name
        else:
            top = next((path for path in _V2 if (path / "cgroup.controllers").exists()), None)
            if top is None:
                raise RuntimeError("no cgroup that counts CPU: neither v1 cpuacct nor v2 is mounted")
            self._path = top / name
        self._high: dict[int, int] = {}
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CpuGroup:
        self._path.mkdir()
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watcher.join()
        for _ in range(50):  # a process that was killed just now takes a moment to leave
            if not self._pids():
                break
            time.sleep(0.1)
        self._path.rmdir()

    @property
    def prefix(self) -> list[str]:
        return ["sh", "-c", _ENTER, "sh", str(self._path / "cgroup.procs")]

    def cpu(self) -> float:
        v1 = self._path / "cpuacct.usage"
        if v1.exists():
            return int(v1.read_text()) / 1e9
        fields = dict(line.split() for line in (self._path / "cpu.stat").read_text().splitlines())
        return int(fields["usage_usec"]) / 1e6

    def forget_memory(self) -> None:
        self._high.clear()

    def peak_rss(self) -> int:
        self._look()
        return sum(self._high.values())

    def _pids(self) -> list[int]:
        return [int(pid) for pid in (self._path / "cgroup.procs").read_text().split()]

    def _look(self) -> None:
        for pid in self._pids():
            try:
                status = Path(f"/proc/{pid}/status").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended between the two looks
            for line in status.splitlines():
                if line.startswith(b"VmHWM:"):
                    self._high[pid] = int(line.split()[1]) << 10

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            self._look()


def free_port() -> int:
    """A TCP port on the loopback interface that nobody listens on now."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_root() -> bool:
    return os.geteuid() == 0

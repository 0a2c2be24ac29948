"""The servers that peers need: an sshd with throw-away keys and an rsync daemon, on loopback ports of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.accounting import CpuGroup, free_port
from benchmarks.volumes import run


def wait_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"no server on port {port}: {log.read_text(errors='replace')[-1000:]}")


@contextlib.contextmanager
def _server(group: CpuGroup, command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen([*group.prefix, *command], stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        wait_listening(port, process, log)
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def sshd(group: CpuGroup, work: Path) -> Iterator[list[str]]:
    """Yields the client command (``ssh`` with all its options and the host) that reaches root on this machine."""
    home, port = work / "ssh", free_port()
    home.mkdir(mode=0o700)
    try:
        for key in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / key)
        (home / "authorized").write_text((home / "user.pub").read_text())
        (home / "config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {home}/host\nAuthorizedKeysFile {home}/authorized\n"
            "StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            "UsePAM no\nPidFile none\nPrintMotd no\n"
        )
        os.makedirs("/run/sshd", exist_ok=True)  # where sshd's unprivileged part is confined
        program = shutil.which("sshd") or "/usr/sbin/sshd"
        command = [program, "-D", "-e", "-f", str(home / "config")]
        options = [
            "-F", "none", "-i", str(home / "user"), "-p", str(port), "-o", "StrictHostKeyChecking=no",
            "-o", "LogLevel=ERROR", "-o", f"UserKnownHostsFile={home}/known", "-o", "BatchMode=yes",
            "-o", "Compression=no",
        ]  # fmt: skip
        with _server(group, command, port, home / "log"):
            yield ["ssh", *options, "root@127.0.0.1"]
    finally:
        shutil.rmtree(home)


@contextlib.contextmanager
def rsyncd(group: CpuGroup, work: Path, target: Path) -> Iterator[str]:
    """Yields the URL of a module that writes into ``target``."""
    home, port = work / "rsyncd", free_port()
    home.mkdir(mode=0o700)
    try:
        (home / "config").write_text(
            f"address = 127.0.0.1\nport = {port}\nuse chroot = no\nuid = root\ngid = root\nreverse lookup = no\n"
            f"numeric ids = yes\n[replica]\npath = {target}\nread only = no\n"
        )
        command = ["rsync", "--daemon", "--no-detach", f"--config={home}/config", f"--log-file={home}/rsync.log"]
        with _server(group, command, port, home / "log"):
            yield f"rsync://127.0.0.1:{port}/replica/"
    finally:
        shutil.rmtree(home)

"""An sshd on a loopback port, with throw-away keys, that lets this machine's root in."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def why_unavailable() -> str:
    if os.geteuid() != 0:
        return "needs root"
    if not (shutil.which("sshd") or os.path.exists("/usr/sbin/sshd")) or not shutil.which("ssh"):
        return "needs an ssh server and client (Debian: openssh-server openssh-client)"
    return ""


@contextlib.contextmanager
def sshd(home: Path) -> Iterator[int]:
    """Yields the port. ``home`` gets the keys: ``home/user`` is the client's, ``home/config`` its configuration."""
    home.mkdir(mode=0o700)
    port = free_port()
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / key], check=True)
    shutil.copy(home / "user.pub", home / "authorized")
    path = f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    (home / "server").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {home}/host\nAuthorizedKeysFile {home}/authorized\n"
        "StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\nPidFile none\n"
        f"PrintMotd no\nMaxStartups 100\nSetEnv PATH={path}\n"
    )
    (home / "config").write_text(
        f"Host *\n  IdentityFile {home}/user\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
        f"  UserKnownHostsFile {home}/known\n  LogLevel ERROR\n"
    )
    os.makedirs("/run/sshd", exist_ok=True)  # where sshd's unprivileged part is confined
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(home / "server")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"no sshd: {(home / 'log').read_text()[-500:]}")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)

"""Where the agent's control socket is, and who may come in.

Linux: a Unix socket in the state directory; only root and the agent's own user (SO_PEERCRED, unix(7)). Windows (whose
Python has no Unix sockets): a port on the loopback address and a secret, both in a file of the state directory, which
only SYSTEM, administrators and the owner can read; who knows the secret comes in.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import struct
import sys
from pathlib import Path

from livelift.platform.system import is_private, make_private, os

SOCKET = b"control.sock"
PORT = b"control.port"
_SECRET = 32
_GREETING = 5.0
"""Seconds for the secret to arrive: it is the first thing that a client sends."""


class Door:
    """The listening side, from `__init__` to `close`."""

    def __init__(self, directory: bytes) -> None:
        self._directory = directory
        self._secret = b""
        self._unlink()
        if sys.platform == "win32":
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=16)
            self._secret = secrets.token_bytes(_SECRET)
            self._tell(self.listener.getsockname()[1])
            return
        fd, path = unix_address(directory)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.listener.bind(path)
            os.chmod(os.path.join(directory, SOCKET), 0o600)
            self.listener.listen(16)
        except BaseException:
            self.listener.close()
            raise
        finally:
            os.close(fd)

    def _tell(self, port: int) -> None:
        """The file is whole or not there, and private before the secret is in it."""
        path = Path(os.fsdecode(os.path.join(self._directory, PORT)))
        new = path.with_suffix(".new")
        new.touch(0o600)
        make_private(new)
        new.write_text(json.dumps([port, self._secret.hex()]), encoding="ascii")
        os.replace(new, path)

    def admits(self, connection: socket.socket) -> bool:
        """Asked of every connection before anything is read from it."""
        if sys.platform == "win32":
            connection.settimeout(_GREETING)
            try:
                said = _exactly(connection, _SECRET)
            except OSError:
                return False
            connection.settimeout(None)
            return hmac.compare_digest(said, self._secret)
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", raw)
        return uid in (0, os.geteuid())

    def close(self) -> None:
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # never connected: Linux says ENOTCONN but wakes accept(2) all the same
        self.listener.close()

    def forget(self) -> None:
        """Nobody is behind it any more."""
        self._unlink()

    def _unlink(self) -> None:
        try:
            os.unlink(os.path.join(self._directory, PORT if sys.platform == "win32" else SOCKET))
        except FileNotFoundError:
            pass


def unix_address(directory: bytes) -> tuple[int, bytes]:
    """(descriptor to close, socket path through it): sun_path holds 107 bytes only, a state directory's path may be
    longer."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return fd, b"/proc/self/fd/%d/%s" % (fd, SOCKET)


def knock(directory: bytes, patience: float | None) -> socket.socket:
    """A connection to the agent in this state directory. FileNotFoundError: no such directory (or, on Windows, no
    agent); other OSErrors: nobody answers."""
    if sys.platform == "win32":
        with open(os.path.join(directory, PORT), encoding="ascii") as file:
            if not is_private(file.fileno()):
                raise PermissionError(13, "its port file is open to other users")
            port, secret = json.load(file)
        connection = socket.create_connection(("127.0.0.1", int(port)), patience)
        connection.sendall(bytes.fromhex(secret))
        return connection
    fd, path = unix_address(directory)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(patience)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(fd)
    return connection


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            break
        data += more
    return data

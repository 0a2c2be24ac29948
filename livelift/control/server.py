"""The agent's side of the control socket.

One request line ``{"verb": ..., ...}``, any number of progress lines, one last line with ``"done": true`` and either
the result or ``"error"``. Only root and the agent's own user may speak (SO_PEERCRED, unix(7)).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from livelift.errors import LiveliftError

log = logging.getLogger(__name__)

SOCKET = b"control.sock"
Reply = dict[str, Any]
Handler = Callable[[dict[str, Any]], Iterator[Reply]]
MAX_REQUEST = 1 << 20


def address(directory: bytes) -> tuple[int, bytes]:
    """(descriptor to close, socket path through it): sun_path holds 107 bytes only, a state directory's path may be
    longer."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return fd, b"/proc/self/fd/%d/%s" % (fd, SOCKET)


class _HangUp(Exception):
    """The operator's terminal went away."""


class ControlServer:
    """Serves ``handlers`` by verb until `close`. A handler yields progress dicts; its last one is the result."""

    def __init__(self, directory: bytes, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers
        self._directory = directory
        try:
            os.unlink(os.path.join(directory, SOCKET))
        except FileNotFoundError:
            pass
        fd, path = address(directory)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(path)
            os.chmod(os.path.join(directory, SOCKET), 0o600)
            self._listener.listen(16)
        except BaseException:
            self._listener.close()
            raise
        finally:
            os.close(fd)
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # never connected: Linux says ENOTCONN but wakes accept(2) all the same
        self._listener.close()
        self._thread.join(2)
        try:
            os.unlink(os.path.join(self._directory, SOCKET))
        except FileNotFoundError:
            pass

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="control-call", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            _, uid, _ = struct.unpack("3i", raw)
            if uid not in (0, os.geteuid()):
                return
            try:
                with connection.makefile("rwb") as stream:
                    self._answer(stream)
            except (_HangUp, OSError):
                return

    def _answer(self, stream: Any) -> None:
        def say(reply: Reply) -> None:
            line = json.dumps(reply).encode() + b"\n"
            try:
                stream.write(line)
                stream.flush()
            except OSError as error:
                raise _HangUp from error

        try:
            request = json.loads(stream.readline(MAX_REQUEST))
        except ValueError:
            request = None
        if not isinstance(request, dict):
            say({"done": True, "error": "usage", "text": "the request is not a JSON object", "exit": 2})
            return
        try:
            handler = self._handlers.get(request.get("verb", ""))
            if handler is None:
                say({"done": True, "error": "usage", "text": f"no such verb here: {request.get('verb')}", "exit": 2})
                return
            last: Reply = {}
            for last in handler(request):
                if not last.get("done"):
                    say(last)
            say({**last, "done": True})
        except _HangUp:
            raise
        except LiveliftError as error:
            say(
                {"done": True, "error": error.code, "text": str(error), "remedy": error.remedy, "exit": error.exit_code}
            )
        except Exception as error:
            log.exception("control")
            say({"done": True, "error": "failed", "text": repr(error), "exit": 1})

"""The agent's side of the control socket.

One request line ``{"verb": ..., ...}``, any number of progress lines, one last line with ``"done": true`` and either
the result or ``"error"``. `door` says who may speak.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from livelift.control.door import Door
from livelift.errors import LiveliftError

log = logging.getLogger(__name__)

Reply = dict[str, Any]
Handler = Callable[[dict[str, Any]], Iterator[Reply]]
MAX_REQUEST = 1 << 20


class _HangUp(Exception):
    """The operator's terminal went away."""


class ControlServer:
    """Serves ``handlers`` by verb until `close`. A handler yields progress dicts; its last one is the result."""

    def __init__(self, directory: bytes, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers
        self._door = Door(directory)
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._door.close()
        self._thread.join(2)
        self._door.forget()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._door.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="control-call", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            if not self._door.admits(connection):
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

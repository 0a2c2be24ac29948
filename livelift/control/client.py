"""The operator's side of the control socket."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from io import BufferedRWPair
from typing import Any

from livelift.control.door import knock
from livelift.errors import LiveliftError, UnreachableError


class RemoteFailure(LiveliftError):
    """{0}"""

    def __init__(self, text: str, code: str, exit_code: int, reply: dict[str, Any]) -> None:
        super().__init__(text)
        self.code = code  # type: ignore[misc]
        self.exit_code = exit_code  # type: ignore[misc]
        self.reply = reply
        self.remedy = str(reply.get("remedy", ""))

    def __str__(self) -> str:
        return str(self.args[0])  # the agent has put the remedy into the text already


def call(directory: bytes, verb: str, patience: float | None = None, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Every line that the agent in this state directory answers; the last has ``done``. UnreachableError: no agent
    there."""
    remedy = "is it running? start it with: livelift source|target --state DIR"
    try:
        connection = knock(directory, patience)
    except FileNotFoundError as error:
        if os.path.isdir(directory):
            raise UnreachableError(f"the agent in {os.fsdecode(directory)}: {error.strerror}", remedy=remedy) from error
        raise UnreachableError(f"an agent: {os.fsdecode(directory)} does not exist", remedy=remedy) from error
    except OSError as error:
        raise UnreachableError(f"the agent in {os.fsdecode(directory)}: {error.strerror}", remedy=remedy) from error
    with connection, connection.makefile("rwb") as stream:
        for line in _lines(stream, json.dumps({"verb": verb, **arguments}).encode()):
            reply: dict[str, Any] = json.loads(line)
            if reply.get("error"):
                raise RemoteFailure(reply.get("text", ""), reply["error"], int(reply.get("exit", 1)), reply)
            yield reply
            if reply.get("done"):
                return
    raise UnreachableError(f"the agent in {os.fsdecode(directory)}: it went away in the middle of the answer")


def _lines(stream: BufferedRWPair, request: bytes) -> Iterator[bytes]:
    """Whole lines of the answer until it breaks off."""
    try:
        stream.write(request + b"\n")
        stream.flush()
        for line in stream:
            if not line.endswith(b"\n"):
                return
            yield line
    except TimeoutError as error:
        raise UnreachableError("the agent: it did not answer in time") from error
    except OSError:  # reset
        return


def ask(directory: bytes, verb: str, patience: float | None = None, **arguments: Any) -> dict[str, Any]:
    """Only the last line."""
    return list(call(directory, verb, patience, **arguments))[-1]

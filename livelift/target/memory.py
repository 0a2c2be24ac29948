"""What the target of a server job remembers between its steps: ``stage.json`` in its state directory."""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec

from livelift.errors import StateError, StoreError
from livelift.model.facts import ServerFacts

FILE: Final = "stage.json"
LAYERS: Final = "layers"
IN_PLACE: Final = "in-place"


class Watched(msgspec.Struct, frozen=True, array_like=True):
    """A file of the replica that a program of the adaptation has used. ``stamp``: inode, size, mtime, ctime; ``digest``
    of its content (BLAKE3, hex), or of a link's text; empty where there was nothing."""

    stamp: tuple[int, int, int, int]
    digest: str


class Adapted(msgspec.Struct, frozen=True):
    """An adaptation that was made. ``mode``: layers, or in-place (then it is made behind the fence). ``edits``: id to
    digest of the change. ``watched``: by path. ``moves``: addresses of the source that go to the target, with the
    source's interface. ``seconds``: it took. ``made``: when, seconds since 1970. ``code``: which Livelift made it
    (`livelift.model.code`)."""

    mode: str
    edits: dict[str, str]
    watched: dict[str, Watched]
    moves: tuple[tuple[str, str], ...]
    findings: tuple[dict[str, str], ...]
    seconds: float
    made: float
    code: str = ""


class Stage(msgspec.Struct, frozen=True):
    """``policy``, ``rules``: the operator's files, as text (TOML). ``installed``: the take-over is in both boot
    directories. ``attempt``: armed for that, ``going``: gone with it; hex names that the source gives. ``used``: what
    is settled may have been a running system since. ``committed``: the new system is final."""

    source: ServerFacts | None = None
    target: ServerFacts | None = None
    policy: str = ""
    rules: str = ""
    ignored: tuple[str, ...] = ()
    adapted: Adapted | None = None
    settled: bool = False
    installed: bool = False
    attempt: str = ""
    going: str = ""
    used: bool = False
    committed: bool = False


class Memory:
    """The file and its content."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, FILE)
        try:
            with open(self._path, "rb") as file:
                self.stage = msgspec.json.decode(file.read(), type=Stage)
        except FileNotFoundError:
            self.stage = Stage()
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(
                f"{self._path}: {error}", remedy="delete it; the next adapt makes everything in it again"
            ) from error

    def change(self, **fields: Any) -> None:
        """Durable on return, whole or not at all."""
        stage = msgspec.structs.replace(self.stage, **fields)
        fd = os.open(f"{self._path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(stage))
            file.flush()
            os.fsync(fd)
        os.replace(f"{self._path}.new", self._path)
        directory = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.stage = stage

    def ignore(self, options: dict[str, Any]) -> tuple[str, ...]:
        """``ignore`` of a verb's options: ids of findings that the operator goes on with, kept from now on. All that
        are kept."""
        more = tuple(str(id) for id in options.get("ignore") or ())
        if set(more) - set(self.stage.ignored):
            self.change(ignored=tuple(dict.fromkeys([*self.stage.ignored, *more])))
        return self.stage.ignored

    def facts(self) -> tuple[ServerFacts, ServerFacts]:
        """Of source and target. StateError: the source has not told its own yet."""
        if self.stage.source is None or self.stage.target is None:
            raise StateError("the source has not sent its facts yet", remedy="wait until it is connected and following")
        return self.stage.source, self.stage.target

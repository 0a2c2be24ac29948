"""What the source remembers of a hand-over, across its own restarts: ``handover.json`` in the state directory."""

from __future__ import annotations

import msgspec

from livelift.errors import StoreError
from livelift.platform.system import os

FILE = b"handover.json"


class Handover(msgspec.Struct, frozen=True):
    """Times are seconds since 1970. ``attempt``: the word for it between the two agents. ``seconds``: of each step
    until the hand-over. ``fenced``: when the workload stopped. ``silent``, ``heard``: when the target went away, and
    its first word afterwards; ``ended`` with ``outcome``: served or back, and ``reason``. ``boot``: what the target
    says of its own boot, in seconds. ``report``: of the cut."""

    attempt: str
    label: str
    fenced: float
    handed: float
    seconds: dict[str, float]
    report: dict[str, object]
    silent: float = 0.0
    heard: float = 0.0
    ended: float = 0.0
    outcome: str = ""
    reason: str = ""
    boot: dict[str, float] = {}

    def split(self) -> dict[str, float]:
        """Seconds of the outage's parts, in order, as far as it has come. The target's shutdown ends when it falls
        silent; its boot (firmware, take-over, kernel, user space) with its first word."""
        parts = {name: took for name, took in self.seconds.items() if name not in ("prepare", "ready")}
        marks = (("shutdown", self.handed, self.silent), ("boot", self.silent, self.heard))
        parts |= {name: round(end - begin, 3) for name, begin, end in marks if begin and end}
        if self.ended:
            parts["confirm"] = round(self.ended - (self.heard or self.handed), 3)
        return parts

    @property
    def outage(self) -> float | None:
        """From the fence to the end, whichever it was."""
        return round(self.ended - self.fenced, 3) if self.ended else None


def load(directory: bytes) -> Handover | None:
    """None: none was begun. StoreError: the file is damaged."""
    path = os.path.join(directory, FILE)
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Handover)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreError(
            f"{os.fsdecode(path)}: {error}",
            remedy="see which system runs on the target; if the old one does: livelift rollback --force",
        ) from error


def save(directory: bytes, handover: Handover) -> None:
    """Whole or not at all, and durable."""
    path = os.path.join(directory, FILE)
    with open(path + b".new", "wb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write(msgspec.json.encode(handover))
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + b".new", path)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

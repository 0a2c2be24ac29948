"""The target agent: one job, one source, one replica."""

from __future__ import annotations

import datetime
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from livelift.checks.data import check_overlap
from livelift.checks.findings import Findings
from livelift.control.server import ControlServer
from livelift.errors import LiveliftError, RetryError, StateError, UsageError
from livelift.hooks import hooks
from livelift.identity import ca
from livelift.identity.pairing import Desk
from livelift.identity.trust import Trust, issue
from livelift.model.job import Map
from livelift.protocol.messages import (
    CutAsk,
    CutDone,
    Fault,
    Hello,
    Message,
    Renew,
    Renewed,
    StageAsk,
    VerifyAsk,
    Welcome,
)
from livelift.replay.replayer import Replayer
from livelift.target.copies import Copies
from livelift.target.probe import occupied, replica_facts
from livelift.target.receiver import Receiver
from livelift.target.server import ServerTarget
from livelift.target.stage import Stage, Verb
from livelift.target.verifying import Answerer
from livelift.transport.channel import Channel
from livelift.transport.server import Listener

log = logging.getLogger(__name__)

SERVER = "server"
"""Kind of a job that moves a whole system; the other one is "data"."""


class TargetAgent:
    """``directory``: state (job, identity, directory map). ``maps`` are given when the job is made, and kept in it, as
    ``server``: a whole system is to move here (docs/internals/server-job.md)."""

    def __init__(
        self,
        directory: bytes,
        maps: tuple[Map, ...] = (),
        new_code: bool = False,
        server: bool = False,
        hooks_at: str = hooks.DEFAULT,
    ) -> None:
        self._directory = directory
        self._path = Path(os.fsdecode(directory))
        check_new(directory, maps)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._stop = threading.Event()
        self._job = self._load_job(maps, server)
        self._identity = self._path / "identity"
        fresh = not (self._identity / ca.CA_KEY).exists()
        if fresh:
            authority = ca.create_authority(self._job["id"], self._now())
            authority.save(self._identity)
            issue(authority, "target", self._identity, self._now())
        self._authority = ca.load_authority(self._identity, self._job["id"])
        self.desk: Desk | None = None
        if new_code or not self._job.get("paired"):
            told = self.maps if self._job.get("kind") == SERVER else ()
            self.desk = Desk(self._authority, time.monotonic, self._now, maps=told)
        self._trust = Trust(self._identity, self._now, self.desk)
        self.replayer: Replayer | None = None
        self._receiver: Receiver | None = None
        self._answerer: Answerer | None = None
        self.server: ServerTarget | None = None
        if self._job.get("kind") == SERVER:
            self.server = ServerTarget(str(self._path), self.maps, lambda: self._cut_path.exists())
        hook = partial(hooks.answer, hooks.Hooks(hooks_at, self.job_id, "target"))
        self.copies = Copies(self.maps)
        verbs: dict[str, Verb] = {"status": self._stage_status, "hook": hook, **self.copies.verbs()}
        self.stage = Stage({**verbs, **(self.server.verbs() if self.server else {})}, self._afterwards)
        self._busy = threading.Lock()
        self._cuts: list[dict[str, Any]] = []
        self._cut_path = self._path / "cut.json"
        if self._cut_path.exists():  # the replica serves by now: nothing is applied before the source says "rollback"
            self._cuts.append(json.loads(self._cut_path.read_text()))
        self._listener: Listener | None = None
        self._control: ControlServer | None = None

    @staticmethod
    def _now() -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)

    # -- the job -----------------------------------------------------------------------------------------------------

    def _load_job(self, maps: tuple[Map, ...], server: bool) -> dict[str, Any]:
        path = self._path / "job.json"
        if path.exists():
            job: dict[str, Any] = json.loads(path.read_text())
            kept = tuple(Map(os.fsencode(s), os.fsencode(t)) for s, t in job["maps"])
            if maps and [(m.source, m.target) for m in maps] != [(m.source, m.target) for m in kept]:
                raise UsageError(
                    "this state directory belongs to a job with another directory mapping",
                    remedy="leave --map out to go on with that job, or give another --state",
                )
            return job
        job = {
            "id": secrets.token_hex(8),
            "paired": False,
            "kind": SERVER if server else "data",
            "maps": [[os.fsdecode(m.source), os.fsdecode(m.target)] for m in maps],
            "occupied": [os.fsdecode(path) for path in occupied(maps)],
        }
        _save(path, job)
        return job

    @property
    def job_id(self) -> str:
        return str(self._job["id"])

    @property
    def maps(self) -> tuple[Map, ...]:
        return tuple(Map(os.fsencode(s), os.fsencode(t)) for s, t in self._job["maps"])

    @property
    def _occupied(self) -> list[bytes]:
        return [os.fsencode(path) for path in self._job.get("occupied", ())]

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self, host: str, port: int) -> int:
        """Open the replica, the control socket and the listener; the port."""
        if self.server is None or not self.server.committed:
            check_places(self.maps)
        if not self._cut_path.exists():
            self.replayer = Replayer(self._directory, list(self.maps))
        self._answerer = Answerer(self._directory, self.maps)
        self._control = ControlServer(
            self._directory,
            {"status": self._status, "stop": self._quit, "finish": self._finish, "stage": self._ask_stage},
        )
        self._listener = Listener(host, port, self._trust, self._talk)
        if self.server is not None:
            self.server.begin(self._stop)
        return self._listener.address[1]

    def wait(self) -> None:
        while not self._stop.wait(0.5):
            if self._trust.is_due:  # the target is its own authority
                csr = self._trust.begin_renewal()
                self._trust.finish_renewal(self._authority.sign(csr, "target", self._now()))

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self._stop.set()
        if self._listener is not None:
            self._listener.close()
        with self._busy:  # the conversation ends first: it takes the last checkpoint
            if self.replayer is not None:
                self.replayer.close()
                self.replayer = None
        if self._answerer is not None:
            self._answerer.close()
        if self._control is not None:
            self._control.close()

    # -- one conversation --------------------------------------------------------------------------------------------

    def _talk(self, channel: Channel) -> None:
        """Called by the listener, in a thread of its own, for every authenticated channel."""
        if not self._busy.acquire(timeout=10):
            _refuse(
                channel,
                RetryError(
                    "another connection of this job is still open",
                    remedy="it ends by itself within 20 s; the source tries again",
                ),
            )
            return
        try:
            if self._stop.is_set():
                return
            if not self._job.get("paired"):
                self._job["paired"] = True
                _save(self._path / "job.json", self._job)
            self._converse(channel)
        except LiveliftError as error:
            log.error("%s", error)
            _refuse(channel, error)
        finally:
            self._receiver = None
            self._busy.release()
            channel.close("")

    def _converse(self, channel: Channel) -> None:
        hello = self._greeting(channel)
        cut = self._standing_cut(hello)
        if self.replayer is not None and self.replayer.broken:
            self.replayer.close()
            self.replayer = None
        if cut is None and self.replayer is None:  # after a cut that was rolled back
            self.replayer = Replayer(self._directory, list(self.maps))
        assert self._answerer is not None
        self._answerer.configure(hello.maps)

        def answer(message: Message) -> Message | None:
            if isinstance(message, StageAsk):
                self.stage.handle(message, channel.send)
                return None
            return self._answer(message)

        marks = self.copies.reached
        self._receiver = receiver = Receiver(channel, self.replayer, cut or 0, self.maps, answer, self._cut, marks)
        facts = replica_facts(self.maps, self._occupied)
        channel.send(Welcome(receiver.durable_lsn, receiver.applied_lsn, time.time_ns(), facts))
        receiver.run(self._stop)

    def _standing_cut(self, hello: Hello) -> int | None:
        """The durable LSN of a cut that stands, else None. A source that knows of no cut is refused: it would overwrite
        what the service has written here since."""
        if not self._cut_path.exists():
            return None
        if "rollback" in hello.features:
            if self.server is not None:  # before anything is applied to the replica again
                self.stage.alone("rollback", self.server.undo)
            self._cut_path.unlink()
            return None
        if "cut" in hello.features:
            return int(json.loads(self._cut_path.read_text())["durable"])
        raise StateError(
            "this job has been cut over, the replica is in use",
            remedy="livelift rollback on the source goes back to it; for a new job use new state directories",
        )

    def _greeting(self, channel: Channel) -> Hello:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            hello = channel.receive(1.0)
            if hello is None:
                continue
            if not isinstance(hello, Hello):
                raise StateError(f"the source began with {type(hello).__name__}, not with a greeting")
            if hello.job != self._job["id"]:
                raise StateError(f"the source speaks of job {hello.job}, this is {self._job['id']}")
            if not _same_maps(hello.maps, self.maps):
                raise UsageError(
                    "source and target were started with different directory mappings",
                    remedy="start again with the same --map lines on both: livelift remove on the source, "
                    "livelift target --new-code, livelift source --pair CODE",
                )
            return hello
        raise StateError("the source did not greet within 30 s")

    def _answer(self, message: Message) -> Message | None:
        if isinstance(message, VerifyAsk):
            assert self._answerer is not None
            return self._answerer.answer(message)
        if isinstance(message, Renew):
            return Renewed(self._authority.sign(message.csr, "source", self._now()))
        if isinstance(message, Fault):
            log.error("source: %s", message.text)
        return None

    def _cut(self, ask: CutAsk) -> CutDone:
        assert self.replayer is not None
        cut = {"lsn": ask.lsn, "label": ask.label, "time": time.time(), "durable": self.replayer.durable_lsn}
        self._end_replay()
        _save(self._cut_path, cut)
        self._cuts.append(cut)
        return CutDone(ask.lsn, ask.label, b"")

    def _end_replay(self) -> None:
        """Take Livelift's own directory out of the replica; from here on it is only what the source had."""
        if self.replayer is not None:
            self.replayer.finish()
            self.replayer.close()
            self.replayer = None

    # -- control -----------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        receiver, replayer = self._receiver, self.replayer
        out: dict[str, Any] = {
            "role": "target",
            "job": self._job["id"],
            "connected": receiver is not None,
            "paired": bool(self._job.get("paired")),
            "maps": self._job["maps"],
            "cuts": self._cuts,
        }
        if replayer is not None:
            out |= {
                "applied_lsn": replayer.applied_lsn,
                "durable_lsn": replayer.durable_lsn,
                "files": replayer.counters.objects,
                "bytes": replayer.counters.bytes,
                "problems": [p.detail for p in replayer.problems()],
            }
        if self.server is not None:
            out["server"] = {**self.server.status(), "doing": self.stage.doing}
        if receiver is not None:
            out |= {"stalled": receiver.stalled, "resyncs": receiver.resyncs, "received_bytes": receiver.bytes}
        return out

    def _afterwards(self) -> None:
        """The answer to a step was sent: what that step has left to be done then."""
        handover = self.server.handover if self.server is not None else None
        if handover is not None and handover.after is not None:
            act, handover.after = handover.after, None
            act()

    def _stage_status(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"doing": self.stage.doing, **(self.server.status() if self.server else {})}

    def _ask_stage(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """A step asked for at the control socket: ``step`` and its ``options``, as the source asks."""
        yield self.stage.do(str(request.get("step")), request.get("options") or {})

    def _status(self, _: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield self.status()

    def _finish(self, _: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self._end_replay()
        yield {"finished": True}

    def _quit(self, _: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self._stop.set()
        yield {"stopping": True}


def check_new(directory: bytes, maps: tuple[Map, ...]) -> None:
    """Whether a job with these maps may begin, or go on, in this state directory: asked before anything is made."""
    if os.path.exists(os.path.join(directory, b"source.json")):
        raise UsageError(
            f"{os.fsdecode(directory)} is the state directory of a source agent", remedy="give another --state"
        )
    if os.path.exists(os.path.join(directory, b"job.json")):
        return
    if not maps:
        raise UsageError("no directory mapping", remedy="say what goes where: --map /srv=/srv")
    check_places(maps)


def check_places(maps: tuple[Map, ...]) -> None:
    """UsageError: a target directory is not there. PreflightError: two of them overlap."""
    for m in maps:
        if not os.path.isdir(m.target):
            raise UsageError(
                f"{os.fsdecode(m.target)} is not a directory on this machine",
                remedy="make it on the file system that is to hold the data (is that mounted?), or correct --map",
            )
    Findings(
        [
            *check_overlap("source", [m.source for m in maps], nested=True),
            *check_overlap("target", [os.path.realpath(m.target) for m in maps]),
        ]
    ).raise_inhibitors()


def _same_maps(one: tuple[Map, ...], two: tuple[Map, ...]) -> bool:
    return [(m.source, m.target) for m in one] == [(m.source, m.target) for m in two]


def _refuse(channel: Channel, error: LiveliftError) -> None:
    try:
        channel.send(Fault(error.code, str(error.args[0]) if error.args else str(error), error.remedy))
        time.sleep(0.2)  # let it go out before the sockets close
    except LiveliftError:
        return


def _save(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all: temporary file, fsync, rename, fsync of the directory."""
    temporary = path.with_suffix(".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(value).encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

"""What the source agent is made of beyond its own room: the cutover and its fence, by what the job is and what the
operator said."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import livelift
from livelift.cutover import taken
from livelift.cutover.cutover import Cutover
from livelift.cutover.fence import Fence, FreezeFence, OpenFence
from livelift.cutover.hooking import Hooking
from livelift.cutover.server import ServerCutover
from livelift.cutover.server_fence import ServerFence
from livelift.hooks.hooks import Hooks
from livelift.platform.linux.cgroups import cgroup_of_unit
from livelift.source.config import SourceConfig
from livelift.source.cut_note import CutNote, lets_go
from livelift.source.cutting import Cutting
from livelift.source.handover import Handover

TIMEOUT = 600.0
SERVER_TIMEOUT = 3600.0
"""Seconds for a cutover: that of a whole server may have to adapt again first, with the source serving."""
FENCE_TIMEOUT = 300.0


def make_cutover(cutting: Cutting, request: dict[str, Any]) -> Cutover:
    """``request``: of the verb; empty for a cutover that only takes down what another process has put up."""
    agent, config = cutting.agent, cutting.agent.config
    hook = Hooking(Hooks(config.hooks, config.job, "source"), lambda: str(agent.state), cutting.ask)
    label = str(request.get("label") or "cutover")
    if not config.server:
        timeout = float(request.get("timeout") or TIMEOUT)
        return Cutover(cutting, _data_fence(config, request), label, timeout, hook=hook)
    return ServerCutover(
        cutting,
        _server_fence(config, request),
        label,
        float(request.get("timeout") or SERVER_TIMEOUT),
        float(request.get("fence_timeout") or FENCE_TIMEOUT),
        Handover,
        [os.fsdecode(line.source) for line in config.maps],
        hook=hook,
    )


def _named(config: SourceConfig, request: dict[str, Any]) -> tuple[bytes, ...]:
    """What is said at the cutover replaces what was said when the job began."""
    named = [os.fsencode(group) for group in request.get("fence_cgroup") or ()]
    named += [cgroup_of_unit(str(unit)) for unit in request.get("fence_unit") or ()]
    return tuple(named) or config.fence


def _data_fence(config: SourceConfig, request: dict[str, Any]) -> Fence:
    groups = _named(config, request)
    stopping = list(request.get("stop_unit") or config.stop)
    if stopping:
        return ServerFence(config.directory, lets_go(False), groups, stopping, only_named=True)
    return FreezeFence(config.directory, groups, lets_go(False)) if groups else OpenFence()


def _server_fence(config: SourceConfig, request: dict[str, Any]) -> ServerFence:
    command, environment = _agent_command(config)
    return ServerFence(
        config.directory,
        lets_go(True),
        _named(config, request),
        list(request.get("stop_unit") or config.stop),
        str(request.get("operator") or ""),
        command,
        environment,
        list(request.get("keep_unit") or ()),
    )


def _agent_command(config: SourceConfig) -> tuple[list[str], dict[str, str]]:
    """How the source agent is started again, with nothing but its state directory, and in which environment."""
    from livelift.bootstrap.front import CACHE, FILE  # here: it needs Linux, and this module is loaded on Windows too

    words = ["source", "--state", os.fsdecode(config.directory)]
    if file := os.environ.get(FILE):
        kept = {name: os.environ[name] for name in (CACHE, "LIVELIFT_PYTHON") if name in os.environ}
        return [file, *words], kept
    home = os.path.dirname(os.path.dirname(os.path.abspath(livelift.__file__)))
    return [sys.executable, "-m", "livelift", *words], {"PYTHONPATH": os.pathsep.join([home, *filter(None, sys.path)])}


class Whereabouts:
    """Where to look for the target, by turns: at the address that the job has, and behind a hand-over also at those
    that have moved to it. A name that was resolved once is remembered: the name server may be behind the fence."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._known = ""
        self._turn = 0

    def next(self) -> str:
        self._turn += 1
        candidates = [self._resolved(), *self._moved()]
        return candidates[self._turn % len(candidates)] if len(candidates) > 1 else candidates[0]

    def _resolved(self) -> str:
        config = self._config
        try:
            self._known = str(socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][4][0])
        except OSError:
            return self._known or config.host
        return config.host

    def _moved(self) -> list[str]:
        if not self._config.server or not CutNote(self._config.directory, True).stands:
            return []
        found = taken.load(self._config.directory)
        return [a.partition("/")[0] for held in (found.addresses if found else ()) for a in held.moves]

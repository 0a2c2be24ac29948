"""Verification from the target's side: it answers what the source asks, and warms its digest cache when told to."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import msgspec

from livelift.errors import LiveliftError
from livelift.model.job import Map
from livelift.protocol.messages import VerifyAnswer, VerifyAsk
from livelift.verify import pieces
from livelift.verify.answer import Answerer as Dialogue
from livelift.verify.cache import DigestCache
from livelift.verify.messages import check_path
from livelift.verify.verifier import TreeVerifier
from livelift.walk import ntfs_target
from livelift.walk.attributes import attributes_at
from livelift.walk.ignore import IgnoreRules, Portable

log = logging.getLogger(__name__)

ROLL_SECONDS = 0.15
NTFS = b"ntfs"
"""Kind of a question, and content of a rolling one: this replica is to be read as ntfs-3g's."""


class Answerer:
    """One at a time: called by the receiving thread only."""

    def __init__(self, directory: bytes, maps: Sequence[Map]) -> None:
        self._maps = maps
        self._directory = directory
        self._attributes_at = attributes_at
        self._cache = DigestCache(os.path.join(directory, b"digests.sqlite"))
        self._rules = IgnoreRules(maps)
        self._verifier: TreeVerifier | None = None
        self._dialogue: Dialogue | None = None

    def configure(self, maps: Sequence[Map]) -> None:
        """The source's maps, with its exclusions."""
        self._close()
        self._rules = IgnoreRules(maps)
        self._open()

    def _open(self) -> None:
        roots = [(number, m.target) for number, m in enumerate(self._maps)]
        self._verifier = TreeVerifier(roots, self._attributes_at, self._cache, self._scope, threads=4)
        self._dialogue = Dialogue(self._verifier)

    def _as_ntfs(self) -> None:
        """With a cache of its own: the other one holds the rows of another reading."""
        if self._attributes_at is not ntfs_target.attributes_at:
            self.close()
            self._attributes_at = ntfs_target.attributes_at
            self._cache = DigestCache(os.path.join(self._directory, b"digests-ntfs.sqlite"))
            self._open()

    def _scope(self, number: int, path: bytes) -> int:
        return self._rules.scope_of(number, path)

    def answer(self, ask: VerifyAsk) -> VerifyAnswer:
        """Trouble is an answer of kind ``error``: the source says it."""
        try:
            return VerifyAnswer(ask.id, ask.kind, self._reply(ask))
        except (LiveliftError, OSError, msgspec.DecodeError) as error:
            log.exception("verification")
            return VerifyAnswer(ask.id, b"error", str(error).encode(errors="replace"))

    def _reply(self, ask: VerifyAsk) -> bytes:
        if NTFS in (ask.kind, ask.payload):
            self._as_ntfs()
        assert self._verifier is not None and self._dialogue is not None
        if ask.kind == NTFS:
            return b""
        if ask.kind == b"dialogue":
            return self._dialogue.answer(ask.payload)
        if ask.kind == b"rules":
            self._rules.learn(msgspec.msgpack.decode(ask.payload, type=Portable))
            return b""
        if ask.kind == pieces.KIND:
            asked = msgspec.msgpack.decode(ask.payload, type=pieces.Question)
            check_path(asked.path)
            return msgspec.msgpack.encode(self._verifier.pieces(asked.map, asked.path, asked.piece))
        return msgspec.msgpack.encode(self._verifier.step(ROLL_SECONDS))

    def _close(self) -> None:
        if self._verifier is not None:
            self._verifier.close()
            self._verifier = None

    def close(self) -> None:
        self._close()
        self._cache.close()

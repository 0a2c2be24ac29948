"""What the tests of verify/ share: a verifier over directories, and the differences of two trees, asked over the
dialogue."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livelift.verify.answer import Answerer
from livelift.verify.cache import DigestCache
from livelift.verify.compare import Difference
from livelift.verify.exchange import Asker, Outcome, ask_all
from livelift.verify.verifier import TreeVerifier
from livelift.walk.attributes import attributes_at


@contextmanager
def verifier(root: Path | bytes, cache: DigestCache | None = None, **options: object) -> Iterator[TreeVerifier]:
    own = DigestCache() if cache is None else cache
    try:
        with TreeVerifier([(0, os.fsencode(root))], attributes_at, own, **options) as made:  # type: ignore[arg-type]
            yield made
    finally:
        if cache is None:
            own.close()


def ask(source: TreeVerifier, target: TreeVerifier, fraction: float = 1.0) -> tuple[list[Difference], Outcome]:
    """A whole verification over the dialogue."""
    key = bytes(range(32))
    source.begin(fraction, key)
    asker = Asker(source.everything(), source.links, source.maps, fraction, key)
    found = ask_all(asker, Answerer(target).answer)
    assert asker.outcome is not None
    return found, asker.outcome


def differences(source: Path | bytes, target: Path | bytes, **options: object) -> list[Difference]:
    with verifier(source, **options) as one, verifier(target, **options) as other:
        found, outcome = ask(one, other)
        assert bool(found) == (outcome.source_tree != outcome.target_tree)
        return found


def fields(found: list[Difference]) -> set[tuple[bytes, str]]:
    return {(difference.path, difference.field) for difference in found}

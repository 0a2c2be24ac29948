"""What the verification leaves out, told alike on both sides: by path below a map's root."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from livelift.model.job import Map
from livelift.walk.scope import Scope

FULL, SKIP, BARE = 0, 1, 2
"""As `livelift.verify.scan.Scope`: compare; not there for the comparison; only its existence and type."""

OURS = b".livelift"
"""The replica's own directory at a map's root on the target, until the cut."""

Portable = list[tuple[int, bytes, int]]


class IgnoreRules:
    """``bare``: mounts that do not take part (empty directories on the target). ``own``: the agents' directories."""

    def __init__(
        self, maps: Sequence[Map], bare: Iterable[tuple[int, bytes]] = (), own: Iterable[tuple[int, bytes]] = ()
    ) -> None:
        self._scope = Scope(maps)
        self._plain = not any(m.exclude for m in maps)
        self._listed: dict[tuple[int, bytes], int] = {(number, OURS): SKIP for number in range(len(maps))}
        self._listed.update((key, BARE) for key in bare)
        self._listed.update((key, SKIP) for key in own)

    def scope_of(self, number: int, path: bytes) -> int:
        found = self._listed.get((number, path))
        if found is not None:
            return found
        if (
            self._plain
            or self._scope.allows(number, path, is_dir=False)
            or self._scope.allows(number, path, is_dir=True)
        ):
            return FULL
        return SKIP

    def portable(self) -> Portable:
        """What the other side cannot know by itself."""
        return [(number, path, scope) for (number, path), scope in self._listed.items()]

    def learn(self, listed: Portable) -> None:
        self._listed.update({(number, path): scope for number, path, scope in listed})

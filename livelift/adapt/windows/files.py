"""A listing of a Windows tree, as the caller read it: pure facts about files, found without regard to case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from livelift.registry.tree import fold


class FileFact(msgspec.Struct, frozen=True):
    """``path``: as spelled on the disk, relative to the volume's root, with "/". ``size`` in bytes. ``digest``: of the
    content, comparable between both machines, "" where the caller did not read it. ``version``: FileVersion of a PE
    file's resources, "" where unknown."""

    path: str
    size: int = 0
    digest: str = ""
    version: str = ""


class FileView:
    """``complete``: directories (relative, "/") below which every file is listed. About other places nothing is known,
    and a rule must not take a file's absence from the listing for its absence from the disk."""

    def __init__(self, files: Iterable[FileFact] = (), complete: Iterable[str] = ()) -> None:
        self._files = {fold(file.path): file for file in files}
        self._complete = tuple(fold(path.strip("/")) for path in complete)
        self._below: dict[str, dict[str, list[FileFact]]] = {}

    @property
    def complete(self) -> tuple[str, ...]:
        """In upper case."""
        return self._complete

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[FileFact]:
        return iter(self._files.values())

    def get(self, path: str) -> FileFact | None:
        return self._files.get(fold(path))

    def knows(self, path: str) -> bool:
        """Whether the absence of this path from the listing says anything."""
        folded = fold(path)
        return any(not top or folded == top or folded.startswith(top + "/") for top in self._complete)

    def directory(self, path: str) -> dict[str, FileFact]:
        """The files right below a directory by their folded names."""
        prefix = fold(path) + "/"
        return {
            folded[len(prefix) :]: file
            for folded, file in self._files.items()
            if folded.startswith(prefix) and "/" not in folded[len(prefix) :]
        }

    def subtrees(self, path: str) -> dict[str, list[FileFact]]:
        """The directories right below a directory by their folded names, each with all files in it at any depth."""
        found = self._below.get(fold(path))
        if found is None:
            found = self._below[fold(path)] = {}
            prefix = fold(path) + "/"
            for folded, file in self._files.items():
                name, slash, _ = folded[len(prefix) :].partition("/")
                if slash and folded.startswith(prefix):
                    found.setdefault(name, []).append(file)
        return found


def same_content(one: FileFact, two: FileFact) -> bool:
    """False also where it cannot be told: sizes equal and a digest missing."""
    return one.size == two.size and one.digest != "" and one.digest == two.digest

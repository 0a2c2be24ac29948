"""Where the source agent touches the system it runs on: one import for each part, Linux or Windows.

Everything above it is one text for both. What the names promise is said where they come from.
"""

from __future__ import annotations

import sys

from livelift.model.problem import Problem

if sys.platform == "win32":
    from livelift.capture.windows_choose import Choice, choose
    from livelift.platform.windows.dll import under_wine
    from livelift.source.windows_volumes import find_volumes
    from livelift.walk.windows import attributes_at, attributes_of_fd, list_directory, lost_parts, store_as_ntfs
    from livelift.walk.windows_content import Small, read_small
    from livelift.walk.windows_locked import read_locked

    OPEN_DIRECTORIES = 0 if under_wine() else 400
    """Wine reaches what is in an open directory by the path that it was opened with, renamed since or not."""
else:
    from livelift.capture.choose import Choice, choose
    from livelift.source.volumes import find_volumes
    from livelift.walk.attributes import attributes_at, attributes_of_fd
    from livelift.walk.content import Small, read_small
    from livelift.walk.listing import list_directory
    from livelift.walk.locked import read_locked

    OPEN_DIRECTORIES = 400

    def lost_parts() -> list[Problem]:
        """What of an object cannot travel, beside its content. On Linux that is trouble with the object itself."""
        return []

    def store_as_ntfs(yes: bool) -> None:
        """For a source whose attributes Linux has no place for."""

__all__ = [
    "OPEN_DIRECTORIES",
    "Choice",
    "Small",
    "attributes_at",
    "attributes_of_fd",
    "choose",
    "find_volumes",
    "list_directory",
    "lost_parts",
    "read_locked",
    "read_small",
    "store_as_ntfs",
]

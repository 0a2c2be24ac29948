"""What is wrong with a volume or with the wish to read from it."""

from __future__ import annotations

from livelift.errors import LiveliftError


class NtfsError(LiveliftError):
    """cannot read from the NTFS volume: {0}"""

    code = "ntfs"
    remedy = "the file stays a gap: close the program that holds it, or take it from a VSS snapshot"

"""Which Livelift this is."""

from __future__ import annotations

import re

import livelift


def code() -> str:
    """The version, and of what runs from an agent file the digest of all that is in it: that names the directory which
    it was unpacked to (`livelift.bootstrap.front`)."""
    place = livelift.__file__.split("/")[-3]
    return f"{livelift.__version__} {place}" if re.fullmatch("[0-9a-f]{32}", place) else livelift.__version__

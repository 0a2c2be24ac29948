"""A Debian archive that cannot be had is told from a tree that cannot be made."""

from __future__ import annotations

import pytest

from tests.vm.places import NoMirror, VmError
from tests.vm.tree import archive, unreachable

REFUSED = """Err:1 http://127.0.0.1:1/debian bookworm InRelease
  Could not connect to 127.0.0.1:1 (127.0.0.1). - connect (111: Connection refused)
E: Failed to fetch http://127.0.0.1:1/debian/dists/bookworm/InRelease  Could not connect to 127.0.0.1:1 (127.0.0.1).
E: Some index files failed to download. They have been ignored, or old ones used instead.
E: mmdebstrap failed to run
"""


def test_no_archive() -> None:
    assert unreachable(REFUSED).startswith("E: Failed to fetch http://127.0.0.1:1/debian/dists/bookworm/InRelease")


def test_a_package_that_is_not_there_is_a_mistake_of_ours() -> None:
    assert not unreachable("Reading package lists...\nE: Unable to locate package no-such\nE: mmdebstrap failed\n")


@pytest.mark.parametrize(("said", "kind"), [(REFUSED, NoMirror), ("E: Unable to locate package no-such", VmError)])
def test_only_the_first_is_a_reason_to_skip(said: str, kind: type[VmError]) -> None:
    with pytest.raises(VmError) as error, archive():
        raise VmError(said)
    assert type(error.value) is kind

"""A pair of machines for the tests of a module, in a home of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.vm import image, places
from tests.vm.machine import Machine

Boot = Callable[..., tuple[Machine, Machine]]


@pytest.fixture(scope="module")
def vm_home() -> Iterator[Path]:
    """Not below pytest's own directory: there are sockets in it (unix(7): 107 bytes). LIVELIFT_VM_KEEP may be a
    directory: machines of an earlier run that are there are used."""
    if reason := places.missing():
        pytest.skip(reason)
    keep = os.environ.get("LIVELIFT_VM_KEEP", "")
    if keep.startswith("/"):
        Path(keep).mkdir(exist_ok=True)
    home = Path(keep) if keep.startswith("/") else Path(tempfile.mkdtemp(prefix="ll-vm-"))
    yield home
    if keep:
        print(f"the machines run on: LIVELIFT_VM_HOME={home}")
    else:
        for name in ("source", "target"):
            Machine(name, home).down(hard=True)
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def boot(vm_home: Path) -> Boot:
    """Both machines, from fresh overlays of these profiles, and up; what ran before in this home is ended."""

    def up(source: str = "source", target: str = "target", suite: str = "bookworm") -> tuple[Machine, Machine]:
        try:
            image.build([source, target], suite)
        except places.NoMirror as reason:
            pytest.skip(str(reason))
        machines = Machine("source", vm_home), Machine("target", vm_home)
        for machine, profile in zip(machines, (source, target), strict=True):
            machine.down(hard=True)
            machine.up(profile, suite)
        for machine in machines:
            machine.wait()
        return machines

    return up

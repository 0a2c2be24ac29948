"""The object files in the repository are what clang makes of the sources beside them."""

from __future__ import annotations

import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from livelift.capture.ebpf.syscalls import NUMBERS

HERE = Path(str(resources.files("livelift.capture.ebpf")))
OBJECTS = sorted(HERE.glob("*.bpf.o"))


def test_every_source_has_its_object() -> None:
    sources = {p.name.split(".")[0] for p in HERE.glob("*.bpf.c")}
    assert {p.name for p in OBJECTS} == {f"{source}.{machine}.bpf.o" for source in sources for machine in NUMBERS}


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_the_object_is_made_of_its_source(path: Path, tmp_path: Path) -> None:
    """Byte by byte, with the compiler of the Makefile: another version makes other, equally good code."""
    for tool in ("clang-14", "llvm-strip-14"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if not Path("/usr/include/bpf/bpf_helpers.h").exists():
        pytest.skip("libbpf-dev is not installed")
    subprocess.run(["make", "-s", "-C", HERE, f"BUILD={tmp_path}"], check=True, timeout=60)
    made = (tmp_path / path.name).read_bytes()
    assert made == path.read_bytes(), "make -C livelift/capture/ebpf has not been run after a change"

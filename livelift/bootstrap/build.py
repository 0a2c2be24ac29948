"""Makes the agent file: ``python -m livelift.bootstrap.build --lock FILE --wheels DIR --out FILE``; ``make agent``.

One file, a shell script that finds a Python and behind it a ZIP application (PEP 441) with this package and the wheels
of its dependencies for every Python and architecture of `PLATFORMS`. The wheels are those of the lock, byte by byte, so
their digests can be compared with those that the package index shows. Nothing in the file is compressed once more and
every date in it is 1980-01-01: the same tree and the same lock give the same bytes on every machine.

The lock is a requirements file of pip with hashes. ``--relock`` resolves the dependencies anew and writes it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import livelift
from livelift.errors import CommandError, CorruptError, UsageError

PYTHONS: Final = ("3.11", "3.12", "3.13")
MACHINES: Final = ("x86_64", "aarch64")
PLATFORMS: Final = tuple(f"cp{python.replace('.', '')}-{machine}" for python in PYTHONS for machine in MACHINES)
GLIBC: Final = ("manylinux_2_17", "manylinux2014", "manylinux_2_12", "manylinux2010", "manylinux_2_5", "manylinux1")
"""Tags (PEP 600) that every system with one of these Pythons can run; the newest first."""
OLD_TAGS: Final = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
SUFFIXES: Final = (".py", ".bpf.o", ".bpf.c", ".bpf.h")
EPOCH: Final = (1980, 1, 1, 0, 0, 0)

SCRIPT: Final = """#!/bin/sh
# The Livelift agent: a ZIP application behind this script, which finds a Python that can run it.
for python in "$LIVELIFT_PYTHON" python3 {names} /usr/local/bin/python3; do
    [ -n "$python" ] || continue
    "$python" -I -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in "{known}".split())' 2>/dev/null ||
        continue
    exec "$python" -I "$0" "$@"
done
echo "livelift-agent: this machine has no CPython {text}" >&2
echo "  what to do: install one (Debian, Ubuntu: python3; RHEL 8, 9: python3.11) or name it: LIVELIFT_PYTHON=/path" >&2
exit 2
"""
MAIN: Final = """import sys
if sys.version_info < (3, 11):
    sys.stderr.write("livelift-agent: this is Python %d.%d; CPython {text} is needed\\n"
                     "  what to do: start the file itself, it looks for one\\n" % sys.version_info[:2])
    sys.exit(2)
from livelift_front import main
sys.exit(main(sys.argv[0]))
"""
_TEXT: Final = f"{', '.join(PYTHONS[:-1])} or {PYTHONS[-1]}"


def download(lock: Path, directory: Path, platforms: Iterable[str] = PLATFORMS) -> None:
    """The wheels of the lock into ``directory/PLATFORM/``; what is there already is not fetched again.

    CommandError: pip could not get them, or one has not the digest of the lock."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    for name in platforms:
        place = directory / name
        stamp = place / "lock"
        if stamp.exists() and stamp.read_text() == digest:
            continue
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        _pip(name, place, ["--require-hashes", "--no-deps", "-r", str(lock)])
        stamp.write_text(digest)


def relock(lock: Path, directory: Path, requirements: Sequence[str]) -> None:
    """Resolve for every platform and write the lock. UsageError: two Pythons would get different versions."""
    versions: dict[str, str] = {}
    digests: dict[str, set[str]] = {}
    for name in PLATFORMS:
        place = directory / "fresh" / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        _pip(name, place, list(requirements))
        for wheel in sorted(place.glob("*.whl")):
            project, version = wheel.name.split("-")[:2]
            if versions.setdefault(project, version) != version:
                raise UsageError(f"{project}: {version} for {name}, {versions[project]} for another platform")
            digests.setdefault(project, set()).add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    lines = ["# Written by: make agent-lock"]
    for project in sorted(versions):
        hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(digests[project]))
        lines.append(f"{project.replace('_', '-')}=={versions[project]}{hashes}")
    lock.write_text("\n".join(lines) + "\n")


def _pip(name: str, place: Path, arguments: list[str]) -> None:
    abi, _, machine = name.partition("-")
    words = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
    ]
    words += ["--implementation", "cp", "--python-version", f"{abi[2]}.{abi[3:]}", "--dest", str(place)]
    words += [word for tag in (abi, "abi3", "none") for word in ("--abi", tag)]
    words += [word for tag in GLIBC for word in ("--platform", f"{tag}_{machine}")]
    done = subprocess.run([*words, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(
            f"pip download for {name}: {done.stderr.strip()[-600:]}",
            remedy="the wheels are fetched once from the package index that pip is configured for; is it reachable?",
        )


def build(package: Path, wheels: Path, out: Path, platforms: Iterable[str] = PLATFORMS) -> str:
    """Write the agent file with the wheels of ``wheels/PLATFORM/``; its SHA-256. Whole or not at all."""
    archives: dict[str, bytes] = {"livelift.zip": _package(package)}
    parts: dict[str, Any] = {}
    for name in platforms:
        found = sorted((wheels / name).glob("*.whl"))
        archives.update((f"wheels/{wheel.name}", wheel.read_bytes()) for wheel in found)
        names = ["livelift.zip", *(f"wheels/{wheel.name}" for wheel in found)]
        files: dict[str, str] = {}
        for archive in names:
            files.update(_digests(archive, archives[archive]))
        parts[name] = {
            "glibc": max((glibc_of(wheel.name) for wheel in found), default=(2, 5)),
            "archives": [[archive, hashlib.sha256(archives[archive]).hexdigest()] for archive in names],
            "files": files,
        }
    manifest = {"version": 1, "livelift": livelift.__version__, "python": PYTHONS, "platforms": parts}
    commands = " ".join(f"python{python}" for python in reversed(PYTHONS))
    head = SCRIPT.format(names=commands, known=" ".join(PYTHONS), text=_TEXT).encode()
    entries = {
        "__main__.py": MAIN.replace("{text}", _TEXT).encode(),
        "livelift_front.py": (package / "bootstrap/front.py").read_bytes(),
        "manifest.json": json.dumps(manifest, sort_keys=True).encode(),
        **archives,
    }
    content = _zip(entries, head)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(out.name + ".new")
    fresh.write_bytes(content)
    fresh.chmod(0o755)
    os.replace(fresh, out)
    return hashlib.sha256(content).hexdigest()


def glibc_of(wheel: str) -> tuple[int, int]:
    """The oldest glibc that a wheel runs with, from the tags at the end of its name (PEP 425, PEP 600)."""
    found = []
    for tag in wheel.removesuffix(".whl").rpartition("-")[2].split("."):
        if match := re.match(r"manylinux_(\d+)_(\d+)_", tag):
            found.append((int(match[1]), int(match[2])))
        else:
            found.append(OLD_TAGS.get(tag.partition("_")[0], (2, 5)))
    return min(found)


def _package(package: Path) -> bytes:
    """This package, as an archive like the wheels."""
    files = sorted(path for path in package.rglob("*") if path.name.endswith(SUFFIXES) and path.is_file())
    return _zip({f"livelift/{path.relative_to(package).as_posix()}": path.read_bytes() for path in files})


def _digests(archive: str, content: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        names = [info.filename for info in opened.infolist() if not info.is_dir()]
        if any(".data/" in name for name in names):
            raise CorruptError(
                f"{archive} wants more than to be unpacked (PEP 427, .data)", remedy="take another version"
            )
        return {name: hashlib.sha256(opened.read(name)).hexdigest() for name in names}


def _zip(entries: dict[str, bytes], head: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    buffer.write(head)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, wherever it is made
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="livelift.bootstrap.build", description="Make the agent file.")
    parser.add_argument("--lock", type=Path, required=True, help="requirements with hashes")
    parser.add_argument("--wheels", type=Path, required=True, help="where the wheels are kept between two runs")
    parser.add_argument("--out", type=Path, required=True, help="the agent file")
    parser.add_argument(
        "--relock", type=Path, metavar="PYPROJECT", help="resolve its dependencies anew, write the lock"
    )
    options = parser.parse_args(arguments)
    if options.relock:
        project = tomllib.loads(options.relock.read_text())["project"]
        relock(options.lock, options.wheels, project["dependencies"])
    download(options.lock, options.wheels)
    package = Path(livelift.__file__).parent
    digest = build(package, options.wheels, options.out)
    print(f"{options.out}: {options.out.stat().st_size} bytes, SHA-256 {digest}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

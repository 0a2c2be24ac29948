"""Import directions of docs/internals/architecture.md ("Rooms"), enforced by parsing every import statement."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "livelift"

FLOORS: dict[str, int] = {
    **dict.fromkeys(("errors", "model"), 0),
    **dict.fromkeys(("log", "protocol", "merge", "lifecycle", "checks", "ports"), 1),
    **dict.fromkeys(("registry", "adapt", "ntfs"), 1),
    **dict.fromkeys(("capture", "walk", "spool", "transport", "replay", "verify"), 2),
    **dict.fromkeys(("identity", "facts", "index", "control", "platform"), 2),
    **dict.fromkeys(("edits", "takeover", "hooks"), 2),
    **dict.fromkeys(("source", "target", "cutover", "bootstrap"), 3),
    **dict.fromkeys(("cli", "demo", "__main__"), 5),
}
SHARED = {"ports": 1, "registry": 1, "checks": 1, "platform": 2, "facts": 2}
"""Rooms that their siblings may import: contracts, hives in memory, findings, system calls, collectors of facts."""
DISPATCH = {("__main__", "cli"), ("cli", "demo"), ("demo", "cli")}
"""Floor 5: ``python -m livelift`` is the command line, and the demo is one of its verbs."""

IMPURE = {
    "os", "socket", "subprocess", "threading", "time", "asyncio", "select", "selectors", "fcntl", "sqlite3", "ssl",
    "shutil", "pathlib", "tempfile", "mmap", "ctypes", "signal", "multiprocessing",
}  # fmt: skip
AGENT_DEPENDENCIES = {"msgspec", "zstandard", "blake3", "cryptography", "google_crc32c"}
DEMO_DEPENDENCIES = {"psycopg", "rich"}


def imports(source: str, room: str) -> set[str]:
    """Dotted names of all modules that the source text imports, wherever in the file; relative imports resolved."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = f"livelift.{room}" if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found.add(module)
            if module == "livelift":
                found.update(f"livelift.{alias.name}" for alias in node.names if not alias.name.startswith("__"))
    return found - {"livelift", "__future__"}


def violations(source: str, room: str) -> list[str]:
    """What is wrong with the imports of a file of this room."""
    floor = FLOORS[room]
    wrong = []
    for name in sorted(imports(source, room)):
        top, _, rest = name.partition(".")
        if top == "livelift":
            other = rest.partition(".")[0]
            if other == room:
                continue
            if other not in FLOORS:
                wrong.append(f"{name}: a room that the architecture does not know")
            elif FLOORS[other] > floor:
                wrong.append(f"{name}: floor {floor} imports floor {FLOORS[other]}")
            elif FLOORS[other] == floor and SHARED.get(other) != floor and (room, other) not in DISPATCH:
                wrong.append(f"{name}: siblings on floor {floor}")
        elif floor <= 1 and top in IMPURE:
            wrong.append(f"{name}: floor {floor} is pure")
        elif top not in sys.stdlib_module_names:
            allowed = AGENT_DEPENDENCIES | (DEMO_DEPENDENCIES if room == "demo" else set())
            if top not in allowed:
                wrong.append(f"{name}: not a dependency of the agent")
    return wrong


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    assert violations(path.read_text(), room_of(path)) == []


def test_every_room_has_a_floor_and_every_floor_its_rooms() -> None:
    present = {room_of(path) for path in FILES}
    assert present <= FLOORS.keys()
    assert FLOORS.keys() - {"__main__"} <= present


def test_package_itself_imports_nothing() -> None:
    assert imports((PACKAGE / "__init__.py").read_text(), "__init__") == set()


@pytest.mark.parametrize(
    ("room", "source", "complaint"),
    [
        ("merge", "def f():\n    import os.path", "floor 1 is pure"),
        ("model", "from time import time", "floor 0 is pure"),
        ("log", "from livelift.spool.store import Spool", "floor 1 imports floor 2"),
        ("walk", "from livelift.capture import inotify", "siblings on floor 2"),
        ("source", "from livelift import target", "siblings on floor 3"),
        ("source", "import livelift.cli.main", "floor 3 imports floor 5"),
        ("cli", "import rich", "not a dependency of the agent"),
        ("replay", "import livelift.nowhere", "does not know"),
    ],
)
def test_a_violation_is_found(room: str, source: str, complaint: str) -> None:
    (found,) = violations(source, room)
    assert complaint in found


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("walk", "import os\nfrom livelift.platform.linux import calls\nfrom livelift.model.entry import Extent"),
        ("merge", "from livelift.ports import TreeView\nfrom . import rename\nfrom .rename import Pair"),
        ("demo", "import psycopg\nimport rich.live\nfrom livelift.cli import main"),
    ],
)
def test_what_is_allowed_passes(room: str, source: str) -> None:
    assert violations(source, room) == []

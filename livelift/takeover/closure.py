"""A private Python for the initramfs: the interpreter, and exactly the modules and libraries that the stage loads.

What that is, a child process tells: it imports the stage's program with the interpreter that runs now (-I -S, so that
nothing of this installation's configuration counts) and reads sys.modules and /proc/self/maps. Modules are taken as
compiled files, so that the stage starts without compiling.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import sys
from typing import Final, NamedTuple

import livelift
from livelift.errors import PreflightError, ProgramError
from livelift.platform.linux.programs import run_program
from livelift.takeover.elf import interpreter, soname
from livelift.takeover.stage_main import HOME, LIBRARIES, LOADER, PYTHON

SECONDS: Final = 60
"""For the child; it takes a tenth of one."""
MODULE: Final = "livelift.takeover.stage_main"
ALSO: Final = ("encodings.ascii", "encodings.latin_1", "encodings.utf_8")
"""Loaded by name when a codec is asked for."""
SITE: Final = f"{HOME}/site"

_CHILD: Final = f"""
import sys
sys.path[:0] = sys.argv[1:]
import importlib
for name in {(MODULE, *ALSO)!r}:
    importlib.import_module(name)
found = [(n, m.__spec__.origin, getattr(m, "__file__", None)) for n, m in list(sys.modules.items())
         if n != "__main__" and getattr(m, "__spec__", None)]
with open("/proc/self/maps") as file:
    maps = sorted({{line.split(None, 5)[5].strip() for line in file
                   if " r-xp " in line and line.count("/") and not line.rstrip().endswith("]")}})
import json, os
print(json.dumps([os.readlink("/proc/self/exe"), sys.platlibdir, os.path.dirname(os.__file__), found, maps]))
"""


class File(NamedTuple):
    """A file of the image: ``path`` absolute in it."""

    path: str
    content: bytes
    executable: bool = False


def python_files() -> list[File]:
    """All files of the private Python. PreflightError: the child failed, or a file of it is gone."""
    try:
        return _collect(*_ask())
    except (OSError, ValueError) as error:
        raise PreflightError(
            f"a private Python cannot be put together: {error}", remedy="is this Python whole?"
        ) from error


def _ask() -> tuple[str, str, str, list[tuple[str, str | None, str | None]], list[str]]:
    home = os.path.dirname(os.path.dirname(os.path.abspath(livelift.__file__)))
    interpreter_now = os.path.realpath(sys.executable)
    words = [
        interpreter_now,
        "-I",
        "-S",
        "-B",
        "-W",
        "ignore",
        "-c",
        _CHILD,
        home,
        *filter(os.path.isdir, filter(None, sys.path)),
    ]
    try:
        told = run_program(words, SECONDS)
    except ProgramError as error:
        raise PreflightError(
            f"{MODULE} cannot be loaded by {interpreter_now}: {str(error.args[0])[-400:]}",
            remedy="install Livelift anew",
        ) from error
    program, lib, standard, modules, maps = json.loads(told)
    return program, lib, standard, modules, maps


def _collect(
    program: str, lib: str, standard: str, modules: list[tuple[str, str | None, str | None]], maps: list[str]
) -> list[File]:
    head = _read(program)
    found = [File(PYTHON, head, True), File(LOADER, _read(interpreter(head)), True)]
    home = f"{HOME}/{lib}/{os.path.basename(standard)}"
    found.append(File(f"{home}/lib-dynload/.keep", b""))
    roots: dict[str, None] = {}
    extensions = set()
    for name, origin, path in modules:
        path = path or (origin if origin and origin.startswith("/") else None)
        if path is None:  # built into the interpreter
            continue
        place, root = _place(name, path, standard, home)
        roots[root] = None
        if path.endswith(".py"):
            found.append(File(place.removesuffix(".py") + ".pyc", _compiled(path, place)))
        else:
            extensions.add(path)
            found.append(File(place, _read(path), True))
    for path in maps:
        if path == program or path in extensions or os.path.basename(path) == os.path.basename(interpreter(head)):
            continue
        content = _read(path)
        found.append(File(f"{LIBRARIES}/{soname(content) or os.path.basename(path)}", content, True))
        root = max((r for r in roots if r != standard and path.startswith(f"{r}/")), key=len, default="")
        if root:  # a wheel's own libraries, which its extension finds beside itself
            found.append(File(f"{SITE}/{os.path.relpath(path, root)}", content, True))
    found.append(File(f"{HOME}/main.py", _MAIN.encode()))
    return list({file.path: file for file in found}.values())  # os.path is posixpath too


_MAIN: Final = f"""import sys
sys.path.append({SITE!r})
from {MODULE} import main
sys.exit(main(sys.argv))
"""


def _place(name: str, path: str, standard: str, home: str) -> tuple[str, str]:
    """(path in the image, directory of sys.path that it was found by)."""
    if path.startswith(f"{standard}/") and "/site-packages/" not in path and "/dist-packages/" not in path:
        return f"{home}/{os.path.relpath(path, standard)}", standard
    depth = name.count(".") + (os.path.basename(path).startswith("__init__."))
    root = path
    for _ in range(depth + 1):
        root = os.path.dirname(root)
    return f"{SITE}/{os.path.relpath(path, root)}", root


def _compiled(path: str, shown: str) -> bytes:
    """A .pyc that is loaded without its source, and never compared with it (PEP 552)."""
    code = compile(_read(path), shown, "exec", dont_inherit=True, optimize=0)
    return importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8) + marshal.dumps(code)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()

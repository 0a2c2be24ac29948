"""Imports every module of the installed package but those of the demo; run by ``make agent-free`` without pytest."""

from __future__ import annotations

import importlib
import pkgutil

import livelift


def agent_modules() -> list[str]:
    names = [module.name for module in pkgutil.walk_packages(livelift.__path__, "livelift.")]
    return [name for name in names if not name.startswith("livelift.demo") and not name.endswith("__main__")]


if __name__ == "__main__":
    modules = agent_modules()
    for name in modules:
        importlib.import_module(name)
    print(f"{len(modules)} modules import with the agent's own dependencies")

"""livelift demo"""

from __future__ import annotations

import argparse
from typing import Any

from livelift.cli.common import add_verb

TEXT = """Move a live system tree with a real PostgreSQL on this one machine, and print the proof: every
acknowledged commit is there, pg_amcheck is clean, the manifests are equal."""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "demo", "move a live tree on this machine and prove it", TEXT, _run)
    try:
        from livelift.demo.run import add_arguments
    except ImportError:  # the demo's extra packages are not installed; the verb says so when it is used
        return
    add_arguments(parser)


def _run(options: argparse.Namespace) -> int:
    from livelift.demo.run import run

    return run(options)

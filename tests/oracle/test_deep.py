"""The judges go down as far as a workload does."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest

from tests.oracle.compare import compare_trees
from tests.oracle.trees import clean_flags

LEVELS = 3000


def test_three_thousand_directories_in_each_other(tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < LEVELS + 100:
        pytest.skip("needs as many open files as there are directories (ulimit -n)")
    trees = [tmp_path / "one", tmp_path / "other"]
    try:
        for tree in trees:
            tree.mkdir()
            deepest = os.open(tree, os.O_RDONLY)
            for _ in range(LEVELS):
                os.mkdir(b"0", dir_fd=deepest)
                below = os.open(b"0", os.O_RDONLY, dir_fd=deepest)
                os.close(deepest)
                deepest = below
            os.close(os.open(b"file", os.O_WRONLY | os.O_CREAT, 0o600 if tree is trees[0] else 0o640, dir_fd=deepest))
            os.close(deepest)
            clean_flags(tree)
        (found,) = [one for one in compare_trees(*trees) if "time" not in str(one)]
        assert "mode" in str(found)
    finally:
        subprocess.run(["rm", "-rf", *map(str, trees)], check=True)

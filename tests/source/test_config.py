from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from livelift.errors import UsageError
from livelift.model.job import Map
from livelift.source.config import FILE, SourceConfig, load


def config(directory: Path) -> SourceConfig:
    return SourceConfig(
        os.fsencode(directory),
        "0123abcd",
        "target.example",
        7443,
        (Map(b"/srv/\xff", b"/r", (b"*.tmp", b"\xfe"), (b"keep.tmp",)), Map(b"/home", b"/h")),
        fence=(b"/sys/fs/cgroup/a\xff",),
        own=(b"/replica\xfe",),
        bandwidth="10M",
        pressure_limit=20.0,
        ignored=("target-not-empty",),
        idle_priority=False,
    )


def test_everything_comes_back_even_paths_that_are_not_utf8(tmp_path):
    saved = config(tmp_path)
    saved.save()
    assert load(os.fsencode(tmp_path)) == saved
    assert stat.S_IMODE(os.stat(tmp_path / FILE).st_mode) == 0o600
    assert saved.own_directories() == [os.fsencode(tmp_path), b"/replica\xfe"]


def test_the_directory_may_be_moved(tmp_path):
    config(tmp_path).save()
    other = tmp_path / "other"
    other.mkdir()
    os.rename(tmp_path / FILE, other / FILE)
    assert load(os.fsencode(other)).directory == os.fsencode(other)


def test_a_failed_save_leaves_the_old_one(tmp_path, monkeypatch):
    old = config(tmp_path)
    old.save()

    def fail(fd: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        SourceConfig(os.fsencode(tmp_path), "other", "h", 1, ()).save()
    assert load(os.fsencode(tmp_path)) == old


def test_no_job_says_how_to_get_one(tmp_path):
    with pytest.raises(UsageError, match="no job in") as refused:
        load(os.fsencode(tmp_path))
    assert "--pair" in refused.value.remedy

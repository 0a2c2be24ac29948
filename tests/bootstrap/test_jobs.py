"""The controller's file of a migration: names, places, what a map means on each side."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from livelift.bootstrap import jobs
from livelift.bootstrap.jobs import Migration
from livelift.errors import LockedError, StoreError, UsageError

JOB = Migration("web", "root@old", "root@new", ("/srv=/data/a==b", "/e==f=/g"), sudo=True, ssh_options=("Port=22",))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIVELIFT_JOBS", str(tmp_path / "jobs"))
    return tmp_path / "jobs"


def test_it_is_kept_and_forgotten(home: Path) -> None:
    jobs.save(JOB)
    assert jobs.load("web") == JOB and jobs.names() == ["web"]
    assert stat.S_IMODE((home / "web/migration.json").stat().st_mode) == 0o600
    (home / "web/migration.json").write_text("{")
    with pytest.raises(StoreError):
        jobs.load("web")
    jobs.forget("web")
    with pytest.raises(UsageError, match="knows no job web"):
        jobs.load("web")


def test_the_two_sides_of_a_map() -> None:
    assert JOB.directories("source") == ["/srv", "/e=f"]
    assert JOB.directories("target") == ["/data/a=b", "/g"]
    assert JOB.state("target") == "/var/lib/livelift/web.target"


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", "x" * 64, "ü"])
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(UsageError):
        jobs.check_name(name)


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("root@old", "new.example.org", "old-to-new.example.org"),
        ("ssh://root@192.0.2.7:22", "root@[2001:db8::7]", "192.0.2.7-22-to-2001-db8-7"),
    ],
)
def test_names_for_two_machines(source: str, target: str, name: str) -> None:
    assert jobs.name_for(source, target) == name


def test_one_at_a_time() -> None:
    with jobs.held("web"), pytest.raises(LockedError, match="another livelift works on job web"), jobs.held("web"):
        pass

"""A top directory takes over what another one was."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.errors import CorruptError
from livelift.takeover.swap_journal import Entry, Journal, Object, parse_journal, render_journal
from livelift.takeover.top_directory import Top, look, make_equal
from tests.loopfs import loop_filesystem

TOPS = [
    Top(0, 0, 0o755, (1, 2)),
    Top(26, 26, 0o2700, (10**18, -(10**18)), (("security.capability", b"\0\xff= \n"), ("user.a", b""))),
]


@pytest.mark.parametrize("live", TOPS)
@pytest.mark.parametrize("staged", TOPS)
def test_the_journal_keeps_them(live: Top, staged: Top) -> None:
    journal = Journal(3, live, staged, [Entry(b"etc", Object(5, "d", 16, 7), Object())])
    assert parse_journal(render_journal(journal)) == journal
    with pytest.raises(CorruptError):
        parse_journal(render_journal(journal).replace(b"staged", b"live", 1))


@pytest.fixture(params=["ext4", "xfs", "btrfs"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Path, Path]]:
    with loop_filesystem(request.param, 16) as disk:
        for name in ("plain", "rich"):
            (disk / name).mkdir()
        yield disk / "plain", disk / "rich"


@pytest.mark.root
def test_there_and_back(pair: tuple[Path, Path]) -> None:
    plain, rich = pair
    os.chown(rich, 26, 27)
    rich.chmod(0o3771)
    subprocess.run(["setfacl", "-m", "u:7:rwx,g::---,d:u:7:r", str(rich)], check=True)
    for name, value in (("user.one", b"1"), ("trusted.two", b"\0"), ("security.three", b"3")):
        os.setxattr(rich, name, value)
    os.setxattr(plain, "user.one", b"other")
    os.utime(plain, ns=(5, 6))
    fds = [os.open(path, os.O_RDONLY) for path in (plain, rich)]
    before = [look(fd) for fd in fds]
    assert before[0] != before[1]
    for first, second in ((1, 0), (1, 0), (0, 1)):
        make_equal(fds[0], before[first])
        make_equal(fds[1], before[second])
        assert [look(fd) for fd in fds] == [before[first], before[second]]
    for fd in fds:
        os.close(fd)

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from livelift.errors import CorruptError, StoreError
from livelift.verify.cache import NOTHING_MAPPED, Cached, DigestCache, Mapped, may_keep

SECOND = 10**9
ROW = Cached(10, 20, 30, b"c" * 32, b"l" * 16, b"meta")


def status(**values: int) -> os.stat_result:
    return cast(os.stat_result, SimpleNamespace(st_dev=1, st_ino=2, **values))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


def reopen(path: str, epoch: str = "boot 1") -> DigestCache:
    return DigestCache(path, epoch)


def test_what_is_stored_is_found_before_and_after_it_is_written(path: str) -> None:
    cache = reopen(path)
    cache.store([((1, 2), ROW)])
    assert cache.lookup([(1, 2), (1, 3), (2, 2)]) == {(1, 2): ROW}
    cache.close()
    cache = reopen(path)
    assert cache.lookup([(1, 2), (1, 3), (2, 2)]) == {(1, 2): ROW}
    newer = ROW._replace(ctime=31)
    cache.store([((1, 2), newer)])
    cache.flush()
    assert cache.lookup([(1, 2)]) == {(1, 2): newer} and len(cache) == 1
    cache.close()


def test_many_files_on_several_devices(path: str) -> None:
    cache = reopen(path)
    keys = [(device, inode) for device in (1, 1 << 40) for inode in range(1, 1800)]
    cache.store((key, ROW._replace(size=key[1])) for key in keys)
    found = cache.lookup(keys)
    assert {key: row.size for key, row in found.items()} == {key: key[1] for key in keys}
    cache.close()


def test_inode_numbers_with_the_top_bit(path: str) -> None:
    cache = reopen(path)
    key = (1, (1 << 64) - 5)
    cache.store([(key, ROW)])
    cache.flush()
    assert cache.lookup([key]) == {key: ROW}
    cache.close()


def test_times_beyond_sqlite_are_not_kept_but_do_no_harm(path: str) -> None:
    cache = reopen(path)
    cache.store([((1, 2), ROW._replace(mtime=1 << 70)), ((1, 3), ROW)])
    cache.flush()
    assert cache.lookup([(1, 2), (1, 3)]) == {(1, 3): ROW}
    cache.close()


def test_another_boot_begins_empty(path: str) -> None:
    cache = reopen(path)
    cache.store([((1, 2), ROW)])
    cache.close()
    cache = reopen(path, "boot 2")
    assert len(cache) == 0
    cache.close()
    cache = reopen(path, "boot 1")
    assert len(cache) == 0
    cache.close()


def test_stamp_matches_only_as_a_whole() -> None:
    assert ROW.matches(status(st_size=10, st_mtime_ns=20, st_ctime_ns=30))
    for change in ({"st_size": 11}, {"st_mtime_ns": 21}, {"st_ctime_ns": 31}):
        assert not ROW.matches(status(**{"st_size": 10, "st_mtime_ns": 20, "st_ctime_ns": 30, **change}))


def test_a_digest_is_kept_only_if_a_later_write_must_show() -> None:
    now = 100 * SECOND
    old, young = status(st_ctime_ns=97 * SECOND), status(st_ctime_ns=98 * SECOND)
    future = status(st_ctime_ns=200 * SECOND)
    assert may_keep(old, now, NOTHING_MAPPED)
    assert not may_keep(young, now, NOTHING_MAPPED)
    assert not may_keep(future, now, NOTHING_MAPPED)
    assert may_keep(old, now, Mapped(frozenset(), now))
    assert not may_keep(old, now, Mapped(frozenset({(1, 2)}), now))
    # Touched after the list of mappings was taken: perhaps by a mapping that is not in the list.
    assert not may_keep(old, now, Mapped(frozenset(), 98 * SECOND))


def test_a_damaged_file_stops_loudly(path: str) -> None:
    cache = reopen(path)
    cache.store([((1, 2), ROW)])
    cache.close()
    data = bytearray(Path(path).read_bytes())
    data[:16] = os.urandom(16)
    Path(path).write_bytes(data)
    with pytest.raises(CorruptError, match="only a cache"):
        reopen(path)


def test_an_impossible_place_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        DigestCache(str(tmp_path / "no such directory" / "cache"))


def test_a_full_disk_is_a_store_error_and_the_rows_stay_pending(path: str) -> None:
    cache = reopen(path)
    cache._db.execute("PRAGMA max_page_count=4")
    with pytest.raises(StoreError, match="full"):
        cache.store(((1, inode), ROW) for inode in range(5000))
    assert cache.lookup([(1, 4999)]) == {(1, 4999): ROW}
    cache._db.execute("PRAGMA max_page_count=100000")
    cache.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT count(*) FROM digests").fetchone() == (5000,)
    raw.close()


def test_several_threads(path: str) -> None:
    cache = reopen(path)
    failures: list[BaseException] = []

    def work(device: int) -> None:
        try:
            for start in range(0, 2000, 50):
                keys = [(device, inode) for inode in range(start, start + 50)]
                cache.store((key, ROW) for key in keys)
                assert len(cache.lookup(keys)) == 50
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(device,)) for device in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and len(cache) == 8000
    cache.close()

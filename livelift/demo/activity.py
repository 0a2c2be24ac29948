"""What keeps the source a live system: log rotation, package-like upgrades, random edits, renames, links.

Runs as a process of its own, inside the fenced group: ``python -m livelift.demo.activity TREE COUNTER RATE SEED``. It
may be frozen or killed between any two instructions. COUNTER, outside the tree, receives the number of operations done.
"""

from __future__ import annotations

import gzip
import itertools
import os
import random
import shutil
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

SMALL = 256 << 10
"""Files up to this size are upgraded and edited: a real upgrade replaces mostly such."""


def find_files(tree: Path, limit: int = 4000) -> list[Path]:
    """Regular files of etc and usr with one name that we may write, as many as ``limit``."""
    files: list[Path] = []
    for part in ("etc", "usr"):
        for directory, _, names in os.walk(tree / part):
            if not os.access(directory, os.W_OK):
                continue
            for name in names:
                path = Path(directory, name)
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_size > SMALL:
                    continue
                if os.access(path, os.R_OK | os.W_OK):
                    files.append(path)
            if len(files) >= limit:
                return files
    return files


class Activity:
    """Each call of `step` does one operation, chosen at random by weight, as it occurs on a real system."""

    def __init__(self, tree: Path, rng: random.Random) -> None:
        self._rng = rng
        self._files = find_files(tree)
        self._work = tree / "srv/live"
        self._logs = tree / "var/log/live"
        for directory in (self._work, self._logs):
            directory.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count()
        self._kinds: list[tuple[Callable[[], None], int]] = [
            (self._log, 12), (self._rotate, 1), (self._upgrade, 5), (self._edit, 8), (self._attributes, 3),
            (self._churn, 4), (self._directories, 2), (self._link, 2), (self._append_and_truncate, 4), (self._swap, 1),
        ]  # fmt: skip

    def step(self) -> str:
        """Do one operation; returns its name."""
        kinds, weights = zip(*self._kinds, strict=True)
        (kind,) = self._rng.choices(kinds, weights)
        kind()
        return str(kind.__name__).strip("_")

    def _bytes(self, most: int) -> bytes:
        return self._rng.randbytes(self._rng.randrange(1, most))

    def _log(self) -> None:
        with open(self._logs / "app.log", "ab") as log:
            for _ in range(self._rng.randrange(1, 20)):
                log.write(b"%d request served in %d us\n" % (time.time_ns(), self._rng.randrange(100000)))

    def _rotate(self) -> None:
        """As logrotate(8): shift, compress the older one, start anew."""
        log, first, packed = self._logs / "app.log", self._logs / "app.log.1", self._logs / "app.log.2.gz"
        if first.exists():
            with open(first, "rb") as plain, gzip.open(packed, "wb", compresslevel=1) as out:
                shutil.copyfileobj(plain, out)
        if log.exists():
            log.replace(first)
        log.touch(0o640)

    def _upgrade(self) -> None:
        """As dpkg does it: unpack beside, keep a link to the old one, rename over it, drop the link."""
        path = self._rng.choice(self._files)
        new, old = (path.with_name(path.name[:200] + end) for end in (".dpkg-new", ".dpkg-tmp"))
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2] = self._bytes(64)
        with open(new, "wb") as file:
            file.write(data)
            os.fsync(file.fileno())
        shutil.copystat(path, new)
        old.unlink(missing_ok=True)
        os.link(path, old)
        new.replace(path)
        old.unlink()

    def _edit(self) -> None:
        with open(self._rng.choice(self._files), "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(self._rng.randrange(size + 1))
            file.write(self._bytes(2000))

    def _append_and_truncate(self) -> None:
        path = self._work / f"journal-{self._rng.randrange(8)}"
        with open(path, "ab") as file:
            file.write(self._bytes(60000))
            if file.tell() > 1 << 20:
                file.truncate(self._rng.randrange(1 << 16))

    def _attributes(self) -> None:
        path = self._rng.choice(self._files)
        os.utime(path)
        path.chmod(path.stat().st_mode & 0o7777 ^ 0o020)
        try:
            os.setxattr(path, "user.live", self._bytes(40))
        except OSError:
            pass  # a file system without user xattrs (tmpfs before Linux 6.6); the others are done all the same

    def _churn(self) -> None:
        """Temporary files: most live for a moment, some stay."""
        path = self._work / f"tmp-{next(self._numbers)}"
        path.write_bytes(self._bytes(20000))
        if self._rng.random() < 0.8:
            path.unlink()

    def _directories(self) -> None:
        """A tree appears under one name and moves to another; a former one goes."""
        number = next(self._numbers)
        tree = self._work / f"unpack-{number}"
        (tree / "a/b").mkdir(parents=True)
        for name in ("one", "a/two", "a/b/three"):
            (tree / name).write_bytes(self._bytes(5000))
        tree.rename(self._work / f"release-{number}")
        old = sorted(self._work.glob("release-*"))
        if len(old) > 20:
            shutil.rmtree(self._rng.choice(old))

    def _link(self) -> None:
        number = next(self._numbers)
        path = self._work / f"linked-{number}"
        path.write_bytes(self._bytes(3000))
        os.link(path, self._logs / f"linked-{number}")
        if self._rng.random() < 0.5:
            path.unlink()
        os.symlink(f"linked-{number}", self._work / f"latest-{number}")
        (self._work / f"latest-{number}").replace(self._work / "latest")

    def _swap(self) -> None:
        """Two names change places by way of a third."""
        one, two, spare = (self._work / name for name in ("blue", "green", "spare"))
        for path in (one, two):
            if not path.exists():
                path.write_bytes(self._bytes(5000))
        one.rename(spare)
        two.rename(one)
        spare.rename(two)


def main(tree: Path, counter: Path, rate: float, seed: int) -> None:
    """Operate until somebody ends it, ``rate`` operations a second."""
    activity = Activity(tree, random.Random(seed))
    start = time.monotonic()
    with open(counter, "r+b" if counter.exists() else "w+b", buffering=0) as count:
        for number in itertools.count(1):
            activity.step()
            os.pwrite(count.fileno(), b"%d\n" % number, 0)
            ahead = start + number / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            elif ahead < -1:
                start -= ahead  # behind by more than a second: do not catch up in one burst


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))

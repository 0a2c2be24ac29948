"""Random and exhaustive operation sequences on a live tree; after the cutover two judges find no difference.

One pair of agents serves many sequences, each in a directory named after its seed, so a difference names its seed.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.oracle import ace, trees
from tests.oracle.compare import assert_equal
from tests.oracle.fsx import FileExerciser
from tests.oracle.ops import RandomOps
from tests.oracle.pair import LivePair
from tests.oracle.slow import SLOW
from tests.system.conftest import Disks

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]

MODES = ("fanotify", "inotify")
LONG = pytest.mark.long  # the whole of this folder is to take less than ten minutes on two cores
VOLUMES = [
    ("ext4", "fanotify"),
    ("ext4", "inotify"),
    ("xfs", "fanotify"),
    ("btrfs", "inotify"),
    pytest.param("xfs", "inotify", marks=LONG),
    pytest.param("btrfs", "fanotify", marks=LONG),
]


def made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize(("disks", "mode"), VOLUMES, indirect=["disks"])
def test_random_sequences(disks: Disks, mode: str, seed: int, tmp_path: Path) -> None:
    """Before, during and after the base copy, with mappings and unlinked files still open at the cut."""
    trees.build_nasty_tree(made(disks.source / "nasty"), seed)
    workers = [RandomOps(made(disks.source / f"early-{seed + n}"), seed + n) for n in range(6)]
    for worker in workers:
        worker.run(200)
    files = [FileExerciser(disks.source / f"fsx-{seed + n}", seed + n) for n in range(2)]
    with LivePair([(disks.source, disks.target)], tmp_path, capture=mode) as pair:
        for _ in range(20):  # the walk is under way
            for worker in workers:
                worker.run(15)
            for file in files:
                file.run(10)
        pair.wait_following()
        workers += [RandomOps(made(disks.source / f"late-{seed + n}"), ~seed - n) for n in range(6)]
        for _ in range(20):
            for worker in workers:
                worker.run(20)
            for file in files:
                file.run(20)
        pair.cutover()
    for worker in workers:
        worker.close()
    for file in files:
        file.check(disks.target / Path(file.path.decode()).name)
        file.close()
    assert_equal(disks.source, disks.target)


@pytest.mark.parametrize("mode", MODES)
def test_concurrent_writers_over_one_tree(disks: Disks, mode: str, seed: int, tmp_path: Path) -> None:
    """Threads that move whole subtrees between each other's directories while a busy tree is walked."""
    chooser = random.Random(seed)
    places = [made(disks.source / f"place-{n}") for n in range(8)]
    for place in places:
        for n in range(40):
            made(place / f"tree-{n}" / "below").joinpath("file").write_bytes(chooser.randbytes(3000))
    stop = threading.Event()
    failures: list[BaseException] = []

    def move_subtrees(seed: int) -> None:
        chooser = random.Random(seed)
        try:
            for serial in itertools.count():
                if stop.is_set():
                    return
                one, two = chooser.sample(places, 2)
                names = sorted(one.iterdir())
                if not names:
                    continue
                if SLOW > 1:  # else they take all of an emulated processor; the agent has the lowest priority
                    stop.wait(0.1)
                old = chooser.choice(names)
                try:
                    new = old.rename(two / f"moved-{seed}-{serial}")
                    (new / "below" / f"note-{serial % 5}").write_bytes(b"%d" % serial)
                except FileNotFoundError:
                    continue  # the other thread was faster
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=move_subtrees, args=(seed + n,)) for n in range(2)]
    with LivePair([(disks.source, disks.target)], tmp_path, capture=mode) as pair:
        for thread in threads:
            thread.start()
        try:
            pair.wait(lambda status: status.initial_percent >= 100, 60)
            stop.wait(3)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures
        pair.cutover()
    assert_equal(disks.source, disks.target)


def run_ace(disks: Disks, mode: str, work: Path, workloads: Iterable[ace.Sequence]) -> None:
    """Each sequence in a directory of its own; all are prepared before the base copy and performed after it."""
    numbered = [(disks.source / f"{n // 100:03}" / f"{n:05}", sequence) for n, sequence in enumerate(workloads)]
    for directory, _ in numbered:
        ace.prepare(made(directory))
    with LivePair([(disks.source, disks.target)], work, capture=mode) as pair:
        pair.wait_following()
        for directory, sequence in numbered:
            for step in sequence:
                ace.perform(directory, step)
        pair.cutover(120)
    try:
        assert_equal(disks.source, disks.target)
    except AssertionError as error:
        wrong = [f"{d.name}: {', '.join(map(str, s))}" for d, s in numbered if f"/{d.name}" in str(error)]
        raise AssertionError("\n".join(["sequences with differences:", *wrong[:20], str(error)])) from None


@pytest.mark.parametrize("mode", ["fanotify", pytest.param("inotify", marks=LONG)])
def test_every_sequence_of_two_operations_and_500_of_three(disks: Disks, mode: str, seed: int, tmp_path: Path) -> None:
    run_ace(disks, mode, tmp_path, [*ace.all_sequences(2), *ace.sample(seed, 500)])


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(12))
@pytest.mark.parametrize("disks", [("ext4", 2000, 2000)], indirect=True)
def test_every_sequence_of_three_operations(disks: Disks, part: int, tmp_path: Path) -> None:
    """93,912 sequences, 7,826 for each pair of agents."""
    run_ace(disks, "fanotify", tmp_path, itertools.islice(ace.sequences(3), part, None, 12))

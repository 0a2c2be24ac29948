"""The stage on real file systems, with the power cut after every system call of it and of the calls around it.

From every such point the next boots lead to exactly the old or exactly the new system, and the boot switch fits it.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from livelift.adapt.linux.grubenv import environment
from livelift.checks.findings import Finding, Level
from livelift.errors import PreflightError, StateError
from livelift.facts.host import Host
from livelift.platform.linux import files
from livelift.takeover import arming, confirm, fit, moved, reserve
from livelift.takeover.records import INTERRUPTED, RETURNED, TRYING, Records
from livelift.takeover.stage import Stage
from livelift.takeover.swap import place_for
from tests.edits.killer import Death, run_until
from tests.loopfs import loop_filesystem
from tests.takeover.grub import STOCK
from tests.takeover.world import Hands, World, clear

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

Make = Callable[..., World]
FILESYSTEMS = ["ext4", "xfs", "btrfs"]


@pytest.fixture(scope="module", params=[(fs, two) for fs in FILESYSTEMS for two in (False, True)],
                ids=lambda p: f"{p[0]}-{'boot apart' if p[1] else 'one'}")  # fmt: skip
def disks(request: pytest.FixtureRequest) -> Iterator[list[Path]]:
    """The root's, and for some /boot's."""
    fstype, two = request.param
    with ExitStack() as stack:
        yield [stack.enter_context(loop_filesystem(fstype, 16)) for _ in range(1 + two)]


@pytest.fixture
def every(disks: list[Path]) -> int:
    """At which calls the power is cut: at each on one file system, at a sample (odd, so that both kinds of numbers
    come) where /boot is apart, which takes longer."""
    return 3 if len(disks) > 1 else 1


@pytest.fixture
def make(disks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """A fresh world on these disks. The new system is always content with itself here."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)
    monkeypatch.setattr(files, "syncfs", lambda fd: None)
    monkeypatch.setattr(confirm, "look", lambda host, wanted: [])
    monkeypatch.setattr(confirm, "look_at_network", lambda host, wanted: [])
    monkeypatch.setattr(moved, "wrong_menu", lambda host: [])

    def fresh(**options: object) -> World:
        clear(*disks)
        return World(disks[0], disks[1] if len(disks) > 1 else None, tmp_path, **options)

    yield fresh
    clear(*disks)


def confirm_it(world: World) -> None:
    host = Host(world.places["/"])
    try:
        assert moved.confirm_now(world.site(), host) == []
    finally:
        host.close()


def test_over_confirmed_and_back(make: Make) -> None:
    world = make()
    assert world.boot() == ("own", "old"), "installed, not armed"
    arming.arm(world.site())
    hands = Hands(world)
    assert world.boot(hands) == ("stage", "new") and hands.guarded
    world.check("new")
    assert world.leads_to() == "" and world.mode() == "stage", "not confirmed: the next boot leads to the stage"
    confirm_it(world)
    assert world.leads_to() == "own" and world.mode() == "counted"
    for _ in range(2):
        assert world.boot() == ("own", "new")
        confirm_it(world)
        assert world.boot() == ("own", "new")
    confirm_it(world)
    moved.back(world.site())
    assert world.boot() == ("stage", "old")
    world.check("old")
    assert world.mode() == "idle" and world.boot() == ("own", "old")
    assert world.state().phase == RETURNED and world.state().reason == "asked for"


def fill(top: Path) -> None:
    """To the last byte and the last inode, as root."""
    ballast = top / ".livelift/ballast"
    ballast.mkdir()
    for size in (1 << 20, 4096, 1):
        try:
            for number in itertools.count():
                with open(ballast / f"{size} {number}", "wb", buffering=0) as file:
                    assert file.write(bytes(size)) == size
                    os.fsync(file.fileno())
        except (OSError, AssertionError) as error:
            assert isinstance(error, AssertionError) or error.errno == errno.ENOSPC, error


@pytest.mark.parametrize("way", ["asked for", "did not confirm"])
def test_a_full_disk_is_not_in_the_way_back(make: Make, disks: list[Path], way: str) -> None:
    world = make()
    arming.arm(world.site())
    world.boot()
    if way == "asked for":
        confirm_it(world)
    for disk in disks:
        fill(disk)
        with pytest.raises(OSError, match="No space"):
            (disk / ".livelift/more").write_bytes(bytes(4096))
    if way == "asked for":
        moved.back(world.site())
    assert world.boot() == ("stage", "old")
    assert world.boot() == ("own", "old") and way in world.state().reason
    world.check("old")


def test_it_is_not_armed_without_that_room(make: Make, disks: list[Path]) -> None:
    world = make()
    for disk in disks:
        fill(disk)
    with pytest.raises(PreflightError, match="is full"):
        arming.arm(world.site())
    assert world.boot() == ("own", "old")
    for disk in disks:
        shutil.rmtree(disk / ".livelift/ballast")
    arming.arm(world.site())
    assert world.boot() == ("stage", "new")
    world.check("new")


def test_without_the_room_it_would_be(make: Make, disks: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    world = make()
    arming.arm(world.site())
    world.boot()
    confirm_it(world)
    for disk in disks:
        fill(disk)
    monkeypatch.setattr(reserve, "release", lambda tops: None)
    with pytest.raises(OSError, match="No space"):
        moved.back(world.site())
        world.boot()


def test_a_new_system_that_does_not_confirm_leads_back(make: Make) -> None:
    world = make()
    arming.arm(world.site())
    assert world.boot() == ("stage", "new")
    hands = Hands(world)
    assert world.boot(hands) == ("stage", "old") and not hands.guarded
    world.check("old")
    assert world.boot() == ("own", "old")
    assert "did not confirm" in world.state().reason


def test_a_confirmed_system_that_never_comes_up_leads_back(make: Make) -> None:
    world = make()
    arming.arm(world.site())
    world.boot()
    confirm_it(world)
    assert [world.boot() for _ in range(3)] == [("own", "new"), ("own", "new"), ("stage", "old")]
    world.check("old")
    assert "did not come up 2 times" in world.state().reason


def test_where_grub_cannot_write_the_stage_counts(make: Make) -> None:
    world = make(counting="stage")
    arming.arm(world.site())
    world.boot()
    for _ in range(3):
        confirm_it(world)
        assert world.boot() == ("stage", "new"), "always by way of the stage"
        assert world.boot() == ("stage", "new")
    assert world.boot() == ("stage", "old")
    world.check("old")


def commit(world: World, free: bool = False, ignored: tuple[str, ...] = ()) -> list[Finding]:
    host = Host(world.places["/"])
    try:
        return moved.commit(world.site(), host, free, ignored)
    finally:
        host.close()


@pytest.mark.parametrize("counting", ["grub", "stage"])
@pytest.mark.parametrize("free", [False, True])
def test_committed(make: Make, counting: str, free: bool) -> None:
    world = make(counting=counting)
    arming.arm(world.site())
    world.boot()
    with pytest.raises(StateError, match="new system stands, the take-over is trying"):
        commit(world)
    confirm_it(world)
    assert commit(world, free) == []
    assert world.ran == [("update-grub",)]
    assert world.boot()[0] == "own" and world.name() == "new" and world.system() == "old", "the next one's old system"
    root, boot = Path(world.places["/"]), Path(world.top, world.config.directory)
    assert sorted(p.name for p in boot.iterdir()) == ["grub.cfg", "grubenv", "i386-pc"]
    assert (boot / "grub.cfg").read_text() == STOCK.replace("SYSTEM", "new")
    assert not list(root.rglob("*livelift-*")) and not list((root / ".livelift").glob("takeover*"))
    staged = Path(place_for(str(root)))
    assert staged.exists() != free
    if not free:
        assert world.sides() == world.before[::-1]


def confirmed_but(make: Make, monkeypatch: pytest.MonkeyPatch, finding: str, diagnosis: str) -> World:
    """The new system has confirmed, and this stands in the way of its own start."""
    world = make()
    arming.arm(world.site())
    world.boot()
    monkeypatch.setattr(moved, "wrong_menu", lambda host: [Finding(finding, Level.INHIBITOR, diagnosis)])
    confirm_it(world)
    return world


def test_a_menu_that_would_not_start_it_is_not_final(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = confirmed_but(make, monkeypatch, "probe-root", "its root is not here")
    for _ in range(4):
        assert world.boot() == ("stage", "new"), "by way of the stage, and not counted by GRUB"
        confirm_it(world)
    with pytest.raises(StateError, match=r"its root is not here \[probe-root\]"):
        commit(world)
    for _ in range(4):
        assert world.boot() == ("stage", "new")
    monkeypatch.setattr(moved, "wrong_menu", lambda host: [])
    commit(world)
    assert world.boot()[0] == "own" and world.name() == "new"


def test_an_initramfs_that_would_not_start_it_leaves_the_way_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = confirmed_but(make, monkeypatch, "probe-modules", "it lacks a driver")
    with pytest.raises(StateError, match=r"it lacks a driver \[probe-modules\]"):
        commit(world)
    assert world.ran == [], "no program of the new system has been run"
    moved.back(world.site())
    assert world.boot() == ("stage", "old")
    world.check("old")


@pytest.mark.parametrize("finding", ["probe-modules", "probe-squashed"])
def test_a_finding_that_the_operator_ignores(make: Make, monkeypatch: pytest.MonkeyPatch, finding: str) -> None:
    """Whether it is looked at before the commit begins or at its end."""
    world = confirmed_but(make, monkeypatch, finding, "nobody can tell")
    with pytest.raises(StateError, match="--ignore"):
        commit(world, ignored=("probe-other",))
    assert [found.id for found in commit(world, ignored=(finding,))] == [finding]
    assert world.boot()[0] == "own" and world.name() == "new"


def test_death_at_every_call_of_the_commit(make: Make, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new system starts whatever happens, and the commit can be made again."""
    at, finished = 0, False
    while not finished:
        world = make(counting="stage" if at % 2 else "grub")
        arming.arm(world.site())
        world.boot()
        confirm_it(world)
        finished = run_until(monkeypatch, at, lambda world=world: commit(world, True))
        if (Path(world.places["/"]) / ".livelift/takeover/config.json").exists():
            for _ in range(3):
                world.boot()
                assert world.name() == "new", at
                if world.system() == "new":
                    confirm_it(world)
            commit(world, True)
        assert world.boot()[0] == "own" and world.name() == "new"
        at += every
    assert at > 20


def test_over_again_after_it_came_back(make: Make) -> None:
    world = make()
    for _ in range(2):
        arming.arm(world.site())
        assert world.boot() == ("stage", "new")
        world.check("new")
        confirm_it(world)
        moved.back(world.site())
        assert world.boot() == ("stage", "old")
        world.check("old")
        with pytest.raises(StateError, match="would not lead back"):
            arming.arm(world.site())
        fit.fit_staged(place_for(world.top), world.config, world.top)


def test_the_operator_may_choose_the_way_back_in_the_menu(make: Make) -> None:
    for confirmed in (False, True):
        world = make()
        arming.arm(world.site())
        world.boot()
        if confirmed:
            confirm_it(world)
        assert world.stage("back").system == "old"
        world.check("old")
        assert "boot menu" in world.state().reason and world.leads_to() == "own"


def test_disarmed(make: Make) -> None:
    world = make()
    arming.arm(world.site())
    assert world.leads_to() == ""
    arming.disarm(world.site())
    assert world.boot() == ("own", "old")
    assert environment(Path(world.top, world.config.directory, "grubenv").read_text()) == {}
    assert world.stage().system == "old", "the stage's entry, chosen by hand, does nothing"
    world.check("old")


def test_disarmed_after_a_stage_that_was_cut_off(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """GRUB may not have seen the switch yet, and have started the old system: the reason is kept."""
    world = make()
    arming.arm(world.site())
    world.grub()
    with monkeypatch.context() as patch:
        patch.setattr(Stage, "_move", lambda *_: _power_cut())
        with pytest.raises(Death):
            world.stage()
    assert world.system() == "old" and world.state().phase == TRYING and world.mode() == "stage"
    arming.disarm(world.site())
    assert (world.state().phase, world.state().reason) == (RETURNED, INTERRUPTED)
    assert world.boot() == ("own", "old")
    world.check("old")


def _power_cut() -> None:
    raise Death


# death


def finish(world: World) -> str:
    """Boots until a system runs, as a machine does. Which one; it stands exactly, and the switch fits it."""
    for _ in range(4):
        how, system = world.boot()
        if how == "own" or system == "new":
            break
    world.check(system)
    if system == "old":
        assert (world.leads_to() in ("own", "") and world.boot() == ("own", "old")) or world.state().phase == "armed"
    return system


def test_death_at_every_call_on_the_way_over(make: Make, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    at, finished, ends = 0, False, []
    while not finished:
        world = make()
        arming.arm(world.site())
        assert world.leads_to() == ""
        world.grub()
        finished = run_until(monkeypatch, at, lambda world=world: world.stage())
        world.check_stale()
        system = finish(world)
        ends.append(system)
        if system == "new":
            assert world.leads_to() == "", "not confirmed"
            if at % 2:
                assert world.boot() == ("stage", "old")
                world.check("old")
            else:
                confirm_it(world)
                assert world.boot() == ("own", "new")
        else:
            assert world.boot() == ("own", "old")
        at += every
    assert at > 60 and ends.count("new") > 20 // every and ends.count("old") > 3 // every, (at, ends)


def test_death_at_every_call_on_the_way_back(make: Make, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by a confirmed system, or because it did not confirm."""
    at, finished = 0, False
    while not finished:
        world = make()
        arming.arm(world.site())
        world.boot()
        if at % 2:
            confirm_it(world)
            moved.back(world.site())
        world.grub()
        finished = run_until(monkeypatch, at, lambda world=world: world.stage())
        world.check_stale()
        assert finish(world) == "old", at
        assert world.boot() == ("own", "old")
        assert world.state().phase == RETURNED
        assert world.state().reason == "asked for" if at % 2 else "did not confirm" in world.state().reason
        at += every
    assert at > 60


def test_the_stage_dies_again_and_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice on the way over, then it has to go back, and dies on that way too."""
    for first in range(20, 120, 11):
        for second in range(15, 90, 13):
            world = make()
            arming.arm(world.site())
            world.grub()
            for at in (first, second, second):
                run_until(monkeypatch, at, lambda world=world: world.stage())
                world.check_stale()
            finish(world)


@pytest.mark.parametrize("call", ["arm", "disarm", "confirm", "back"])
def test_death_at_every_call_around_it(make: Make, every: int, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Whatever it leaves, the next boots lead to one system; and the call can be made again."""
    at, finished = 0, False
    while not finished:
        world = make()
        if call != "arm":
            arming.arm(world.site())
        if call in ("confirm", "back"):
            world.boot()
        if call == "back":
            confirm_it(world)
        actions: dict[str, Callable[[], object]] = {
            "arm": lambda world=world: arming.arm(world.site()),
            "disarm": lambda world=world: arming.disarm(world.site()),
            "confirm": lambda world=world: confirm_it(world),
            "back": lambda world=world: moved.back(world.site()),
        }
        finished = run_until(monkeypatch, at, actions[call])
        if at % 2:
            actions[call]()
            expected = {"arm": "new", "disarm": "old", "confirm": "new", "back": "old"}[call]
            assert world.boot()[1] == expected
            world.check(expected)
        else:
            system = finish(world)
            if call == "confirm" and system == "old":
                assert "did not confirm" in world.state().reason
        at += every
    assert at > 5


# trouble


def test_trouble_on_the_way_over_leads_on_with_the_old_system(make: Make) -> None:
    for what in ("guard", "open", "settle"):
        world = make()
        arming.arm(world.site())
        world.grub()
        hands = Hands(world)
        hands.failing = {what}
        if what == "settle":
            with pytest.raises(OSError, match="settle fails"):
                world.stage("", hands)
            world.check("old")
            continue
        assert world.stage("", hands).system == "old"
        world.check("old")
        assert world.state().phase == RETURNED and f"{what} fails" in world.state().reason
        assert world.boot() == ("own", "old")


def test_a_staged_system_that_is_gone_is_trouble(make: Make) -> None:
    world = make()
    arming.arm(world.site())
    world.grub()
    staged = Path(place_for(world.places["/"]))
    staged.rename(staged.parent / "gone")
    assert world.stage().system == "old"
    assert "No such file" in world.state().reason
    (staged.parent / "gone").rename(staged)
    world.check("old")
    assert world.boot() == ("own", "old")


def test_a_mixture_that_cannot_be_undone_is_not_started(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(30, 200):
        world = make()
        arming.arm(world.site())
        world.grub()
        run_until(monkeypatch, at, lambda world=world: world.stage())
        root, staged = Path(world.places["/"]), Path(place_for(world.places["/"]))
        if (root / "only-new").exists():
            break
    assert world.system() == "mixed"
    (root / "only-new").rename(root / ".livelift/aside")
    (root / "only-new").mkdir()
    (root / "only-new/name").write_text("foreign")
    with pytest.raises(Exception, match="only-new is not what the journal knows"):
        world.stage("back")
    assert world.system() == "mixed" and world.leads_to() == "", "the next boot tries again"
    (root / "only-new/name").unlink()
    (root / "only-new").rmdir()
    (root / ".livelift/aside").rename(root / "only-new")
    assert world.stage("back").system == "old"
    assert staged.is_dir()
    world.check("old")


def test_a_damaged_state(make: Make) -> None:
    for confirmed in (False, True):
        world = make()
        arming.arm(world.site())
        world.boot()
        if confirmed:
            confirm_it(world)
        Path(world.places["/"], ".livelift/takeover/state.json").write_bytes(b"{damaged")
        assert world.stage().system == "old", "the old system is the one that is known to run"
        world.check("old")
        records = Records(world.places["/"])
        state = records.state()
        records.close()
        assert state is not None and "missing or damaged" in state.reason

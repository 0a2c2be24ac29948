from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from livelift.capture.choose import MODES, Mode, choose, probe
from livelift.capture.fanotify import FanotifyCapture
from livelift.capture.inotify import InotifyCapture
from livelift.errors import PreflightError
from livelift.ports import Event, Synced, WatchedVolume
from tests.capture.conftest import volume_at
from tests.loopfs import loop_filesystem

pytestmark = [pytest.mark.root, pytest.mark.parametrize("file_system", ["ext4"], indirect=True)]


class Refused(FanotifyCapture):
    name = "refused"

    def start(self, volumes: Iterable[WatchedVolume], ignore: Callable[[bytes], bool]) -> None:
        raise PreflightError("not on this kernel", remedy="install another kernel")


class Blind(FanotifyCapture):
    """Attaches, starts, syncs, and reports nothing."""

    name = "blind"

    def read(self, timeout: float) -> list[Event]:
        return [event for event in super().read(timeout) if isinstance(event, Synced)]


BETTER = (Mode("refused", Refused), Mode("blind", Blind), *MODES)


@pytest.fixture
def volumes(volume: WatchedVolume, here: Path) -> list[WatchedVolume]:
    return [volume]


def test_the_best_mode_that_works_wins_and_says_why_not_the_others(volumes: list[WatchedVolume]) -> None:
    capture, choice = choose(volumes, modes=BETTER)
    assert isinstance(capture, FanotifyCapture)
    assert (choice.name, choice.promise) == ("fanotify", "converges; a cut needs the fence")
    reasons = dict(choice.rejected)
    assert reasons["refused"] == "not on this kernel"
    assert reasons["blind"].startswith("it did not report acl, allocate, append, chmod")
    assert "was seen (ext4)" in choice.why


def test_a_requested_mode_is_taken(volumes: list[WatchedVolume]) -> None:
    capture, choice = choose(volumes, "inotify")
    assert isinstance(capture, InotifyCapture)
    assert choice.promise == "converges by rescans; a cut needs the fence and a final scan"
    assert choice.rejected == ()


def test_a_requested_mode_that_does_not_work_is_refused_with_the_remedy(volumes: list[WatchedVolume]) -> None:
    with pytest.raises(PreflightError, match="not on this kernel") as caught:
        choose(volumes, "refused", modes=BETTER)
    assert caught.value.remedy == "install another kernel"
    with pytest.raises(PreflightError, match="no capture mode 'magic'"):
        choose(volumes, "magic")


def test_a_mode_that_tells_marks_instead_of_content_is_refused(volumes: list[WatchedVolume]) -> None:
    """What an in-kernel mode is whose programs do not fire: fanotify beside it still reports every file."""

    class Mute(FanotifyCapture):
        name = "mute"
        exact = ("write", "punch")

    with pytest.raises(PreflightError, match="it told no content of punch, write on"):
        choose(volumes, "mute", [Mode("mute", Mute)])


def test_a_mode_that_is_not_automatic_is_taken_only_by_name(volumes: list[WatchedVolume]) -> None:
    modes = (Mode("fanotify", FanotifyCapture, automatic=False), Mode("inotify", InotifyCapture))
    assert choose(volumes, modes=modes)[1].name == "inotify"
    assert choose(volumes, "fanotify", modes)[1].name == "fanotify"
    assert {mode.name for mode in MODES if mode.automatic} == {"fanotify", "inotify"}


def test_the_capture_for_the_job_may_be_another_than_the_canary_s(volumes: list[WatchedVolume]) -> None:
    """It leaves out the agent's own writes, which the canary makes."""

    class Serving(InotifyCapture):
        pass

    assert isinstance(choose(volumes, modes=[Mode("inotify", InotifyCapture, Serving)])[0], Serving)


def test_probe_lists_every_mode_in_order(volumes: list[WatchedVolume]) -> None:
    candidates = probe(volumes, BETTER)
    assert [(candidate.name, candidate.available) for candidate in candidates] == [
        ("refused", False),
        ("blind", False),
        ("fanotify", True),
        ("inotify", True),
    ]
    assert candidates[2].reports[0].missed == {"mmap", "inode-flags"}


def test_a_volume_that_cannot_be_written_is_told(volumes: list[WatchedVolume]) -> None:
    with loop_filesystem("ext4", 16, mount_options="ro") as path:
        _, choice = choose([*volumes, volume_at(path, "ext4", 2)])
    assert choice.name == "fanotify"
    assert f"not tried on {path} (ext4): Read-only file system, but on another volume of this type" in choice.why


def test_a_file_system_that_fanotify_refuses_leads_to_inotify(volumes: list[WatchedVolume]) -> None:
    _, choice = choose([volume_at(Path("/proc"), "proc")])
    assert choice.name == "inotify"
    assert "fanotify does not work on /proc" in dict(choice.rejected)["fanotify"]

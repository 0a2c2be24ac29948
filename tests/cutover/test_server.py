"""The steps of a whole server's cutover against a source and a target that write down every call: order, undo, and the
point of no return."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from livelift.cli import cutover as cutover_verb
from livelift.control.client import RemoteFailure
from livelift.cutover import server
from livelift.cutover.cutover import NO_HOOKS, Cutover
from livelift.cutover.server import ServerCutover
from livelift.errors import MismatchError, PreflightError, RetryError, StateError, UnreachableError
from livelift.lifecycle.states import State
from livelift.model.verdict import Verdict
from tests.cutover.test_cutover import EQUAL, Hooks, Scene

STEPS = ["prepare", "fence", "drain", "verify", "cut", "settle", "arm", "hand-over"]


class Server(Scene):
    """Source, fence and target in one. ``stale``: the target's answers, the last for ever."""

    def __init__(self, verdicts=(EQUAL,), fails: str = "", stale=(False,), moves=(), lost: str = "") -> None:
        super().__init__(verdicts, fails=fails)
        self.stale = list(stale)
        self.moves = list(moves)
        self.lost = lost
        self.handed: Any = None
        self.phase = "armed"
        self.blocked = False
        self.notes: list[str] = []
        self.attempts: set[str] = set()

    def prepare(self, deadline: float) -> None:
        self._call("prepare")

    def tell_facts(self, deadline: float) -> None:
        self._call("facts")

    def ask(self, verb: str, deadline: float, **options: Any) -> dict[str, Any]:
        if options:
            self.attempts.add(options["attempt"])
        if self.lost and self.calls and self.lost in self.calls:
            raise UnreachableError("the target: the link is down")
        self._call(verb)
        if verb == "stale":
            stale = self.stale.pop(0) if len(self.stale) > 1 else self.stale[0]
            return {"stale": stale, "why": ["/etc/fstab"] if stale else []}
        if verb == "standing":
            return {"system": "old", "phase": self.phase, "attempt": options["attempt"]}
        return {"moves": self.moves} if verb == "addresses" else {}

    def decisions(self):
        return []

    def check_block(self) -> None:
        self._call("check_block")

    def block(self, held) -> None:
        assert self.fenced
        self._call("block")
        self.blocked = True

    def down(self) -> None:
        super().down()
        self.blocked = False

    def move_addresses(self) -> None:
        assert self.handed
        self._call("addresses off")

    def target_address(self) -> str:
        return "192.0.2.50"

    def hand(self, handover: Any) -> None:
        self._call("hand")
        self.handed = handover
        self.move("hand")


def attempt(scene: Server, hook=NO_HOOKS) -> ServerCutover:
    return ServerCutover(scene, scene, "night", 100.0, 50.0, SimpleNamespace, ["/", "/var"], hook=hook)


def test_the_order_and_what_is_remembered_at_the_hand_over():
    scene = Server()
    cutover = attempt(scene)
    assert list(cutover.run()) == STEPS
    assert scene.calls == [
        *("facts", "stale", "install", "prepare", "stale", "check_block", "addresses"),
        *("ready", "up", "drain", "verify", "check", "cut", "settle", "check", "arm"),
        *("block", "check", "standing", "hand"),
    ]
    assert scene.state is State.HANDED
    assert scene.fenced and scene.blocked
    assert scene.handed.attempt == cutover.attempt and len(cutover.attempt) == 16
    assert scene.attempts == {cutover.attempt}
    assert list(scene.handed.seconds) == ["prepare", "ready", *STEPS[1:-1]]
    assert scene.handed.report["cut_lsn"] == 4711
    assert scene.handed.fenced <= scene.handed.handed
    cutover.handed_over()
    assert scene.calls[-1] == "addresses off"


@pytest.mark.parametrize(
    "fails",
    [
        *("facts", "stale", "install", "prepare", "check_block", "addresses", "ready", "up", "drain", "verify"),
        *("check", "cut", "settle", "arm", "block", "standing", "hand"),
    ],
)
def test_a_failure_at_any_point_before_the_hand_over_lets_the_workload_go_first_of_all(fails):
    scene = Server(fails=fails)
    with pytest.raises(RetryError, match=fails):
        list(attempt(scene).run())
    assert not scene.fenced and not scene.blocked
    assert scene.state is State.FOLLOWING
    assert scene.handed is None
    after = scene.calls[len(scene.calls) - scene.calls[::-1].index(fails) :]
    if "ready" not in scene.calls:
        assert after == [], "nothing was done, nothing is undone"
    else:
        assert after[0] == "down", "before the target is asked for anything"
        assert scene.fence_down_at - scene.failed_at < 1.0
    armed, settled = "arm" in scene.calls, "settle" in scene.calls
    assert after[1:] == ["disarm"] * armed + ["unsettle"] * settled


@pytest.mark.parametrize("lost", ["drain", "settle", "arm"])
def test_a_target_that_cannot_be_reached_delays_nothing(lost, caplog):
    """The link breaks for good: the workload goes on, and the target is not waited for."""
    scene = Server(fails="check" if lost == "drain" else "", lost=lost)
    with pytest.raises((UnreachableError, RetryError)):
        list(attempt(scene).run())
    assert not scene.fenced
    assert scene.state is State.FOLLOWING
    assert scene.calls[-1] == "down"
    if lost != "drain":
        assert "the target does it when it is greeted again" in caplog.text


def test_differences_end_it_as_they_do_for_data():
    scene = Server([differing((0, b"a"), (0, b"b"))])
    with pytest.raises(MismatchError, match="2 differences"):
        list(attempt(scene).run())
    assert "settle" not in scene.calls
    assert not scene.fenced


def test_an_adaptation_that_is_stale_is_made_again_before_the_fence():
    scene = Server(stale=[True, False])
    list(attempt(scene).run())
    assert scene.calls[:6] == ["facts", "stale", "adapt", "install", "prepare", "stale"]
    scene = Server(stale=[False, True, True, False])
    list(attempt(scene).run())
    assert scene.calls[: scene.calls.index("ready")].count("adapt") == 1
    assert scene.calls[: scene.calls.index("ready")].count("prepare") == 2


def test_a_source_that_keeps_changing_it_is_refused_unfenced():
    scene = Server(stale=[True])
    with pytest.raises(StateError, match=r"keeps changing .*: /etc/fstab"):
        list(attempt(scene).run())
    assert "up" not in scene.calls
    assert scene.calls.count("adapt") == server.ROUNDS
    assert scene.state is State.FOLLOWING


def test_an_address_by_which_the_target_is_reached_stands_in_the_way(monkeypatch):
    scene = Server(moves=[{"address": "192.0.2.7/24", "interface": "eth0"}])

    def refuse(held: Any, target: str) -> None:
        assert (held, target) == (("held",), "192.0.2.50")
        raise PreflightError("192.0.2.7 moves to the target")

    monkeypatch.setattr(server.addresses, "look", lambda moves: ("held",) if moves else ())
    monkeypatch.setattr(server.addresses, "check_path", refuse)
    with pytest.raises(PreflightError, match=r"192\.0\.2\.7"):
        list(attempt(scene).run())
    assert "up" not in scene.calls


def test_no_time_left_is_no_hand_over():
    scene = Server()
    ticks = [0.0]

    def clock() -> float:
        return ticks[0]

    cutover = ServerCutover(scene, scene, "night", 100.0, 50.0, SimpleNamespace, clock=clock)
    with pytest.raises(StateError, match="no time is left"):
        for name in cutover.run():
            if name == "hand-over":
                ticks[0] = 51.0
    assert not scene.fenced
    assert scene.state is State.FOLLOWING


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_hooks_fail_a_step_until_the_hand_over_and_nothing_after_it(step, when, caplog):
    scene = Server()
    hooks = Hooks(scene, f"{step}.{when}")
    cutover = attempt(scene, hooks)
    if (step, when) == ("hand-over", "after"):
        list(cutover.run())
        assert "hand-over.after" not in scene.calls
        cutover.told("hand-over", "")
        assert scene.calls[-1] == "hand-over.after"
        assert scene.state is State.HANDED and scene.fenced
        assert scene.notes == ["hook hand-over.after"]
        return
    with pytest.raises(Exception, match=f"hook {step}.{when}"):
        list(cutover.run())
    assert not scene.fenced
    assert scene.state is State.FOLLOWING
    assert scene.calls[-1] == "abort.after"


@pytest.mark.parametrize("step", STEPS[2:])
def test_the_operator_goes_away_while_fenced(step):
    scene = Server()
    going = attempt(scene).run()
    while next(going) != step:
        pass
    assert scene.fenced
    going.close()
    assert not scene.fenced
    assert scene.state is State.FOLLOWING


def test_the_preview_asks_and_changes_nothing():
    scene = Server(stale=[True])
    shown = attempt(scene).preview()
    assert shown["would"] == STEPS
    assert shown["stale"] == ["/etc/fstab"]
    assert set(scene.calls) <= {"facts", "check_block", "addresses", "stale"} and not shown["busy"]
    assert isinstance(attempt(scene), Cutover)


def test_a_preview_while_the_target_adapts(monkeypatch):
    """It tells what it knows: an adaptation takes minutes."""
    scene = Server(stale=[True])

    def busy(verb: str, deadline: float, **options: Any) -> dict[str, Any]:
        raise RemoteFailure("target: the target is busy with adapt", "locked", 8, {})

    monkeypatch.setattr(scene, "ask", busy)
    shown = attempt(scene).preview()
    assert shown["busy"] == "target: the target is busy with adapt" and shown["would"] == STEPS
    assert shown["stale"] == [] and shown["addresses"] == []
    assert "busy with adapt: not known yet" in cutover_verb._preview(shown)
    monkeypatch.setattr(scene, "check_block", _refuse)
    with pytest.raises(PreflightError):
        attempt(scene).preview()


def _refuse() -> None:
    raise PreflightError("/etc cannot be written")


@pytest.mark.parametrize("phase", ["idle", "returned", "going", ""])
def test_nothing_is_handed_to_a_target_that_is_not_armed(phase):
    scene = Server()
    scene.phase = phase
    with pytest.raises(StateError, match="the target is not armed"):
        list(attempt(scene).run())
    assert scene.handed is None
    assert not scene.fenced


def differing(*places: tuple[int, bytes]) -> Verdict:
    found = [SimpleNamespace(map=number, path=path) for number, path in places]
    return Verdict(len(found), [f"{path!r}: content" for _, path in places], {"paths": 9}, found)


def test_what_must_live_may_write_its_logs_and_is_named():
    """A public machine's sshd notes a failed login every second: no cut would ever be made."""
    scene = Server([differing((1, b"log/btmp"), (1, b"log/wtmp"))])
    cutover = attempt(scene)
    list(cutover.run())
    assert "repair" not in scene.calls
    assert cutover.notes == ["differs, as what must live writes it: /var/log/btmp, /var/log/wtmp"]
    assert scene.handed.report["living"] == ["/var/log/btmp", "/var/log/wtmp"]


def test_everything_else_is_read_again_and_refused():
    other = differing((1, b"log/btmp"), (0, b"srv/data"), (1, b"log/btmp.old"))
    scene = Server([other])
    with pytest.raises(MismatchError) as found:
        list(attempt(scene).run())
    assert "2 differences: b'srv/data': content; b'log/btmp.old': content" in str(found.value)
    assert scene.handed is None

"""The hook's own judgement, when the private Python does not run: run by real shells, on every state of a swap."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from livelift.takeover.hooks import WRAPPER
from livelift.takeover.records import CONFIRMED, TRYING, State, render_state
from livelift.takeover.stage_main import python_words
from livelift.takeover.swap_journal import State as SwapState
from livelift.takeover.swap_journal import render_state as render_swap

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def run(shell: str, root: Path, python: str) -> tuple[int, str]:
    """Exit code and output; what would reboot or sleep says so instead."""
    text = WRAPPER.replace(" ".join(python_words()), python)
    for word in ("sleep", "/dev/kmsg", "/proc/sysrq-trigger"):
        assert word in text
    text = text.replace("sleep ", "echo sleeps ").replace(">/dev/kmsg", "").replace(">/proc/sysrq-trigger", ">&2")
    script = root / "hook"
    script.write_text(text)
    words = [shell, "sh", script, root] if shell == "busybox" else [shell, script, root]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=20)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_a_stage_that_says_go_on(shell: str, tmp_path: Path) -> None:
    assert run(shell, tmp_path, "true") == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("state", "phase", "expected"),
    [
        (None, None, 0),
        (SwapState(1, "forward", True, "new", ("/",)), None, 0),
        (SwapState(1, "back", True, "old", ("/",)), None, 0),
        (SwapState(1, "forward", False, "old", ("/",)), TRYING, 1),
        (SwapState(1, "back", False, "old", ("/",)), CONFIRMED, 1),
        (SwapState(1, "forward", True, "old", ("/",)), TRYING, 1),
        (SwapState(1, "forward", True, "old", ("/",)), CONFIRMED, 0),
        (SwapState(1, "forward", True, "old", ("/",)), None, 1),
    ],
)
def test_a_python_that_does_not_run(
    shell: str, tmp_path: Path, state: SwapState | None, phase: str | None, expected: int
) -> None:
    if state is not None:
        (tmp_path / ".livelift/swap").mkdir(parents=True)
        (tmp_path / ".livelift/swap/state").write_bytes(render_swap(state))
        assert (state.standing == "old" and state.settled) <= (expected == 0)
    if phase is not None:
        (tmp_path / ".livelift/takeover").mkdir(parents=True)
        (tmp_path / ".livelift/takeover/state.json").write_bytes(render_state(State(phase, reason='"confirmed" {}')))
    code, said = run(shell, tmp_path, "false")
    assert code == expected
    assert ("may not be started" in said and "\nb\n" in said) == bool(expected)

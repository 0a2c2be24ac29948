"""Peers that are gone, too new, or of another mind; see `tests.system.refusals`."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from livelift.protocol.messages import PROTOCOL
from tests.oracle.compare import assert_equal
from tests.oracle.pair import ROOT, LivePair
from tests.system.refusals import expect, livelift, source_fails

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]


def test_a_dead_peer(trees: tuple[Path, Path], tmp_path: Path) -> None:
    nobody = livelift(
        "source", "--pair", "K3M9X-7QWTP", "127.0.0.1:9", "--state", tmp_path / "s", "--map", f"{trees[0]}={trees[1]}"
    )
    expect(nobody, 7, "Connection refused", "port open")
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        pair.kill9("target")
        (trees[0] / "later").write_bytes(b"later")
        state = pair.states["source"]
        deadline = time.monotonic() + 10
        while "refused" not in (shown := livelift("status", "--state", state).out):  # after the first try to reconnect
            assert time.monotonic() < deadline, shown
            time.sleep(0.1)
        assert "stalled(" in shown
        expect(livelift("status", "--state", pair.states["target"]), 7, "agent in", "is it running")
        pair.restart("target")
        pair.wait_following()
        pair.cutover()
    assert_equal(*trees)


def newer_release(directory: Path) -> dict[str, str]:
    """A copy of this release that speaks the next major protocol."""
    code = shutil.copytree(ROOT / "livelift", directory / "livelift", ignore=shutil.ignore_patterns("__pycache__"))
    messages = code / "protocol/messages.py"
    text = messages.read_text()
    changed = text.replace(f"PROTOCOL: Final = {PROTOCOL}", f"PROTOCOL: Final = {(PROTOCOL[0] + 1, 0)}")
    assert changed != text
    messages.write_text(changed)
    return {"PYTHONPATH": str(directory)}


def test_another_version(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    env = newer_release(tmp_path / "newer")
    waiting = targets(trees)
    words = ("--state", str(tmp_path / "s"), "--map", f"{trees[0]}={trees[1]}")
    run_newer = (sys.executable, "-P", "-m", "livelift")  # -P: not the checkout in the working directory
    done = livelift("source", "--pair", waiting.code, f"127.0.0.1:{waiting.port}", *words, prefix=run_newer, env=env)
    expect(done, 1, "version:", "same Livelift release on both machines")
    waiting.agent.stop()
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        pair.agents["source"].stop()
        done = livelift("source", "--state", pair.states["source"], prefix=run_newer, env=env)
        expect(done, 1, "version:", "same Livelift release on both machines")
        pair.restart("source")  # the right release goes on where it was
        pair.wait_following()


def test_different_maps_on_both_sides(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    waiting = targets(trees)
    done = source_fails(waiting, tmp_path / "s", (trees[0], tmp_path / "elsewhere"))
    expect(done, 2, "different directory mappings", "livelift remove")

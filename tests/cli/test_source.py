"""``livelift source``: what is given once, what may be given again, and that looking changes nothing."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import pytest

from livelift.cli.main import main
from livelift.cli.target import _write_code
from livelift.identity.pairing import Paired
from livelift.model.job import Map
from livelift.protocol.messages import Peer
from livelift.source.config import SourceConfig, load


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    maps = (Map(b"/srv", b"/srv", (b"*.tmp",)),)
    SourceConfig(os.fsencode(directory), "0123", "old", 1, maps, bandwidth="5M").save()
    return directory


def test_dry_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"1")
    before = sorted(tmp_path.rglob("*"))
    code = main(["source", "--dry-run", "--json", "--map", f"{tree}=/x", "--state", str(tmp_path / "state")])
    findings = json.loads(capsys.readouterr().out)
    assert code == 0 and findings["inhibitors"] == 0
    assert "capture" in [f["id"] for f in findings["findings"]]
    assert sorted(tmp_path.rglob("*")) == before
    assert main(["source", "--dry-run", "--map", f"{tmp_path}/none=/x", "--state", str(tmp_path / "state")]) == 3
    assert "source-missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--map", "/other=/x"], "another directory mapping"),
        (["--map", "/srv=/srv"], "other exclusions"),
        (["--exclude", "*.log"], "exclusions of a job cannot be changed"),
        (["--bandwidth", "fast"], "bandwidth limit"),
    ],
)
def test_a_job_keeps_its_mapping(
    state: Path, words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (state / "source.json").read_bytes()
    assert main(["source", "--state", str(state), *words]) == 2
    assert text in capsys.readouterr().err
    assert (state / "source.json").read_bytes() == before


def test_options_of_a_later_start_replace_those_of_the_job(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[SourceConfig] = []
    monkeypatch.setattr("livelift.cli.source._serve", lambda options, config: served.append(config) or 0)
    words = ["new:9", "--bandwidth", "08:00-18:00=1M,off", "--lanes", "4", "--memory", "32M", "--no-idle-priority"]
    # A word before the options is the address, as at the first start.
    assert main(["source", *words, "--state", str(state)]) == 0
    config = load(os.fsencode(state))
    assert served == [config]
    assert (config.host, config.port, config.lanes, config.spool_memory) == ("new", 9, 4, 32 << 20)
    assert (config.bandwidth, config.idle_priority) == ("08:00-18:00=1M,off", False)
    assert (config.capture, config.spool_cap) == ("auto", 1 << 30), "what was not given stays"
    assert main(["source", "--state", str(state)]) == 0
    assert load(os.fsencode(state)) == config


@pytest.mark.parametrize("words", [["--lanes", "0"], ["--spool-cap", "-1"], ["--memory", "much"], ["--readers", "x"]])
def test_nonsense_is_a_usage_error(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["source", "--state", str(tmp_path / "none"), *words])
    assert caught.value.code == 2
    assert not (tmp_path / "none").exists()


def test_the_first_start_needs_all_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["source", "--state", str(tmp_path / "none")]
    assert main(words) == 2
    assert "pair first" in capsys.readouterr().err
    assert main([*words, "--pair", "K3M9X-7QWTP"]) == 2
    assert "HOST:PORT and at least one --map" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_the_code_comes_from_standard_input_and_the_job_is_made_without_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[object] = []
    grant = Paired(Peer("0123", "source"), ())
    monkeypatch.setattr("livelift.cli.source.pair", lambda *words: given.extend(words) or grant)
    monkeypatch.setattr("livelift.cli.source._serve", lambda options, config: pytest.fail("it serves"))
    monkeypatch.setattr("sys.stdin", io.StringIO("K3M9X-7QWTP\nmore\n"))
    (tmp_path / "tree").mkdir()
    words = ["source", "--pair", "-", "--pair-only", "new:9", "--map", f"{tmp_path}/tree=/x", "--json"]
    assert main([*words, "--state", str(tmp_path / "state")]) == 0
    assert json.loads(capsys.readouterr().out) == {"event": "paired", "job": "0123"}
    assert given[:4] == ["new", 9, "K3M9X-7QWTP", "source"]
    assert load(os.fsencode(tmp_path / "state")).job == "0123"


def test_the_target_writes_its_code_for_its_own_user_only(tmp_path: Path) -> None:
    path = tmp_path / "code"
    (tmp_path / "code.new").write_text("of a start that was killed")
    _write_code(str(path), "K3M9X-7QWTP")
    assert path.read_text() == "K3M9X-7QWTP\n" and stat.S_IMODE(path.stat().st_mode) == 0o600
    _write_code(str(path), "")
    assert os.listdir(tmp_path) == []

"""The block of a machine that has handed over, in a directory of the test's own, and by systemd's own reading of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from livelift.cutover import block
from livelift.errors import PreflightError, StateError

ACTIVE = ["ssh.service", "networking.service", "nginx.service", "pg@15.service", "dbus.socket", "cron.service"]
COMMAND = ["/srv/a b/livelift-agent", "source", "--state", '/var/lib/50%/"x"$HOME']


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / block.PLACE).mkdir(parents=True)
    return tmp_path


def names(root: Path) -> list[str]:
    return sorted(os.listdir(root / block.PLACE))


@pytest.mark.parametrize("default", ["/lib/systemd/system/graphical.target", ""])
def test_put_and_lifted_without_a_trace(root, default):
    link = root / block.PLACE / "default.target"
    if default:
        link.symlink_to(default)
    before, kept = names(root), block.look(str(root))
    assert kept == block.Block(default, str(root))
    for _ in range(2):  # once more is no trouble
        block.put(COMMAND, {}, ACTIVE, [("192.0.2.7/24", "eth0")], str(root))
        assert block.is_up(str(root))
        assert os.readlink(link) == block.TARGET
    assert not [name for name in names(root) if name.endswith("-new")]
    for _ in range(2):
        block.lift(kept)
        assert names(root) == before
        assert not block.is_up(str(root))
    assert block.look(str(root)) == kept


def test_only_what_must_live_is_wanted(root):
    block.put(COMMAND, {}, ACTIVE, (), str(root))
    text = (root / block.PLACE / block.TARGET).read_text()
    wants = next(line for line in text.splitlines() if line.startswith("Wants="))
    assert wants == "Wants=ssh.service networking.service dbus.socket livelift-handed.service"
    assert block.ADDRESSES not in names(root)


def test_what_an_operator_has_set_since_is_his(root):
    kept = block.look(str(root))
    block.put(COMMAND, {}, ACTIVE, (), str(root))
    os.unlink(root / block.PLACE / "default.target")
    (root / block.PLACE / "default.target").symlink_to("rescue.target")
    block.lift(kept)
    assert names(root) == ["default.target"]
    assert os.readlink(root / block.PLACE / "default.target") == "rescue.target"


def test_a_default_target_that_is_a_file_is_refused(root):
    (root / block.PLACE / "default.target").write_text("[Unit]\n")
    with pytest.raises(StateError, match="not a symbolic link"):
        block.look(str(root))


@pytest.mark.parametrize("word", ["systemd.unit=multi-user.target", "3", "single"])
def test_a_command_line_that_names_a_target_stands_in_the_way(word):
    block.check("root=UUID=3 ro quiet console=ttyS0 root=/dev/sda3")
    with pytest.raises(PreflightError, match=word):
        block.check(f"ro {word} quiet")


def test_systemd_reads_it_as_it_is_meant(root, tmp_path):
    """systemd-analyze verify loads the units as the manager would; what it complains about is an error of ours."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze(1)")
    place = root / block.PLACE
    command = ["/bin/true", *COMMAND[1:]]
    block.put(command, {"LIVELIFT_CACHE": "/a b%"}, [], [("192.0.2.7/24", "eth0")], str(root))
    (place / "ssh.service").write_text("[Service]\nExecStart=/bin/true\n")
    units = [str(place / name) for name in (block.TARGET, block.AGENT, block.ADDRESSES)]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{place}:"},
        capture_output=True,
        text=True,
    )
    said = [line for line in done.stderr.splitlines() if "livelift" in line]
    assert done.returncode == 0 and not said, done.stderr


def test_retired_it_still_blocks_and_nothing_starts_the_agent(root):
    block.put(COMMAND, {}, ACTIVE, [("192.0.2.7/24", "eth0")], str(root))
    block.retire(str(root))
    assert block.is_up(str(root))
    assert block.AGENT not in names(root)
    text = (root / block.PLACE / block.TARGET).read_text()
    assert "Wants=ssh.service networking.service dbus.socket livelift-handed-addresses.service" in text
    block.lift(block.Block("", str(root)))
    assert names(root) == []

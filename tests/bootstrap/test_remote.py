"""What runs on the machines, run here: what it looks at, places and sweeps, and an agent as a systemd unit."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from livelift.bootstrap import remote
from livelift.bootstrap.remote import Machine
from livelift.bootstrap.ssh import Remote, command
from livelift.errors import UsageError


def machine(state: Path, stream: bytes = b"", side: str = "target", **request: Any) -> Machine:
    return Machine({"state": str(state), "side": side, "directories": [], **request}, io.BytesIO(stream))


def test_the_text_runs_by_itself_with_the_constant_command(tmp_path: Path) -> None:
    """As ssh starts it, through shells of several kinds, with names that no shell could be given."""
    state = tmp_path / "a'b\"c$(touch pwned) \n;d"
    code = Path(remote.__file__).read_bytes()
    request = json.dumps({"op": "look", "state": str(state), "side": "source", "directories": ["/nö", "/"]}).encode()
    env = {"PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin"}
    for shell in ("sh", "bash"):
        done = subprocess.run(
            [shell, "-c", command(False)],
            input=b"%d\n%s%s\n" % (len(code), code, request),
            capture_output=True,
            env=env,
        )
        found = json.loads(done.stdout)
        assert (found["agent"], found["job"], found["running"], found["missing"]) == ("", "", False, ["/nö"])
        assert found["uid"] == os.geteuid() and found["free"] > 0
    assert os.listdir(tmp_path) == []
    assert not Path("pwned").exists()
    assert "!" not in command(True).replace("!=", ""), "csh"


def test_no_python_is_told_by_the_exit_code(tmp_path: Path) -> None:
    if os.access("/usr/local/bin/python3", os.X_OK):
        pytest.skip("this machine has a Python that is found without PATH")
    done = subprocess.run(["/bin/sh", "-c", command(False)], stdin=subprocess.DEVNULL, env={"PATH": str(tmp_path)})
    assert done.returncode == 69


def test_what_arrives_damaged_is_not_placed(tmp_path: Path) -> None:
    state = tmp_path / "base/job.target"
    content = os.urandom(3000)
    digest = hashlib.sha256(content).hexdigest()
    machine(state, content, size=3000, digest=digest).place()
    agent = state / "livelift-agent"
    assert agent.read_bytes() == content and machine(state).digest() == digest
    assert [stat.S_IMODE(path.stat().st_mode) for path in (state, agent)] == [0o700, 0o700]
    with pytest.raises(OSError, match="not arrive whole"):
        machine(state, content[:-1] + b"?", size=3000, digest=digest).place()
    with pytest.raises(EOFError):
        machine(state, content[:100], size=3000, digest=digest).place()
    assert agent.read_bytes() == content, "the old one stays"
    assert machine(state).sweep() == {"left": []} and not state.exists() and (tmp_path / "base").exists()


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    with pytest.raises(PermissionError, match="only this user can write"):
        machine(state).own()
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        machine(link).own()


def test_only_what_is_ours_is_swept(tmp_path: Path) -> None:
    state = tmp_path / "livelift/job.source"
    state.mkdir(parents=True)
    (state / "mine").write_text("precious")
    (state / "code").write_text("x")
    assert machine(state, side="source").sweep() == {"left": [str(state / "mine")]}
    assert os.listdir(state) == ["mine"]
    (state / "source.json").write_text('{"job": "1"}')
    with pytest.raises(OSError, match="holds a job"):
        machine(state, side="source").sweep()
    (state / "source.json").unlink()
    (state / "mine").unlink()
    assert machine(state, side="source").sweep() == {"left": []}
    assert os.listdir(tmp_path) == []


FAKE_AGENT = """#!/usr/bin/env python3
import os, socket, sys, time
state = sys.argv[sys.argv.index("--state") + 1]
open(state + "/seen", "w").write(os.environ["LIVELIFT_CACHE"] + "\\n" + "\\n".join(sys.argv[1:]))
if "fail" in sys.argv:
    sys.exit("it cannot: last words")
os.chdir(state)
door = socket.socket(socket.AF_UNIX)
door.bind("control.sock")
door.listen()
time.sleep(0.3)
open("code", "w").write("CODE\\n")
for _ in range(20):
    client, _ = door.accept()
    client.recv(100)
    client.sendall(b'{"role": "target", "paired": false}\\n')
    client.close()
"""
SYSTEMD_RUN = """#!/bin/sh
echo "$@" >{log}
for word; do
    shift
    case $word in --setenv=*) export "${{word#--setenv=}}" ;; --) break ;; esac
done
setsid "$@" >{out} 2>&1 </dev/null &
echo $! >{pid}
"""
SYSTEMCTL = """#!/bin/sh
[ "$1" = is-active ] || exit 0
case $(cut -d' ' -f3 "/proc/$(cat {pid})/stat") in ""|Z) echo inactive ;; *) echo active ;; esac 2>/dev/null
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the child is to outlive its parent
@pytest.mark.parametrize("systemd", [False, True])
def test_an_agent_is_started_and_outlives_the_helper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, systemd: bool
) -> None:
    """systemd-run and systemctl are stand-ins here: they show what is asked of systemd, not what it does."""
    state, tools = tmp_path / "state", tmp_path / "tools"
    state.mkdir()
    tools.mkdir()
    paths = {name: tmp_path / name for name in ("log", "out", "pid")}
    for name, text in (
        ("systemd-run", SYSTEMD_RUN.format(**paths)),
        ("systemctl", SYSTEMCTL.format(**paths)),
        ("journalctl", f"#!/bin/sh\ncat {paths['out']}\n"),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{sys.base_prefix}/bin:{os.environ['PATH']}")
    (state / "livelift-agent").write_text(FAKE_AGENT)
    (state / "livelift-agent").chmod(0o755)
    (state / "code").write_text("of an earlier start")
    start = {"systemd": systemd, "unit": "livelift-x-target.service"}
    answer = machine(state, arguments=["--map", "a b=c;d"], **start).start()
    assert answer == {"status": {"role": "target", "paired": False}}
    assert machine(state).code() == {"code": "CODE"}, "not the stale one"
    cache, *words = (state / "seen").read_text().splitlines()
    assert cache == str(state / "cache") and words == ["target", "--state", str(state), "--map", "a b=c;d"]
    if systemd:
        asked = paths["log"].read_text()
        assert "--unit=livelift-x-target.service --collect" in asked and "--property=Restart=on-abnormal" in asked
    for _ in range(30):  # its door closes when it ends
        if machine(state).status() is None:
            break
        time.sleep(0.02)
    (state / "control.sock").unlink()
    answer = machine(state, arguments=["fail"], **start).start()
    assert "the target agent ended" in answer["error"] and "last words" in answer["error"]


@pytest.mark.parametrize("destination", ["", "-oProxyCommand=true", "root@a b", "root@a\n"])
def test_what_is_no_destination(destination: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not USER@HOST"):
        Remote("source", destination, "/state", tmp_path)

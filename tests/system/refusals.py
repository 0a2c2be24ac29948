"""For the tests of what operators and machines do wrong (test_bad_*.py): each ends with the right exit code, words that
says what to do, and nothing half done. Whole agents as processes; files are few and small."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.oracle.pair import LIVELIFT, Agent, LivePair, environment

MIB = 1 << 20


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def error(self) -> dict[str, object]:
        """The JSON object of the error: the last line of stdout."""
        value: dict[str, object] = json.loads(self.out.splitlines()[-1])
        return value


def livelift(*words: object, prefix: tuple[str, ...] = LIVELIFT, env: dict[str, str] | None = None) -> Done:
    done = subprocess.run(
        [*prefix, *map(str, words)],
        env={**environment(), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def expect(done: Done, code: int, *words: str) -> None:
    """The exit code, the words in what the operator reads, a remedy, and no traceback."""
    assert done.code == code, f"exit {done.code}, not {code}\n{done.out}\n{done.err}"
    for word in (*words, "what to do:"):
        assert word in done.err, f"{word!r} is not in\n{done.err}"
    assert "Traceback" not in done.err, done.err


class Waiting(NamedTuple):
    """A target that waits for its source."""

    agent: Agent
    state: Path
    code: str
    port: int


def source_fails(waiting: Waiting, state: Path, *maps: tuple[object, object], words: tuple[str, ...] = ()) -> Done:
    arguments: list[object] = ["source", "--pair", waiting.code, f"127.0.0.1:{waiting.port}", "--state", state, *words]
    for one, other in maps:
        arguments += ["--map", f"{one}={other}"]
    return livelift(*arguments)


def agent_of(pair: LivePair, side: str) -> Done:
    """Run an agent of the pair in the foreground: it is expected to end by itself."""
    return livelift(side, "--state", pair.states[side])  # type: ignore[index]

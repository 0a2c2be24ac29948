"""What operators and machines do wrong with codes and certificates; see `tests.system.refusals`."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from livelift.identity import ca
from tests.oracle.compare import assert_equal
from tests.oracle.pair import Agent, LivePair
from tests.system.refusals import agent_of, expect, livelift, source_fails

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]


def wrong(code: str) -> str:
    return ("0" if code[0] != "0" else "1") + code[1:]


def test_pairing_codes(trees: tuple[Path, Path], targets, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Wrong: refused, with the tries left; a typing mistake costs none; after five even the right one is void."""
    waiting = targets(trees)
    state = tmp_path / "source"
    typo = waiting._replace(code="K3M9")
    expect(source_fails(typo, state, trees), 9, "not a pairing code", "ten characters")
    for left in (4, 3, 2, 1):
        bad = waiting._replace(code=wrong(waiting.code))
        expect(source_fails(bad, state, trees), 9, "wrong pairing code", f"{left} tries left")
    expect(source_fails(bad, state, trees), 9, "the code is void now", "--new-code")
    expect(source_fails(waiting, state, trees), 9, "--new-code")
    assert not (state / "source.json").exists()
    assert not (state / "identity").exists()
    waiting.agent.check_alive()
    waiting.agent.stop()
    # The remedy works.
    again = targets(state=waiting.state, words=("--new-code",))
    source = Agent(
        "source",
        [
            *("source", "--pair", again.code, f"127.0.0.1:{again.port}", "--json", "--state", str(state)),
            *("--map", f"{trees[0]}={trees[1]}"),
        ],
        tmp_path / "paired.json",
    )
    try:
        source.wait_event(lambda e: e.get("event") == "started", 20)
        # Used: nobody else gets in with it.
        expect(source_fails(again, tmp_path / "second", trees), 9, "code was used", "--new-code")
    finally:
        source.stop()


def expire(identity: Path, authority: Path) -> None:
    """The leaf in ``identity`` becomes one that ended yesterday, signed by the job's own authority."""
    key = ca.load_key((identity / ca.LEAF).read_bytes())
    job = json.loads((authority.parent / "job.json").read_text())["id"]
    past = datetime.datetime.now(datetime.UTC) - ca.LEAF_LIFE - datetime.timedelta(days=1)
    signer = ca.load_authority(authority, job)
    certificate = signer.sign(ca.make_request(key), "source", past)
    ca.save_leaf(identity, key, certificate, signer.der)


def test_an_expired_certificate_and_its_remedy(trees: tuple[Path, Path], tmp_path: Path) -> None:
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        pair.agents["source"].stop()
        expire(pair.states["source"] / "identity", pair.states["target"] / "identity")
        expect(agent_of(pair, "source"), 9, "expired", "--new-code")
        pair.agents["target"].stop()
        pair._spawn("target", ["--listen", "127.0.0.1:0", "--new-code"])
        event = pair.agents["target"].wait_event(lambda e: e.get("event") == "pairing", 20)
        # A wrong code leaves the job as it is.
        words = ("--state", str(pair.states["source"]))
        expect(
            livelift("source", "--pair", wrong(event["code"]), f"127.0.0.1:{event['port']}", *words), 9, "4 tries left"
        )
        assert not (pair.states["source"] / "identity.new").exists()
        (trees[0] / "while nobody watched").write_bytes(b"x")
        pair._spawn("source", ["--pair", event["code"], f"127.0.0.1:{event['port']}"])
        pair.wait_following()
        pair.cutover()
    assert_equal(*trees)


def test_a_certificate_of_another_job(trees: tuple[Path, Path], tmp_path: Path) -> None:
    with LivePair([trees], tmp_path / "pair") as pair:
        pair.wait_following()
        pair.agents["source"].stop()
        identity = pair.states["source"] / "identity"
        job = json.loads((pair.states["target"] / "job.json").read_text())["id"]
        stranger = ca.create_authority(job, datetime.datetime.now(datetime.UTC))
        key = ca.new_key()
        certificate = stranger.sign(ca.make_request(key), "source", datetime.datetime.now(datetime.UTC))
        ca.save_leaf(identity, key, certificate, stranger.der)
        expect(agent_of(pair, "source"), 9, "pair the two machines again")
        pair.agents["target"].check_alive()

from __future__ import annotations

from livelift.adapt.changes import MakeLink, WriteFile
from livelift.adapt.linux.agent_unit import LINK, PATH, render, with_agent
from livelift.adapt.linux.case import Policy
from livelift.adapt.linux.moves import moves
from livelift.adapt.plan import Plan
from tests.machines import change, debian_source, debian_target


def test_words_are_quoted_as_systemd_reads_them() -> None:
    text = render(("/a b/agent", "target", "--map=/x=/100%", 'say "$it"\\'))
    assert 'ExecStart=/bin/sh "/a b/agent" target --map=/x=/100%% "say \\"$$it\\"\\\\"\n' in text
    assert 'Environment="LIVELIFT_CACHE=/a b/cache"\n' in text


def test_the_moved_system_gets_the_targets_unit_enabled() -> None:
    plan = with_agent(Plan("p"), b"[Service]\n")
    assert [edit.change for edit in plan.edits] == [
        WriteFile(PATH, b"[Service]\n", 0o644),
        MakeLink(LINK, f"/{PATH}"),
    ]
    (finding,) = with_agent(Plan("p"), None).findings
    assert finding.id == "agent-unit" and "--install" in finding.remedy


def test_static_addresses_move_with_take_source_and_no_others() -> None:
    source, target = debian_source(), debian_target()
    (lo, nic) = source.interfaces
    known = ("192.0.2.10/24", "2001:db8::10/64", "2001:db8::abcd/64", "fe80::1/64")
    with_more = change(nic, addresses=known, dynamic=True, leased=("2001:db8::abcd/64",))
    source = change(source, interfaces=(lo, with_more))
    assert moves(source, target, Policy()) == ()
    taken = Policy(network="take-source")
    assert moves(source, target, taken) == (("192.0.2.10/24", "ens3"), ("2001:db8::10/64", "ens3"))
    dynamic = change(source, interfaces=(lo, change(with_more, leased=known)))
    assert moves(dynamic, target, taken) == ()

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livelift.model.job import Map
from livelift.verify import scan
from livelift.walk.ignore import BARE, FULL, OURS, SKIP, IgnoreRules

PLAIN = (Map(b"/srv", b"/r"), Map(b"/home", b"/h"))
PATTERNS = (Map(b"/srv", b"/r", (b"*.tmp", b"cache/", b"log/*"), (b"keep.tmp",)), Map(b"/home", b"/h"))


def test_the_numbers_are_those_of_the_verification():
    assert (int(scan.Scope.FULL), int(scan.Scope.SKIP), int(scan.Scope.BARE)) == (FULL, SKIP, BARE)


def test_our_own_directory_is_left_out_at_each_root_only():
    rules = IgnoreRules(PLAIN)
    assert rules.scope_of(0, OURS) == rules.scope_of(1, OURS) == SKIP
    assert rules.scope_of(0, b"sub/" + OURS) == FULL
    assert rules.scope_of(0, b"anything") == rules.scope_of(0, b"") == FULL


def test_mounts_are_bare_and_the_agents_directories_are_skipped():
    rules = IgnoreRules(PLAIN, bare=[(0, b"proc")], own=[(1, b"state")])
    assert rules.scope_of(0, b"proc") == BARE
    assert rules.scope_of(1, b"state") == SKIP
    assert rules.scope_of(1, b"proc") == rules.scope_of(0, b"state") == FULL


def test_patterns_of_a_map():
    rules = IgnoreRules(PATTERNS)
    assert rules.scope_of(0, b"a.tmp") == rules.scope_of(0, b"d/a.tmp") == SKIP
    assert rules.scope_of(0, b"d/keep.tmp") == FULL
    assert rules.scope_of(0, b"log/x") == SKIP
    assert rules.scope_of(0, b"log") == FULL
    assert rules.scope_of(1, b"a.tmp") == FULL


def test_a_name_that_may_be_either_is_compared_if_one_of_the_two_takes_part():
    """The other side's type is not known here: a file named cache takes part, a directory does not."""
    assert IgnoreRules(PATTERNS).scope_of(0, b"cache") == FULL


keys = st.tuples(st.integers(0, 1), st.sampled_from([b"a", b"b/c", b"proc"]))


@given(st.sets(keys), st.sets(keys), keys)
def test_the_other_side_learns_the_same_rules(bare, own, key):
    here, there = IgnoreRules(PLAIN, bare, own), IgnoreRules(PLAIN)
    there.learn(here.portable())
    assert there.scope_of(*key) == here.scope_of(*key)

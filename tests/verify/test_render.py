from __future__ import annotations

import msgspec

from livelift.verify.compare import Difference
from livelift.verify.render import render
from tests.verify.test_report import FOUND, example


def test_everything_that_the_operator_must_know() -> None:
    text = render(example())
    for needed in (
        "job abc: DIFFERENT, 1 differences",
        "LSN 12345, 2023-11-14 22:13:20 UTC, capture fanotify",
        "map 0: / -> /replica",
        "etc/passwd",
        "(layout)",
        "1 of them, in brackets",
        "etc/fstab (content): the target's own disks [1 found]",
        "1111111111111111",
    ):
        assert needed in text


def test_equality_and_samples() -> None:
    assert "job abc: EQUAL\n" in render(example([]))
    assert "sample of 5.0% of the files" in render(msgspec.structs.replace(example([]), sample=0.05))


def test_a_long_list_is_cut_and_says_so() -> None:
    many = [Difference(0, b"%03d" % number, "mode") for number in range(100)]
    text = render(example(many), limit=10)
    assert "... and 90 more" in text and "009" in text and "010" not in text


def test_the_root_has_a_name() -> None:
    assert "\n0    .   " in render(example([Difference(0, b"", "mtime", "1", "2"), *FOUND]))

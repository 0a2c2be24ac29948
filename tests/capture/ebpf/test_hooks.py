"""Programs are chosen by the kernel's description of its functions, and a function that looks different is refused."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from livelift.capture.ebpf.hooks import ALWAYS, NEEDED, VARIANTS, choose
from livelift.errors import PreflightError
from livelift.platform.linux.bpf import BTF, KernelTypes

LINUX_5_10 = {**NEEDED, "notify_change": 3}
LINUX_6_1 = {**NEEDED, "notify_change": 4}


@pytest.mark.parametrize(
    ("kernel", "one", "other"),
    [(LINUX_5_10, "notify_change_3", "notify_change_4"), (LINUX_6_1, "notify_change_4", "notify_change_3")],
)
def test_the_variant_that_fits(kernel: dict, one: str, other: str):
    attach, leave_out = choose(kernel.get)
    assert one in attach and leave_out == [other] and set(attach) >= set(ALWAYS)


@pytest.mark.parametrize("function", [*NEEDED, *VARIANTS])
@pytest.mark.parametrize("count", [None, 99])
def test_a_function_that_is_not_as_expected_is_refused(function: str, count: int | None):
    with pytest.raises(PreflightError, match=function):
        choose({**LINUX_6_1, function: count}.get)


def test_every_program_is_in_the_source():
    source = (resources.files("livelift.capture.ebpf") / "fexit.bpf.c").read_text()
    programs = set(re.findall(r'^SEC\("[a-z].*\nint (\w+)\(', source, re.MULTILINE))
    assert programs == set(ALWAYS) | {name for variants in VARIANTS.values() for name in variants.values()}


def test_this_kernel_says_how_many_parameters_a_function_has():
    try:
        open(BTF, "rb").close()
        types = KernelTypes()
    except (OSError, PreflightError) as error:
        pytest.skip(f"no type information: {error}")
    assert types.parameters("vfs_fallocate") == 4
    assert types.parameters("no_such_function_anywhere") is None
    types.close()

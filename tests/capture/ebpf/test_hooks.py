"""Programs are chosen by the kernel's description of its functions, and a function that looks different is refused."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from livelift.capture.ebpf.hooks import HOOKS, INSTEAD, choose, every_program
from livelift.errors import PreflightError
from livelift.platform.linux.bpf import BTF, KernelTypes

LINUX_6_1 = {hook.function: max(hook.programs) for hook in HOOKS if not hook.function.endswith("_acl")} | {
    "vfs_rename": 1
}
LINUX_6_12 = LINUX_6_1 | {"vfs_set_acl": 4, "vfs_remove_acl": 3}
LINUX_5_10 = {hook.function: min(hook.programs) for hook in HOOKS if hook.function not in INSTEAD} | {
    "vfs_rename": 6,
    "clear_page_dirty_for_io": 1,
    "security_file_ioctl": 3,
}


@pytest.mark.parametrize(
    ("kernel", "some", "others"),
    [
        (LINUX_5_10, {"changed_3", "rename_6", "xattr_set_5", "page_written", "flags_asked"}, {"folio_written"}),
        (LINUX_6_1, {"changed_4", "rename_1", "xattr_set_6", "folio_written", "flags_set"}, {"acl_set", "symlink_3"}),
        (LINUX_6_12, {"changed_4", "acl_set", "acl_gone"}, {"page_written", "flags_asked"}),
    ],
    ids=["5.10", "6.1", "6.12"],
)
def test_the_variant_that_fits(kernel: dict, some: set[str], others: set[str]):
    attach, leave_out = choose(kernel.get)
    assert some <= set(attach) and others <= set(leave_out)
    assert sorted([*attach, *leave_out]) == sorted(every_program())


@pytest.mark.parametrize("function", [hook.function for hook in HOOKS if hook.needed])
@pytest.mark.parametrize("count", [None, 99])
def test_a_function_that_is_not_as_expected_is_refused(function: str, count: int | None):
    with pytest.raises(PreflightError, match=function):
        choose({**LINUX_6_1, function: count}.get)


@pytest.mark.parametrize("function", [hook.function for hook in HOOKS if not hook.needed])
def test_a_function_that_is_not_needed_is_left_out(function: str):
    kernel = {**LINUX_6_1, **dict.fromkeys([function, *(hook.function for hook in INSTEAD.values())])}
    attach, leave_out = choose(kernel.get)
    for hook in HOOKS:
        for names in hook.programs.values():
            if hook.function == function:
                assert set(names) <= set(leave_out)
    assert "write_checks" in attach


def test_every_program_is_in_the_source():
    here = resources.files("livelift.capture.ebpf")
    headers = ("names", "attributes", "memory")
    source = "".join((here / f"{name}.bpf.h").read_text() for name in headers) + (here / "fexit.bpf.c").read_text()
    programs = re.findall(r'^SEC\("[a-z].*\nint (\w+)\(', source, re.MULTILINE)
    assert sorted(programs) == sorted(every_program())


def test_this_kernel_says_how_many_parameters_a_function_has():
    try:
        open(BTF, "rb").close()
        types = KernelTypes()
    except (OSError, PreflightError) as error:
        pytest.skip(f"no type information: {error}")
    assert types.parameters("vfs_fallocate") == 4
    assert types.parameters("no_such_function_anywhere") is None
    types.close()

"""Which of the programs in `fexit.bpf.c` fit this kernel: by what its functions look like, not by its version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from livelift.errors import PreflightError

ALWAYS: Final = ("fallocate_begins", "fallocate_ends", "copies", "clones", "leave", "write_checks")
"""In the order of attaching: what closes something before what opens it."""

VARIANTS: Final = {"notify_change": {3: "notify_change_3", 4: "notify_change_4"}}
"""Function of the kernel: the program for each number of its parameters."""

NEEDED: Final = {
    "generic_write_checks": 2,
    "vfs_fallocate": 4,
    "vfs_copy_file_range": 6,
    "vfs_clone_file_range": 6,
}
"""Parameters that every kernel from 5.10 to 6.18 has here. Another number is another function: not guessed at."""


def choose(parameters: Callable[[str], int | None]) -> tuple[list[str], list[str]]:
    """(programs to attach, programs to leave out). ``parameters``: how many a function of this kernel has, None: it has
    no such function. PreflightError: a function is not what the programs expect.
    """
    for function, expected in NEEDED.items():
        if parameters(function) != expected:
            raise _unknown(function, parameters(function))
    chosen: list[str] = []
    left: list[str] = []
    for function, programs in VARIANTS.items():
        count = parameters(function)
        if count not in programs:
            raise _unknown(function, count)
        chosen.append(programs[count])
        left += [name for number, name in programs.items() if number != count]
    return [*chosen, *ALWAYS], left


def _unknown(function: str, count: int | None) -> PreflightError:
    what = "is not there" if count is None else f"has {count} parameters"
    return PreflightError(f"{function} of this kernel {what}", remedy="use --capture auto, and report this kernel")

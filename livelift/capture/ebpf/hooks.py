"""Which of the programs in `fexit.bpf.c` fit this kernel: by what its functions look like, not by its version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from livelift.errors import PreflightError

Programs = tuple[str, ...]


class Hook(NamedTuple):
    """A function of the kernel and the programs for each number of its parameters. ``needed`` False: where it is not
    there, or looks different, its programs are left out, and the canary finds out what is then not seen."""

    function: str
    programs: dict[int, Programs]
    needed: bool = True


HOOKS: Final = (
    Hook("vfs_symlink", {3: ("symlinked_3", "symlink_3"), 4: ("symlinked_4", "symlink_4")}, False),
    Hook("vfs_rename", {1: ("renamed_1", "rename_1"), 6: ("renamed_6", "rename_6")}, False),
    Hook("d_instantiate", {2: ("name_made",)}),
    Hook("d_instantiate_new", {2: ("name_made_new",)}),
    Hook("d_delete", {1: ("name_removed",)}),
    Hook("d_move", {2: ("name_moved",)}),
    Hook("d_exchange", {2: ("names_swapped",)}),
    Hook("notify_change", {3: ("changed_3", "setting_3"), 4: ("changed_4", "setting_4")}),
    Hook("__vfs_setxattr_noperm", {5: ("xattr_set_5",), 6: ("xattr_set_6",)}),
    Hook("__vfs_removexattr_locked", {3: ("xattr_gone_3",), 4: ("xattr_gone_4",)}),
    Hook("vfs_set_acl", {4: ("acl_set",)}, False),
    Hook("vfs_remove_acl", {3: ("acl_gone",)}, False),
    Hook("vfs_fileattr_set", {3: ("flags_set",)}, False),
    Hook("security_mmap_file", {3: ("maps",)}, False),
    Hook("security_file_mprotect", {3: ("protects",)}, False),
    Hook("folio_clear_dirty_for_io", {1: ("folio_written",)}, False),
    Hook("vfs_fallocate", {4: ("fallocate_ends", "fallocate_begins")}),
    Hook("generic_remap_file_range_prep", {6: ("clones",)}, False),
    Hook("vfs_copy_file_range", {6: ("copy_ends", "copy_begins")}),
    Hook("vfs_clone_file_range", {6: ("clone_ends", "clone_begins")}),
    Hook("fault_in_readable", {2: ("faulted",)}, False),
    Hook("generic_write_checks", {2: ("leave", "write_checks")}),
)
"""In the order of attaching: what closes something before what opens it. The numbers are those of every kernel from
5.10 to 6.18; another number is another function, which is not guessed at."""

INSTEAD: Final = {
    "folio_clear_dirty_for_io": Hook("clear_page_dirty_for_io", {1: ("page_written",)}, False),
    "vfs_fileattr_set": Hook("security_file_ioctl", {3: ("flags_asked",)}, False),
}
"""For kernels that lack a function: what does its work there."""


def every_program() -> set[str]:
    return {name for hook in (*HOOKS, *INSTEAD.values()) for names in hook.programs.values() for name in names}


def choose(parameters: Callable[[str], int | None]) -> tuple[list[str], list[str]]:
    """(programs to attach, programs to leave out). ``parameters``: how many a function of this kernel has, None: it has
    no such function. PreflightError: a function that is needed is not what the programs expect.
    """
    chosen: list[str] = []
    for hook in HOOKS:
        count = parameters(hook.function)
        if count is None and hook.function in INSTEAD:
            hook = INSTEAD[hook.function]
            count = parameters(hook.function)
        if count in hook.programs:
            chosen += hook.programs[count]
        elif hook.needed:
            raise _unknown(hook.function, count)
    return chosen, sorted(every_program().difference(chosen))


def _unknown(function: str, count: int | None) -> PreflightError:
    what = "is not there" if count is None else f"has {count} parameters"
    return PreflightError(f"{function} of this kernel {what}", remedy="use --capture auto, and report this kernel")

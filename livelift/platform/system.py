"""What the core asks of the system it runs on, under one set of names: Linux or Windows.

`os` is the standard library's on Linux (the same object: nothing is slower for it) and `platform.windows.posix` on
Windows, which adds what is missing there: descriptors of directories, names relative to them, reading at an offset.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from livelift.platform.windows import posix as os
    from livelift.platform.windows.host import (
        aligned_buffer,
        allocated_extents,
        boot_id,
        data_extents,
        direct_io,
        idle_and_cores,
        is_private,
        lock_exclusive,
        lower_priority,
        make_private,
        next_data,
        normal_priority,
        open_beneath,
        stamp_clock,
        writable_shared_mappings,
    )
else:
    import os

    from livelift.platform.linux.files import aligned_buffer, allocated_extents, data_extents, open_beneath
    from livelift.platform.linux.host import (
        boot_id,
        direct_io,
        idle_and_cores,
        is_private,
        lock_exclusive,
        make_private,
        next_data,
        stamp_clock,
    )
    from livelift.platform.linux.mapped import writable_shared_mappings
    from livelift.platform.linux.priority import lower_priority, normal_priority

__all__ = [
    "aligned_buffer",
    "allocated_extents",
    "boot_id",
    "data_extents",
    "direct_io",
    "idle_and_cores",
    "is_private",
    "lock_exclusive",
    "lower_priority",
    "make_private",
    "next_data",
    "normal_priority",
    "open_beneath",
    "os",
    "stamp_clock",
    "writable_shared_mappings",
]

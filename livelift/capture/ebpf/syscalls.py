"""Which system calls `syscall.bpf.c` looks at, by the numbers of each architecture.

Sources: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h. The second column is `enum
call` of `syscall.bpf.c`.
"""

from __future__ import annotations

from typing import Final

CALLS: Final[dict[str, int]] = {
    "write": 1,
    "writev": 2,
    "pwrite64": 3,
    "pwritev": 4,
    "pwritev2": 5,
    "ftruncate": 6,
    "fallocate": 7,
    "open": 8,
    "openat": 9,
    "creat": 10,
    "openat2": 11,
    "sendfile": 12,
    "splice": 13,
    "copy_file_range": 13,
    "io_submit": 14,
    "io_getevents": 15,
    "io_pgetevents": 15,
}

NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": {
        "write": 1,
        "open": 2,
        "pwrite64": 18,
        "writev": 20,
        "sendfile": 40,
        "ftruncate": 77,
        "creat": 85,
        "io_getevents": 208,
        "io_submit": 209,
        "openat": 257,
        "splice": 275,
        "fallocate": 285,
        "pwritev": 296,
        "copy_file_range": 326,
        "pwritev2": 328,
        "io_pgetevents": 333,
        "openat2": 437,
    },
    "aarch64": {
        "io_submit": 2,
        "io_getevents": 4,
        "ftruncate": 46,
        "fallocate": 47,
        "openat": 56,
        "write": 64,
        "writev": 66,
        "pwrite64": 68,
        "pwritev": 70,
        "sendfile": 71,
        "splice": 76,
        "copy_file_range": 285,
        "pwritev2": 287,
        "io_pgetevents": 292,
        "openat2": 437,
    },
}
"""System call numbers by `platform.machine()`. An architecture that is missing here has no object file either."""

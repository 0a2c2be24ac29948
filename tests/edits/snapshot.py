"""A tree as a value: everything of every object that an undo has to bring back."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any


def snapshot(root: Path) -> dict[str, Any]:
    """Path to type, mode, owner, size, mtime, xattrs, content or link text, and which names share an inode."""
    found: dict[str, Any] = {}
    inodes: dict[int, list[str]] = {}
    for directory, names, files in os.walk(root):
        for name in [".", *names, *files] if directory == str(root) else [*names, *files]:
            path = os.path.normpath(os.path.join(directory, name))
            st = os.lstat(path)
            content: object = None
            if stat.S_ISREG(st.st_mode):
                content = Path(path).read_bytes()
                inodes.setdefault(st.st_ino, []).append(os.path.relpath(path, root))
            elif stat.S_ISLNK(st.st_mode):
                content = os.readlink(path)
            names_of = os.listxattr(path, follow_symlinks=False)
            xattrs = {n: os.getxattr(path, n, follow_symlinks=False) for n in names_of}
            size = st.st_size if content is not None else 0
            found[os.path.relpath(path, root)] = (
                st.st_mode, st.st_uid, st.st_gid, size, st.st_mtime_ns, xattrs, content,
            )  # fmt: skip
    found["hard links"] = sorted(sorted(group) for group in inodes.values() if len(group) > 1)
    return found

"""Files of a system that comes from another machine: nothing is followed out of its root."""

from __future__ import annotations

import os
import stat

from livelift.platform.linux.confine import open_in_root
from livelift.takeover.swap_journal import read_whole, write_durably


class System:
    """``root``: where the system's tree is seen. A directory that is missing is made."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> System:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def directory(self, path: str, make: bool = False) -> int:
        """A descriptor. FileNotFoundError, NotADirectoryError: there is none."""
        try:
            return open_in_root(self._fd, os.fsencode(path or "."), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            if not make or not path:
                raise
        above, _, name = path.rstrip("/").rpartition("/")
        holder = self.directory(above, True)
        try:
            os.mkdir(name, 0o755, dir_fd=holder)
            os.fsync(holder)
        finally:
            os.close(holder)
        return open_in_root(self._fd, os.fsencode(path), os.O_RDONLY | os.O_DIRECTORY)

    def has(self, path: str) -> bool:
        """A regular file, symlinks followed inside."""
        try:
            fd = open_in_root(self._fd, os.fsencode(path), os.O_PATH)
        except OSError:
            return False
        try:
            return stat.S_ISREG(os.fstat(fd).st_mode)
        finally:
            os.close(fd)

    def read(self, path: str) -> bytes | None:
        above, _, name = path.rpartition("/")
        try:
            holder = self.directory(above)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return read_whole(holder, name)
        finally:
            os.close(holder)

    def write(self, path: str, raw: bytes, mode: int = 0o600) -> bool:
        """Whether it had to be: a file that says this already stays as it is."""
        above, _, name = path.rpartition("/")
        holder = self.directory(above, True)
        try:
            if read_whole(holder, name) == raw:
                return False
            write_durably(holder, name, raw, mode)
            return True
        finally:
            os.close(holder)

    def link(self, path: str, text: str) -> None:
        above, _, name = path.rpartition("/")
        holder = self.directory(above, True)
        try:
            try:
                if os.readlink(name, dir_fd=holder) == text:
                    return
            except OSError:
                pass
            fresh = f"{name}.new"
            try:
                os.unlink(fresh, dir_fd=holder)
            except FileNotFoundError:
                pass
            os.symlink(text, fresh, dir_fd=holder)
            os.rename(fresh, name, src_dir_fd=holder, dst_dir_fd=holder)
            os.fsync(holder)
        finally:
            os.close(holder)

    def remove(self, path: str) -> None:
        """A file or link; nothing if it is not there."""
        above, _, name = path.rpartition("/")
        try:
            holder = self.directory(above)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            os.unlink(name, dir_fd=holder)
            os.fsync(holder)
        except FileNotFoundError:
            return
        finally:
            os.close(holder)

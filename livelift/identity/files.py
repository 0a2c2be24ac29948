"""Files that hold keys: a directory of mode 0700, files of mode 0600, written whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from livelift.errors import StateError, StoreError, TrustError
from livelift.platform.system import is_private, make_private, os


def write_private(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write each file beside its name, fsync, rename, fsync the directory. StoreError if the disk refuses."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(directory)
        for name, data in files.items():
            _replace(directory / name, data)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(f"cannot write {directory}: {error}") from error


def read_private(path: Path) -> bytes:
    """StateError if it is not there; TrustError if others than its owner may read or change it."""
    try:
        with open(path, "rb") as file:
            if not is_private(file.fileno()):
                remedy = f"chmod 600 {path} and pair the machines again"
                raise TrustError(f"{path} is open to other users", remedy=remedy)
            return file.read(1 << 20)
    except FileNotFoundError:
        raise StateError(f"{path} does not exist", remedy="pair the two machines first") from None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error}") from error


def _replace(path: Path, data: bytes) -> None:
    # mkstemp makes the file with mode 0600 whatever the umask is.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        make_private(Path(temporary))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

"""The image of the take-over stage: the target's own initramfs, and behind it an archive with the stage.

The kernel unpacks one archive after the other into the same tree, and what comes later wins (buffer-format.rst). So the
target's own image stays as it is, byte by byte, but for one kind: the kernel's reader of lz4 stumbled over what follows
until Linux 5.11 (commit 2c484419efc0), so such an image is unpacked.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
from collections.abc import Iterable
from typing import Final

import zstandard

from livelift.errors import PreflightError, ProgramError
from livelift.platform.linux.programs import run_program
from livelift.takeover import cpio, newc
from livelift.takeover.closure import File
from livelift.takeover.hooks import ORDER, WRAPPER, hook_files
from livelift.takeover.stage_main import HOME, python_words

BOUNDARY: Final = 512
"""Between archives; the kernel wants 4."""
CHECK_SECONDS: Final = 120
_ENTER: Final = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); os.execv(sys.argv[2], sys.argv[2:])"


def build(image: bytes, files: Iterable[File]) -> bytes:
    """``image``: the target's own. ``files``: the private Python and drivers, all below `stage_main.HOME`.

    PreflightError: its kind is not known. CorruptError: it cannot be read."""
    names: list[str] = []
    contents: dict[str, str] = {}
    for entry, content in cpio.contents(io.BytesIO(image), (ORDER.encode(), b"./" + ORDER.encode())):
        name = entry.name.decode("utf-8", "backslashreplace").removeprefix("./")
        names.append(name)
        if content is not None:
            contents[name] = content.decode("utf-8", "surrogateescape")
    own = [*files, File(f"{HOME}/hook", WRAPPER.encode(), True)]
    members = [newc.directory(name) for name in newc.parents([file.path for file in own], HOME)]
    members += [newc.file(file.path, file.content, file.executable) for file in own]
    for hook in hook_files(names, contents):
        members += [newc.directory(hook.directory)] if hook.directory else []
        members.append(newc.file(hook.path, hook.content.encode("utf-8", "surrogateescape"), True))
    packed = cpio.compression(io.BytesIO(image))
    if packed == "lz4":
        image = b"".join(cpio.plain(io.BytesIO(image)))
    return image + bytes(-len(image) % BOUNDARY) + _compressed(newc.archive(members), packed)


def _compressed(raw: bytes, way: str) -> bytes:
    """As the target's own image is, for its kernel reads that; else not at all."""
    if way == "zstd":
        return zstandard.ZstdCompressor(level=6).compress(raw)
    if way == "gzip":
        return gzip.compress(raw, 6, mtime=0)
    return raw


def check(files: Iterable[File], directory: str) -> None:
    """The private Python runs, seeing nothing but itself. ``directory``: empty, on a file system without noexec; it is
    filled. Needs root. PreflightError: it does not."""
    for file in files:
        path = directory + file.path
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "wb") as out:
            out.write(file.content)
        os.chmod(path, 0o700 if file.executable else 0o600)
    words = [os.path.realpath(sys.executable), "-I", "-S", "-c", _ENTER, directory, *python_words(), "check"]
    try:
        run_program(words, CHECK_SECONDS)
    except ProgramError as error:
        raise PreflightError(
            f"the private Python of the take-over image does not run: {str(error.args[0])[-400:]}",
            remedy=f"is {directory} mounted noexec? Else install the distribution's own Python and start with that",
        ) from error

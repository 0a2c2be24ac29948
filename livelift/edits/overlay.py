"""The staged system seen as one tree, as it will be mounted; with an upper layer over each file system, so that the
adaptation is made beside the replica while that goes on changing.

    M/.livelift/new               lower layer: the replica of what will be M
    M/.livelift/overlay/upper     what the adaptation changes
    M/.livelift/overlay/work      overlayfs' own
    M/.livelift/overlay/sealed    once the adaptation is made: which directories of the upper layer replace the lower
                                  one's as a whole. From then on the layer is plain files and is not mounted again.

The options keep the upper layer plain (Documentation/filesystems/overlayfs.rst): no redirects, no files without their
content, no index. What the replica changes below a mounted view may or may not be seen in it: the caller compares what
it has used.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from livelift.edits.copier import Copier, remove_object
from livelift.edits.journal import sync_directory
from livelift.errors import CorruptError, StateError
from livelift.log.crc import crc32c
from livelift.platform.linux import files, namespaces

LAYERS: Final = b"overlay"
STAGED: Final = b"new"
SEALED: Final = "sealed"
OPTIONS: Final = ("redirect_dir=off", "metacopy=off", "index=off", "xino=off")
"""Later kernels first drop out: 4.10, 4.19, 4.13, 4.17 know them. What a kernel does not know it does not do."""
_XATTRS: Final = "trusted.overlay."
_REFUSED: Final = (errno.EINVAL, errno.ENODEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


class Part(NamedTuple):
    """One file system. ``mountpoint``: in the new system. ``place``: the directory ``.livelift`` on it."""

    mountpoint: str
    place: str


class NoOverlayError(Exception):
    """This kernel, or the file system, has none: the text says why."""


def parts_of(mountpoints: Sequence[str], root: str = "/") -> list[Part]:
    """In the order in which they are mounted. ``root``: where the target's file systems are mounted (for tests)."""
    above = root.rstrip("/")
    found = [Part(m, f"{above}{m.rstrip('/')}/.livelift") for m in mountpoints]
    return sorted(found, key=lambda part: (part.mountpoint.count("/"), len(part.mountpoint)))


def prepare(part: Part) -> None:
    """An empty upper layer. Its top looks like that of the lower one."""
    drop(part)
    layers = f"{part.place}/{LAYERS.decode()}"
    for path in (layers, f"{layers}/upper", f"{layers}/work"):
        os.makedirs(path, mode=0o700, exist_ok=True)
    place = os.open(part.place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        st = os.stat(STAGED, dir_fd=place)
        Copier().attributes(place, STAGED, place, LAYERS + b"/upper", st)
    finally:
        os.close(place)


def drop(part: Part) -> None:
    """The adaptation on this file system, made or half made. StateError: it has been settled."""
    try:
        place = os.open(part.place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if os.path.exists(f"{part.place}/{LAYERS.decode()}/kept"):
            raise StateError(f"{part.place}: the adaptation is settled", remedy="unsettle it first")
        remove_object(place, LAYERS)
    finally:
        os.close(place)


@contextmanager
def view(parts: Sequence[Part], at: str, layered: bool) -> Iterator[str]:
    """In a mount namespace of one's own (`namespaces.apart`): the staged system mounted at ``at``, writable into the
    upper layers (``layered``, after `prepare`) or as it is. NoOverlayError."""
    os.makedirs(at, mode=0o700, exist_ok=True)
    mounted: list[bytes] = []
    try:
        for part in parts:
            target = os.fsencode(f"{at}{part.mountpoint}".rstrip("/"))
            if layered:
                _mount_layers(part, target)
            else:
                namespaces.mount(os.fsencode(part.place) + b"/" + STAGED, target, b"", namespaces.MS_BIND)
            mounted.append(target)
        yield at
    finally:
        os.chdir("/")
        for target in reversed(mounted):
            try:
                namespaces.unmount(target)
            except OSError:  # a program that was left behind holds it; it ends with the namespace
                namespaces.unmount(target, namespaces.MNT_DETACH)
        if not os.listdir(at):
            os.rmdir(at)


def _mount_layers(part: Part, target: bytes) -> None:
    """By relative names, so that no path needs escaping or is too long for the page that holds the options."""
    os.chdir(part.place)
    base = "lowerdir=new,upperdir=overlay/upper,workdir=overlay/work"
    for count in range(len(OPTIONS), -1, -1):
        data = ",".join([base, *OPTIONS[:count]]).encode()
        try:
            namespaces.mount(b"livelift", target, b"overlay", 0, data)
            return
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            if error.errno != errno.EINVAL or not count:
                raise NoOverlayError(f"overlayfs on {part.place}: {error.strerror}") from error


def why_not(parts: Sequence[Part], at: str) -> str:
    """Why the adaptation cannot be made in layers here, or an empty string: tried, on each file system."""

    def attempt() -> str:
        trial = [Part(part.mountpoint, f"{part.place}/trial") for part in parts]
        try:
            for part in trial:
                top = part.mountpoint.rstrip("/")
                inner = [other.mountpoint[len(top) :] for other in parts if other.mountpoint.startswith(f"{top}/")]
                for place in ("", *inner):
                    os.makedirs(f"{part.place}/new{place}", exist_ok=True)
                prepare(part)
            with view(trial, at, True) as root:
                os.mkdir(f"{root}/made")
            return ""
        except NoOverlayError as error:
            return str(error)
        finally:
            for part in trial:
                fd = os.open(os.path.dirname(part.place), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    remove_object(fd, b"trial")
                finally:
                    os.close(fd)

    return namespaces.apart(attempt)


# the upper layer, once the view is gone


def seal(part: Part) -> int:
    """Make the layer plain: what overlayfs wrote into it for itself goes, and what that meant is written down. Durable
    on return. The number of objects in it."""
    opaque: list[bytes] = []
    layers = os.open(f"{part.place}/{LAYERS.decode()}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        count = _plain(layers, b"upper", b"", opaque, False)
        body = msgspec.json.encode([path.hex() for path in sorted(opaque)])
        fd = os.open(f"{SEALED}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=layers)
        try:
            os.write(fd, b"%08x %s\n" % (crc32c(body), body))
            files.syncfs(fd)
        finally:
            os.close(fd)
        os.rename(f"{SEALED}.new", SEALED, src_dir_fd=layers, dst_dir_fd=layers)
        sync_directory(layers)
        remove_object(layers, b"work")
        return count
    finally:
        os.close(layers)


def _plain(above: int, name: bytes, path: bytes, opaque: list[bytes], replaced: bool) -> int:
    """``path``: of the directory below the top. ``replaced``: it or one above it is opaque, so a whiteout in it hides
    nothing."""
    count = 0
    here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        marks = _marks(here)
        if marks.get(f"{_XATTRS}opaque") == b"y":
            opaque.append(path)
            replaced = True
        for mark in marks:
            os.removexattr(here, mark)
        for entry in os.listdir(here):
            child = os.fsencode(entry)
            st = os.stat(child, dir_fd=here, follow_symlinks=False)
            count += 1
            if stat.S_ISDIR(st.st_mode):
                count += _plain(here, child, path + b"/" + child if path else child, opaque, replaced)
            elif is_whiteout(st):
                if replaced:
                    os.unlink(child, dir_fd=here)
            else:
                place = b"/proc/self/fd/%d/%s" % (here, child)
                for mark in _marks(place):
                    os.removexattr(place, mark, follow_symlinks=False)
    finally:
        os.close(here)
    return count


def _marks(where: int | bytes) -> dict[str, bytes]:
    follow = isinstance(where, int)  # an open directory
    names = [name for name in os.listxattr(where, follow_symlinks=follow) if name.startswith(_XATTRS)]
    return {name: os.getxattr(where, name, follow_symlinks=follow) for name in names}


def is_whiteout(st: os.stat_result) -> bool:
    """A character device 0/0: the name is gone."""
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def is_made(part: Part) -> bool:
    """There is an upper layer."""
    return os.path.isdir(f"{part.place}/{LAYERS.decode()}/upper")


def is_sealed(part: Part) -> bool:
    return os.path.exists(f"{part.place}/{LAYERS.decode()}/{SEALED}")


def opaque_of(part: Part) -> frozenset[bytes]:
    """Directories of the sealed upper layer that replace the lower one's as a whole. StateError: it is not sealed."""
    path = f"{part.place}/{LAYERS.decode()}/{SEALED}"
    try:
        with open(path, "rb") as file:
            crc, _, body = file.read().rstrip(b"\n").partition(b" ")
    except FileNotFoundError as error:
        raise StateError(f"{part.place}: no adaptation has been made", remedy="adapt first") from error
    try:
        if int(crc, 16) != crc32c(body):
            raise ValueError("checksum")
        return frozenset(bytes.fromhex(text) for text in msgspec.json.decode(body, type=list[str]))
    except (ValueError, msgspec.DecodeError) as error:
        raise CorruptError(f"{path}: {error}", remedy="adapt again") from error

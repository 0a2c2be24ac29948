"""Name records: make, link, unlink, rename. Everything goes by a directory descriptor and one name, never through a
symlink."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import Final, cast

import msgspec

from livelift.model.entry import Attributes
from livelift.model.record import Kind, Link, Make, Record, Rename, Unlink
from livelift.platform.linux.files import RENAME_EXCHANGE, RENAME_WHITEOUT, renameat2
from livelift.platform.linux.inode_flags import BARRIERS
from livelift.replay import attributes, cross_links
from livelift.replay.content import create_or_open
from livelift.replay.directories import OPEN_DIRECTORY, Directory
from livelift.replay.hands import Hands
from livelift.replay.trouble import Disagreement

_NEEDS_ROOT: Final = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL})


def create(hands: Hands, directory: Directory, record: Record) -> None:
    """An empty regular file. One that is there keeps its content: it is this record, applied before, and what was
    written since comes again."""
    body = cast(Make, record.body)
    a = body.attributes
    hands.files.drop(body.oid)
    fd, new = create_or_open(hands, directory, body.name, a.mode, a.nlink)
    try:
        if new:
            hands.made += 1
            if a.flags:
                attributes.early_flags(hands, directory, body.name, fd, a.flags)
            if a.size:  # made and truncated up before we looked; the content, if any, comes as records
                os.ftruncate(fd, a.size)
            attributes.fresh(hands, directory, body.name, fd, a)
        else:
            attributes.complete(hands, directory, body.name, fd, a)
    finally:
        os.close(fd)


def make_directory(hands: Hands, directory: Directory, record: Record) -> None:
    """A directory with its owner, mode and xattrs. Its times and its i/a flags come by a later ATTRIBUTES record:
    what is made in it now would change or meet them."""
    body = cast(Make, record.body)
    a = body.attributes
    # The owner's bits stay on until ATTRIBUTES: without root we could not fill it.
    try:
        os.mkdir(body.name, (a.mode & 0o777) | 0o700, dir_fd=directory.fd)
    except FileExistsError:
        status = os.stat(body.name, dir_fd=directory.fd, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(body.name, dir_fd=directory.fd)
            os.mkdir(body.name, (a.mode & 0o777) | 0o700, dir_fd=directory.fd)
    else:
        hands.made += 1
        plain = not (a.xattrs or a.project or a.flags) and (a.uid, a.gid) == (hands.uid, hands.gid)
        if plain and directory.plain and not a.mode & (0o7000 | hands.umask):
            return
    fd = os.open(body.name, OPEN_DIRECTORY, dir_fd=directory.fd)
    try:
        set_directory(hands, directory, body.name, fd, a, final=False)
    finally:
        os.close(fd)


def set_directory(
    hands: Hands, directory: Directory, name: bytes, fd: int, a: Attributes, *, final: bool
) -> None:
    """All attributes of an open directory; not yet ``final``: without the barriers, with the owner's access."""
    if not final:
        mode = a.mode if hands.root else a.mode | 0o700
        a = msgspec.structs.replace(a, mode=mode, flags=a.flags & ~BARRIERS)
    attributes.complete(hands, directory, name, fd, a)


def make_symlink(hands: Hands, directory: Directory, record: Record) -> None:
    body = cast(Make, record.body)
    target = body.attributes.target
    try:
        os.symlink(target, body.name, dir_fd=directory.fd)
        hands.made += 1
    except FileExistsError:
        status = os.stat(body.name, dir_fd=directory.fd, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode) or os.readlink(body.name, dir_fd=directory.fd) != target:
            os.unlink(body.name, dir_fd=directory.fd)
            os.symlink(target, body.name, dir_fd=directory.fd)
            hands.made += 1
    attributes.complete(hands, directory, body.name, -1, body.attributes)


def make_special(hands: Hands, directory: Directory, record: Record) -> None:
    """Device node, FIFO or socket. Where we may not make it, a problem: the replica lacks it."""
    body = cast(Make, record.body)
    a = body.attributes
    try:
        status = os.stat(body.name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        pass
    else:
        same = stat.S_IFMT(status.st_mode) == stat.S_IFMT(a.mode) and status.st_rdev == a.rdev
        if same:
            attributes.complete(hands, directory, body.name, -1, a)
            return
        os.unlink(body.name, dir_fd=directory.fd)
    try:
        os.mknod(body.name, stat.S_IFMT(a.mode) | a.mode & 0o777, a.rdev, dir_fd=directory.fd)
    except OSError as error:
        if error.errno not in _NEEDS_ROOT or stat.S_ISFIFO(a.mode):
            raise
        hands.note("lost-node", error, directory, body.name, "run the target agent as root with CAP_MKNOD")
        return
    hands.made += 1
    attributes.complete(hands, directory, body.name, -1, a)


def link(hands: Hands, directory: Directory, old: Directory, record: Record) -> None:
    body = cast(Link, record.body)
    try:
        os.link(body.old_name, body.name, src_dir_fd=old.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
    except FileExistsError:
        here = os.stat(body.name, dir_fd=directory.fd, follow_symlinks=False)
        there = os.stat(body.old_name, dir_fd=old.fd, follow_symlinks=False)
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            return
        if here.st_dev != there.st_dev:
            cross_links.copy(hands, old, body.old_name, directory, body.name)
            return
        os.unlink(body.name, dir_fd=directory.fd)
        os.link(body.old_name, body.name, src_dir_fd=old.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        cross_links.copy(hands, old, body.old_name, directory, body.name)


def unlink(hands: Hands, directory: Directory, record: Record) -> None:
    """A name that is gone already is what the log wants."""
    body = cast(Unlink, record.body)
    try:
        os.unlink(body.name, dir_fd=directory.fd)
    except FileNotFoundError:
        pass


def remove_directory(hands: Hands, directory: Directory, record: Record) -> None:
    body = cast(Unlink, record.body)
    try:
        os.rmdir(body.name, dir_fd=directory.fd)
    except FileNotFoundError:
        pass


def remove_tree(hands: Hands, directory: Directory, record: Record) -> None:
    """RMTREE: what only the replica has. shutil's way with directory descriptors follows no symlink."""
    body = cast(Unlink, record.body)
    try:
        shutil.rmtree(body.name, dir_fd=directory.fd)
    except FileNotFoundError:
        pass


def rename(hands: Hands, directory: Directory, new: Directory, record: Record) -> None:
    """RENAME in all its forms. NOREPLACE is the plain form here: whether something was there has been decided."""
    body = cast(Rename, record.body)
    if body.flags & RENAME_EXCHANGE:
        renameat2(directory.fd, body.name, new.fd, body.new_name, RENAME_EXCHANGE)
        return
    flags = body.flags & RENAME_WHITEOUT
    try:
        _rename(directory, body.name, new, body.new_name, flags)
    except OSError as error:
        if error.errno == errno.EXDEV:
            _leave(directory, body.name)
            raise Disagreement(body.oid, "cannot rename across file systems") from error
        if error.errno not in (errno.EISDIR, errno.ENOTDIR):
            raise
        _clear_the_way(new, body.new_name)
        _rename(directory, body.name, new, body.new_name, flags)


def _rename(old: Directory, name: bytes, new: Directory, new_name: bytes, whiteout: int) -> None:
    if not whiteout:
        os.rename(name, new_name, src_dir_fd=old.fd, dst_dir_fd=new.fd)
        return
    try:
        renameat2(old.fd, name, new.fd, new_name, RENAME_WHITEOUT)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without whiteouts
            raise
        os.rename(name, new_name, src_dir_fd=old.fd, dst_dir_fd=new.fd)
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=old.fd)


def _leave(directory: Directory, name: bytes) -> None:
    """A file that moves to another file system goes here and is read again there. A directory stays: what is below it
    is more than one object to read again, and whoever reads them again removes it."""
    try:
        os.unlink(name, dir_fd=directory.fd)
    except IsADirectoryError:
        pass


def _clear_the_way(directory: Directory, name: bytes) -> None:
    """What is in the way is of another type than the log thinks; nothing with content in it is removed (ENOTEMPTY)."""
    if stat.S_ISDIR(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode):
        os.rmdir(name, dir_fd=directory.fd)
    else:
        os.unlink(name, dir_fd=directory.fd)


def is_done(directory: Directory, other: Directory | None, record: Record, value: int | None) -> bool:
    """Whether the one step that was begun before a crash, and not marked as done, has happened. The tree is exactly as
    it was just before or just after this step. ``value`` is what `before` said then."""
    body = record.body
    kind = record.kind
    if kind is Kind.RENAME:
        body = cast(Rename, body)
        here = _inode(directory, body.name)
        if body.flags & RENAME_EXCHANGE:
            return here != value
        return here == 0 or bool(body.flags & RENAME_WHITEOUT and _is_whiteout(directory, body.name))
    if kind is Kind.LINK:
        body = cast(Link, body)
        return other is not None and 0 != _inode(directory, body.name) == _inode(other, body.old_name)
    if kind in (Kind.UNLINK, Kind.RMDIR, Kind.RMTREE):
        return _inode(directory, cast(Unlink, body).name) == 0
    if kind in (Kind.COLLAPSE, Kind.INSERT):
        status = os.stat(body.name, dir_fd=directory.fd, follow_symlinks=False)  # type: ignore[union-attr]
        return status.st_size != value
    return False  # REFLINK: once more does no harm, nothing was written since


def before(directory: Directory, record: Record) -> int | None:
    """What tells later whether this step has happened, for the steps where the names alone do not."""
    body = record.body
    if record.kind is Kind.RENAME and cast(Rename, body).flags & RENAME_EXCHANGE:
        return _inode(directory, cast(Rename, body).name)
    if record.kind in (Kind.COLLAPSE, Kind.INSERT):
        return os.stat(body.name, dir_fd=directory.fd, follow_symlinks=False).st_size  # type: ignore[union-attr]
    return None


def _inode(directory: Directory, name: bytes) -> int:
    try:
        return os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0


def _is_whiteout(directory: Directory, name: bytes) -> bool:
    status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0

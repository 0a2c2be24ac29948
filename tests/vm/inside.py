"""Runs in a machine, from standard input, with its Python and nothing else: tells about files, one JSON line for each.

    python3 - [--no-times] PATH... < inside.py

{"path": hex, "type", "mode", "uid", "gid", "links": hex of the first path with the same inode, "nlink", "size", "mtime"
(ns), "target" (of a symbolic link, hex), "device", "flags" (FS_IOC_GETFLAGS without what the file system sets itself),
"xattrs" {hex: hex}, "digest", "holes" [[begin, end], ...]}
"""

import fcntl
import hashlib
import json
import os
import stat
import struct
import sys

FS_IOC_GETFLAGS = 0x80086601
OPERATORS = 0x00000004 | 0x00000008 | 0x00000010 | 0x00000020 | 0x00000040 | 0x00000080 | 0x00010000 | 0x00020000
"""compressed, synchronous, immutable, append-only, no-dump, no-atime, synchronous and top directory (linux/fs.h)"""
BLOCK = 1 << 16
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "pipe",
         stat.S_IFCHR: "character", stat.S_IFBLK: "block", stat.S_IFSOCK: "socket"}  # fmt: skip


def holes(handle, size):
    """What is no data, as the file system tells (lseek(2), SEEK_HOLE)."""
    found, at = [], 0
    while at < size:
        begin = os.lseek(handle, at, os.SEEK_HOLE)
        if begin >= size:
            break
        try:
            at = os.lseek(handle, begin, os.SEEK_DATA)
        except OSError:  # ENXIO: no data any more
            at = size
        found.append([begin, at])
    return found


def digest(handle, size, empty):
    """SHA-1 of what is not zero, block by block with its place: so it is the same wherever the holes are, and those are
    not read (1 GiB of nothing takes long)."""
    sum, at = hashlib.sha1(), 0
    for begin, end in [*empty, [size, size]]:
        while at < begin:
            block = os.pread(handle, BLOCK, at)
            if not block:
                break
            if block.strip(b"\0"):
                sum.update(b"%d " % at + block)
            at += BLOCK
        at = max(at, end // BLOCK * BLOCK)
    return sum.hexdigest()


def tell(path, first, times):
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    line = {"path": path.hex(), "type": KINDS[kind], "mode": stat.S_IMODE(found.st_mode), "uid": found.st_uid,
            "gid": found.st_gid}  # fmt: skip
    if kind != stat.S_IFDIR:
        line["nlink"] = found.st_nlink
        line["links"] = first.setdefault((found.st_dev, found.st_ino), path).hex()
    if times:
        line["mtime"] = found.st_mtime_ns
    if kind == stat.S_IFLNK:
        line["target"] = os.readlink(path).hex()
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        line["device"] = found.st_rdev
    names = os.listxattr(path, follow_symlinks=False)
    line["xattrs"] = {os.fsencode(name).hex(): os.getxattr(path, name, follow_symlinks=False).hex() for name in names}
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            (flags,) = struct.unpack("l", fcntl.ioctl(handle, FS_IOC_GETFLAGS, bytes(8)))
            line["flags"] = flags & OPERATORS
            if kind == stat.S_IFREG:
                line["size"] = found.st_size
                line["holes"] = holes(handle, found.st_size)
                line["digest"] = digest(handle, found.st_size, line["holes"])
        finally:
            os.close(handle)
    return line


def main(words):
    times = "--no-times" not in words
    first = {}
    for top in sorted(os.fsencode(word) for word in words if not word.startswith("--")):
        paths = [top]
        for directory, below, files in os.walk(top):
            paths += [os.path.join(directory, name) for name in [*below, *files]]
        for path in sorted(paths):
            print(json.dumps(tell(path, first, times), sort_keys=True))


main(sys.argv[1:])

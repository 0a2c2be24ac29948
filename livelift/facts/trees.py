"""Reads what the adaptation's rules look at in a system's files (`adapt.linux.trees`)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from livelift.adapt.linux.trees import CONTENT, DEEP, GUARDED, LISTED, SECRET, TREES, Item, Tree
from livelift.facts.host import Host, text_of


def read_tree(host: Host) -> Tree:
    """Changes nothing. What could not be read is in ``host.unread``; the file is then listed without content."""
    items: dict[str, Item] = {}
    contents: dict[str, bytes] = {}
    for patterns, kind in ((LISTED, "list"), (CONTENT, "content"), (TREES, "tree")):
        for pattern in patterns:
            for path in _matching(host, pattern):
                place = _place(host, path)
                item = _item(host, path)
                if item is None:
                    continue
                if kind == "tree" and item.kind == "dir":
                    items[place] = _whole(host, path)
                elif kind == "content" and item.kind in ("file", "link") and stat.S_ISREG(host.mode(path)):
                    items[place] = item
                    raw = host.bytes(path)
                    if not (place.startswith(GUARDED) and SECRET.search(raw)):
                        contents[place] = raw
                else:
                    items.setdefault(place, item)
    for directory in DEEP:
        _list(host, _place(host, f"/{directory}"), items)
    return Tree(items, contents)


def _matching(host: Host, pattern: str) -> list[str]:
    """As `Host.glob`, with dangling links (mask links, /etc/mtab of a tree that does not run)."""
    directory, _, name = pattern.rpartition("/")
    parents = list(host.glob(f"/{directory}")) if directory else [""]
    return [f"{parent}/{entry}" for parent in parents for entry in host.matching(parent or "/", name)]


def _place(host: Host, path: str) -> str:
    parent, _, name = path.rpartition("/")
    return f"{host.real(parent or '/').strip('/')}/{name}".lstrip("/")


def _item(host: Host, path: str) -> Item | None:
    st = host.lstat(path)
    if st is None:
        return None
    if stat.S_ISLNK(st.st_mode):
        return Item("link", text=host.link(path), files=1)
    if stat.S_ISDIR(st.st_mode):
        return Item("dir", mode=stat.S_IMODE(st.st_mode), files=0)
    return Item("file", st.st_size, stat.S_IMODE(st.st_mode)) if stat.S_ISREG(st.st_mode) else None


def _whole(host: Host, path: str) -> Item:
    files = size = 0
    with _directory(host, path) as top:
        for _, _, names, fd in os.fwalk(".", dir_fd=top):
            for name in names:
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                files += 1
                size += st.st_size if stat.S_ISREG(st.st_mode) else 0
    return Item("tree", size, 0o755, files=files)


def _list(host: Host, place: str, items: dict[str, Item]) -> None:
    if not host.is_dir(f"/{place}"):
        return
    with _directory(host, f"/{place}") as top:
        for root, directories, names, fd in os.fwalk(".", dir_fd=top):
            base = place if root == "." else f"{place}/{root[2:]}"
            for name in (*directories, *names):
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                path = f"{base}/{text_of(os.fsencode(name))}"
                if stat.S_ISLNK(st.st_mode):
                    items[path] = Item("link", text=text_of(os.fsencode(os.readlink(name, dir_fd=fd))))
                elif stat.S_ISDIR(st.st_mode):
                    items[path] = Item("dir", mode=stat.S_IMODE(st.st_mode), files=0)
                elif stat.S_ISREG(st.st_mode):
                    items[path] = Item("file", st.st_size, stat.S_IMODE(st.st_mode))


@contextmanager
def _directory(host: Host, path: str) -> Iterator[int]:
    fd = host.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)

"""Copies between real NTFS volumes, read again after the unmount by the reader of volumes, which knows no ntfs-3g."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.cli.main import main
from livelift.edits.copier import Copier, remove_object
from livelift.edits.windows_copy import NtfsCopier, bits_of, copy_ntfs, link_data, lost, set_bits
from livelift.ntfs.record import COMPRESSED, DATA, Attribute
from livelift.ntfs.volume import Volume
from livelift.platform.linux.xattrs import get_whole
from tests.adapt.windows.machine import pair
from tests.adapt.windows.trees import grow, put, snapshot
from tests.ntfsfs import NtfsImage, make_ntfs, run

pytestmark = pytest.mark.root

SPARSE = 0x8000
FILE_NAME, REPARSE_POINT = 0x30, 0xC0
MIB = 1 << 20


def surrogate(tag: int, to: str) -> bytes:
    """REPARSE_DATA_BUFFER of a symbolic link or a mount point (MS-FSCC 2.1.2.4 and 2.1.2.5)."""
    name = to.encode("utf-16-le")
    flags = struct.pack("<I", 1) if tag == 0xA000000C else b""
    body = struct.pack("<HHHH", 0, len(name), len(name) + 2, len(name)) + flags + name + b"\0\0" + name + b"\0\0"
    return struct.pack("<IHH", tag, len(body), 0) + body


LINK = surrogate(0xA000000C, "plain.sys")
JUNCTION = surrogate(
    0xA0000003, "\\??\\C:\\Windows\\a place with a rather long name, longer than 128 bytes of UTF-16 in all"
)
ELSEWHERE = struct.pack("<IHH", 0x80000017, 16, 0) + struct.pack("<4I", 1, 2, 1, 0)
"""A file that the system has compressed (WOF): its content is in a stream that the mount does not read."""


def descriptor(entries: int) -> bytes:
    """Self-relative, with as many entries for Administrators: longer than ntfs-3g's own."""
    sid = bytes.fromhex("01020000000000052000000020020000")
    ace = struct.pack("<BBHI", 0, 0, 24, 0x1F01FF) + sid
    acl = struct.pack("<BBHHH", 2, 0, 8 + len(ace) * entries, entries, 0) + ace * entries
    return struct.pack("<BBHIIII", 1, 0, 0x8004, 20, 36, 0, 52) + sid + sid + acl


def reparse(path: Path, data: bytes) -> None:
    os.setxattr(path, "system.ntfs_reparse_data", data, follow_symlinks=False)
    try:
        path.lstat()
    except OSError:
        path.lstat()  # the kernel finds another type than it knew, once


def plant(top: Path) -> dict[str, bytes]:
    """One of each form. Name to content."""
    rng = random.Random(5)
    top.mkdir(parents=True, exist_ok=True)
    content = {
        "plain.sys": rng.randbytes(70_000),
        "sparse.sys": bytes(MIB) + rng.randbytes(5000) + bytes(3 * MIB) + b"end",
        "compressed.sys": b"SYSTEM CurrentControlSet " * 20_000,
        "small": b"resident",
    }
    (top / "sub").mkdir()
    for name, data in content.items():
        if name == "sparse.sys":
            with (top / name).open("wb") as file:
                file.truncate(len(data))
                file.seek(MIB)
                file.write(data[MIB : MIB + 5000])
                file.seek(len(data) - 3)
                file.write(b"end")
        elif name == "compressed.sys":
            set_bits(os.fsencode(top / "sub"), 0x810)
            (top / "sub" / name).write_bytes(data)
            (top / "sub" / name).rename(top / name)
        else:
            (top / name).write_bytes(data)
    os.setxattr(top / "plain.sys", "system.ntfs_acl", descriptor(12))
    os.setxattr(top / "plain.sys", "system.ntfs_dos_name", b"PLAIN~1.SYS")
    os.setxattr(top / "plain.sys", "user.stream", b"alternate" * 100)
    set_bits(os.fsencode(top / "plain.sys"), 0x26)
    (top / "link.sys").write_bytes(b"")
    reparse(top / "link.sys", LINK)
    (top / "sub" / "junction").mkdir()
    reparse(top / "sub" / "junction", JUNCTION)
    return content


def copy(origin: Path, to: Path, copier: Copier | None = None) -> None:
    one, other = os.open(origin.parent, os.O_RDONLY), os.open(to.parent, os.O_RDONLY)
    try:
        (copier or NtfsCopier()).copy(one, os.fsencode(origin.name), other, os.fsencode(to.name), {})
    finally:
        os.close(one)
        os.close(other)


class Inside:
    """The volume's own structures, without a mount."""

    def __init__(self, image: Path) -> None:
        self._file = image.open("rb")
        self.volume = Volume(self._read)

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def attributes(self, reference: int, kind: int) -> list[Attribute]:
        return [a for a in self.volume.file(reference).attributes if a.kind == kind]

    def data(self, reference: int) -> Attribute:
        (found,) = (a for a in self.attributes(reference, DATA) if not a.name)
        return found

    def names(self, reference: int) -> set[str]:
        found = set()
        for a in self.attributes(reference, FILE_NAME):
            found.add(a.value[66 : 66 + 2 * a.value[64]].decode("utf-16-le"))
        return found

    def content(self, reference: int) -> bytes:
        stream = self.volume.open(reference)
        whole = bytearray(stream.size)
        for offset, piece in stream.chunks():
            whole[offset : offset + len(piece)] = piece
        return bytes(whole)

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def images(tmp_path: Path) -> tuple[NtfsImage, NtfsImage]:
    (tmp_path / "s").mkdir()
    (tmp_path / "t").mkdir()
    return make_ntfs(tmp_path / "s"), make_ntfs(tmp_path / "t")


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    with make_ntfs(tmp_path, 32).mounted("compression") as path:
        yield path


def test_what_adapt_windows_copies_is_on_the_volume_as_it_was_on_the_other(
    images: tuple[NtfsImage, NtfsImage], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = pair()
    package = "Windows/System32/DriverStore/FileRepository/forms.inf_amd64_09"
    with images[0].mounted("compression") as old, images[1].mounted() as new:
        grow(source, old)
        grow(target, new)
    with images[1].mounted("compression") as new:
        content = plant(new / package)
    with images[0].mounted("compression") as old, images[1].mounted("ro") as new:
        where = ["--source-tree", str(old), "--state", str(tmp_path / "state")]
        before = snapshot(old)
        assert main(["adapt-windows", *where, "--target-tree", str(new), "--dry-run"]) == 0
        assert "compressed-files" in capsys.readouterr().out
        assert main(["adapt-windows", *where, "--target-tree", str(new), "--in-place"]) == 0, capsys.readouterr()
        assert "original is" not in capsys.readouterr().out
        top = old / package
        references = {str(p.relative_to(top)): p.lstat().st_ino for p in sorted(top.rglob("*"))}
        assert get_whole(os.fsencode(top / "plain.sys"), b"system.ntfs_acl") == descriptor(12)
        assert os.getxattr(top / "plain.sys", "user.stream") == b"alternate" * 100
        assert link_data(os.fsencode(top / "link.sys")) == LINK
        assert bits_of(os.fsencode(top / "sub")) == 0x810
        assert os.readlink(top / "link.sys") == "plain.sys"
    run("ntfsfix", "-n", str(images[0].image))
    inside = Inside(images[0].image)
    assert {name: inside.content(references[name]) for name in content} == content
    assert inside.data(references["sparse.sys"]).flags == SPARSE
    assert sum(run.clusters for run in inside.data(references["sparse.sys"]).runs if run.lcn >= 0) * 4096 <= 3 * 65536
    assert inside.data(references["compressed.sys"]).flags & COMPRESSED
    assert inside.data(references["plain.sys"]).flags == 0
    assert inside.names(references["plain.sys"]) == {"plain.sys", "PLAIN~1.SYS"}
    for name, data in (("link.sys", LINK), ("sub/junction", JUNCTION)):
        (point,) = inside.attributes(references[name], REPARSE_POINT)
        assert point.value == data, name
    inside.close()
    with images[0].mounted("compression") as old:
        assert main(["adapt-windows", *where[:1], str(old), *where[2:], "--undo"]) == 0
        assert {k: v[:3] for k, v in snapshot(old).items()} == {k: v[:3] for k, v in before.items()}


def test_where_the_mount_does_not_compress_it_is_told_which_file_is_not_compressed(
    images: tuple[NtfsImage, NtfsImage],
) -> None:
    with images[0].mounted("compression") as one, images[1].mounted("nocompression") as other:
        plant(one / "d")
        copy(one / "d", other / "d")
        told = {name: lost(*(os.fsencode(top / "d" / name) for top in (one, other))) for name in os.listdir(one / "d")}
        assert {name: words for name, words in told.items() if words} == {"compressed.sys": ["compressed"]}
        assert (one / "d/compressed.sys").read_bytes() == (other / "d/compressed.sys").read_bytes()


def test_a_compressed_directory_does_not_make_its_new_files_so(volume: Path) -> None:
    set_bits(os.fsencode(volume), 0x816)  # "compress this drive"
    (volume / "inherits").write_bytes(b"x" * 100_000)
    assert lost(os.fsencode(volume / "inherits"), os.fsencode(volume)) == []
    fd = os.open(volume, os.O_RDONLY)
    NtfsCopier().ready(fd)
    os.close(fd)
    (volume / "plain").write_bytes(b"x" * 100_000)
    copy(volume / "plain", volume / "again")
    copy(volume / "inherits", volume / "copy")
    bits = {name: (bits_of(os.fsencode(volume / name)) or 0) & 0x800 for name in ("plain", "again", "inherits", "copy")}
    assert bits == {"plain": 0, "again": 0, "inherits": 0x800, "copy": 0x800}


def test_a_full_hole_and_an_empty_sparse_file(volume: Path) -> None:
    with (volume / "hole").open("wb") as file:
        file.truncate(5 * MIB + 7)
    copy(volume / "hole", volume / "copy")
    st = (volume / "copy").stat()
    assert (st.st_size, st.st_blocks, (bits_of(os.fsencode(volume / "copy")) or 0) & 0x200) == (5 * MIB + 7, 0, 0x200)


def test_a_file_whose_content_is_elsewhere_is_no_link(volume: Path) -> None:
    (volume / "wof").write_bytes(b"")
    reparse(volume / "wof", ELSEWHERE)
    (volume / "link").write_bytes(b"")
    reparse(volume / "link", LINK)
    assert link_data(os.fsencode(volume / "wof")) is None and link_data(os.fsencode(volume / "link")) == LINK
    put(volume / "plain", b"x")
    assert link_data(os.fsencode(volume / "plain")) is None
    fd = os.open(volume, os.O_RDONLY)
    remove_object(fd, b"link")
    os.close(fd)
    assert not (volume / "link").is_symlink()


def test_on_another_file_system_nothing_is_asked_of_ntfs(tmp_path: Path) -> None:
    put(tmp_path / "a", bytes(200_000) + b"x")
    copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert not copy_ntfs(os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b"))
    assert lost(os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b")) == []

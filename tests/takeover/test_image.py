"""The image: the target's own, whole, and behind it what the kernel unpacks over it; the private Python really runs."""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from livelift.errors import CorruptError, PreflightError
from livelift.takeover import closure, cpio, image, newc
from livelift.takeover.closure import File
from livelift.takeover.elf import interpreter, soname
from livelift.takeover.hooks import ORDER, SCRIPT, hook_files
from tests.takeover.images import cpio as archive

UDEV = '/scripts/init-bottom/udev "$@"\n[ -e /conf/param.conf ] && . /conf/param.conf\n'
DEBIAN = {
    "init": b"#!/bin/sh\n",
    "scripts/functions": b"run_scripts() { :; }\n",
    ORDER: UDEV.encode(),
    "usr/bin/sh": b"\x7fELF",
    "usr/lib/modules/6.1/a.ko": bytes(range(256)) * 300,
}
DRACUT = {
    "init": b"x",
    "usr/lib/dracut/hooks": b"",
    "usr/lib/dracut/hooks/pre-pivot": b"",
    "usr/lib/dracut/hooks/pre-pivot/85-write-ifcfg.sh": b"",
}
MICROCODE = archive({"kernel/x86/microcode/GenuineIntel.bin": b"\x01" * 1000})
FILES = [File("/livelift/bin/python3", b"\x7fELF" * 10, True), File("/livelift/site/a/b.pyc", b"code")]


def lz4(raw: bytes) -> bytes:
    if shutil.which("lz4") is None:
        pytest.skip("lz4 is not installed")
    return subprocess.run(["lz4", "-q", "-c", "-l"], input=raw, capture_output=True, check=True).stdout


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda raw: raw,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lambda raw: lzma.compress(raw, check=lzma.CHECK_CRC32),
    "lz4": lz4,
}


def unpacked(raw: bytes) -> dict[str, bytes | None]:
    """As the kernel does it: one archive after the other, the last one of a name counts."""

    class All:
        def __contains__(self, name: object) -> bool:
            return True

    return {entry.name.decode(): content for entry, content in cpio.contents(io.BytesIO(raw), All())}  # type: ignore[arg-type]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("microcode", [b"", MICROCODE], ids=["", "microcode"])
def test_everything_of_the_targets_own_stays(way: str, microcode: bytes) -> None:
    own = microcode + WAYS[way](archive(DEBIAN))
    built = image.build(own, FILES)
    if way != "lz4":
        assert built.startswith(own)
    found = unpacked(built)
    assert {name: found[name] for name in DEBIAN if name != ORDER} == {n: c for n, c in DEBIAN.items() if n != ORDER}
    assert found["livelift/bin/python3"] == b"\x7fELF" * 10 and found["livelift/site/a/b.pyc"] == b"code"
    order = (found[ORDER] or b"").decode()
    assert order.startswith(f'/{SCRIPT} "$@"\n') and order.endswith(UDEV), "before udev takes /dev away"
    assert cpio.compression(io.BytesIO(built)) == ("" if way == "lz4" else way)
    assert set(found) - set(DEBIAN) - set(unpacked(microcode) if microcode else ()) == {
        "livelift", "livelift/bin", "livelift/bin/python3", "livelift/site", "livelift/site/a", "livelift/site/a/b.pyc",
        "livelift/hook", SCRIPT,
    }, "no directory of the target's own is named"  # fmt: skip


def test_it_may_be_built_from_one_that_has_it_already() -> None:
    once = image.build(archive(DEBIAN), FILES)
    twice = unpacked(image.build(once, FILES))
    assert (twice[ORDER] or b"").count(b"livelift") == 1


def test_dracut(tmp_path: Path) -> None:
    found = unpacked(image.build(archive(DRACUT), FILES))
    assert b'/livelift/hook "$NEWROOT"' in (found["usr/lib/dracut/hooks/pre-pivot/00-livelift-takeover.sh"] or b"")
    without = {"init", "var/lib/dracut/hooks", "usr/bin/dracut-util"}
    (hook,) = hook_files(without, {})
    assert hook.directory == "var/lib/dracut/hooks/pre-pivot" and hook.path.startswith(hook.directory)


def test_an_image_of_another_kind_is_refused() -> None:
    for files in ({"init": b""}, {"hooks/udev": b"", "init_functions": b""}):
        with pytest.raises(PreflightError, match="neither by initramfs-tools nor by dracut"):
            image.build(archive(files), FILES)
    with pytest.raises(PreflightError, match="has no scripts/init-bottom/ORDER"):
        image.build(archive({n: c for n, c in DEBIAN.items() if n != ORDER}), FILES)
    with pytest.raises(CorruptError):
        image.build(archive(DEBIAN)[:-600], FILES)


def test_the_hook_is_a_shell_script() -> None:
    for hook in (*hook_files(DEBIAN, {ORDER: UDEV}), *hook_files(DRACUT, {})):
        if not hook.path.endswith("ORDER"):
            subprocess.run(["sh", "-n"], input=hook.content.encode(), check=True)


def test_an_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    members = [newc.directory("a"), newc.file("a/b", b"12345"), newc.file("/run", b"#!", True)]
    raw = newc.archive(members)
    assert len(raw) % 4 == 0
    entries = list(cpio.entries(io.BytesIO(raw)))
    assert [(e.name, e.mode, e.size) for e in entries] == [
        (b"a", 0o40755, 0), (b"a/b", 0o100644, 5), (b"run", 0o100755, 2),
    ]  # fmt: skip
    assert newc.parents(["/x/y/z", "/x/a", "/other/b"], "/x") == ["x", "x/y"]


def test_what_follows_a_compressed_archive_is_read() -> None:
    """Frames directly behind each other, and behind zeros; the kernel skips those."""
    for between in (b"", bytes(3), bytes(512)):
        for first in ("gzip", "zstd", "xz"):
            for second in ("", "gzip", "zstd"):
                if not second and len(between) % 4:
                    continue
                one = WAYS[first](archive({"one": b"1" * 5000}))
                raw = one + between + bytes(-len(one + between) % 4 if not second else 0)
                raw += WAYS[second](archive({"two": b"2"}))
                assert [e.name for e in cpio.entries(io.BytesIO(raw))] == [b"one", b"two"], (between, first, second)


# the private Python


def test_the_closure_is_small_and_whole() -> None:
    files = closure.python_files()
    names = {file.path for file in files}
    assert "/livelift/main.py" in names and "/livelift/so/ld.so" in names
    assert any(name.endswith("/encodings/utf_8.pyc") for name in names)
    assert any(name.endswith("/livelift/takeover/stage_main.pyc") for name in names)
    heavy = ("msgspec", "asyncio", "inspect", "subprocess", "logging", "decimal", "zstandard", "cryptography")
    assert not [name for name in names if any(f"/{word}" in name for word in heavy)], "it has to start at once"
    assert len(files) < 130
    assert all(file.path.startswith("/livelift/") for file in files)


@pytest.mark.root
def test_it_runs_and_sees_nothing_but_itself(tmp_path: Path) -> None:
    files = closure.python_files()
    image.check(files, str(tmp_path / "whole"))
    for missing in ("stage_main.pyc", "so/libc.so.6", "encodings/__init__.pyc"):
        (left,) = {file.path for file in files if file.path.endswith(missing)}
        with pytest.raises(PreflightError, match="does not run"):
            image.check([file for file in files if file.path != left], str(tmp_path / missing.replace("/", "-")))


def test_elf() -> None:
    head = Path("/bin/true").read_bytes()
    loader = interpreter(head)
    assert Path(loader).exists()
    libc = next(Path("/").glob("lib*/**/libc.so.6"))
    assert soname(libc.read_bytes()) == "libc.so.6" and soname(head) == ""
    for bad in (b"", b"#!/bin/sh\n" * 10):
        with pytest.raises(ValueError, match="not an ELF file"):
            soname(bad)

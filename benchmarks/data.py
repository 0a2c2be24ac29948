"""The data sets: what is copied. Each is made once, from a fixed seed, before the runs that share it."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from benchmarks.volumes import run
from tests.oracle import syscalls

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def system_tree(top: Path, quick: bool) -> None:
    """This machine's /usr (files up to 8 MiB) with its hard links; xattrs and ACLs are added."""
    sources = ["/usr/share/doc", "/usr/share/zoneinfo", "/usr/share/perl"] if quick else ["/usr"]
    present = [path for path in sources if os.path.isdir(path)]
    run("rsync", "-aHX", "--max-size=8m", *present, f"{top}/")
    for number, (directory, _, names) in enumerate(os.walk(top)):
        for position, name in enumerate(sorted(names)):
            path = os.path.join(directory, name)
            if os.path.islink(path):
                continue
            if (number + position) % 30 == 0:
                os.setxattr(path, "user.origin", b"package %d" % position)
            if (number + position) % 150 == 0:
                os.setxattr(path, "system.posix_acl_access", syscalls.acl(0o640, user=1000, permissions=4))


def tiny_files(top: Path, quick: bool) -> None:
    """1 KiB each, ten in a directory, six levels deep."""
    many_files(top, 10_000 if quick else 200_000, KIB)


def million_files(top: Path, quick: bool) -> None:
    many_files(top, 100_000 if quick else 1_000_000, 64, 100)


def many_files(top: Path, count: int, size: int, per_directory: int = 10) -> None:
    chooser = random.Random(1)
    stock = chooser.randbytes(size * 64)
    for number in range(count):
        if number % per_directory == 0:
            index = number // per_directory
            directory = top / f"{index % 7}/{index // 7 % 10}/{index // 70 % 10}/{index // 700 % 10}/{index}"
            directory.mkdir(parents=True)
        fd = os.open(directory / f"file-{number}", os.O_CREAT | os.O_WRONLY, 0o644)
        start = number % (size * 63)
        os.write(fd, stock[start : start + size])
        os.close(fd)


def big_files(top: Path, quick: bool) -> None:
    """Half incompressible, half like a text log."""
    size = (32 if quick else 512) * MIB
    chooser = random.Random(2)
    words = [b"%x" % chooser.getrandbits(32) for _ in range(5000)]
    for number in range(4):
        with (top / f"big-{number}").open("wb") as file:
            for _ in range(size // MIB):
                if number % 2:
                    text = b" ".join(chooser.choices(words, k=MIB // 8))
                    file.write((text + b"." * MIB)[:MIB])
                else:
                    file.write(chooser.randbytes(MIB))


def sparse_image(top: Path, quick: bool) -> None:
    """A disk image: 10 GiB of which 200 MiB are data, in runs of 1 MiB."""
    size, data = (GIB, 20) if quick else (10 * GIB, 200)
    chooser = random.Random(3)
    with (top / "disk.img").open("wb") as file:
        file.truncate(size)
        for number in range(data):
            file.seek(size // data * number)
            file.write(chooser.randbytes(MIB))


def one_file(top: Path, quick: bool) -> None:
    """The file of which one block will change."""
    chooser = random.Random(4)
    with (top / "database").open("wb") as file:
        for _ in range(64 if quick else 1024):
            file.write(chooser.randbytes(MIB))


def survey(top: Path) -> tuple[int, int]:
    """(entries, bytes of regular files) below a directory: what every run must have brought over."""
    command = ["find", ".", "-ignore_readdir_race", "-not", "-path", "./.livelift*", "-printf", "%y %s\\n"]
    listing = subprocess.run(command, cwd=top, capture_output=True, check=True).stdout
    sizes = [int(line.split()[1]) for line in listing.splitlines() if line.startswith(b"f ")]
    return listing.count(b"\n"), sum(sizes)

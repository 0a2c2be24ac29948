"""A Debian package of our own for the source: a service with a log that rotates, and many files. 1.1 upgrades it.

A package upgrade does to a file system what nothing else does in such density: unpack beside, rename over, remove, run
scripts. There is no network in the machines, so the package is made here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from tests.vm.places import run

FILES: Final = 1200
SERVER: Final = '''#!/usr/bin/python3
"""Writes a numbered line into its log 20 times a second; goes on from the last number that is there."""
import glob, os, signal, socket, threading, time

LOG = "/var/log/shop/shop.log"
log = open(LOG, "ab", buffering=0)

def reopen(*_):
    global log
    log = open(LOG, "ab", buffering=0)

def last():
    for name in (LOG, LOG + ".1"):
        try:
            with open(name, "rb") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            continue
        if lines:
            return int(lines[-1].split()[0])
    return 0

def answer():
    with socket.create_server(("", 7000)) as door:
        while True:
            line, _ = door.accept()
            with line:
                line.sendall(b"shop @VERSION@ on %s\\n" % os.uname().nodename.encode())

signal.signal(signal.SIGHUP, reopen)
threading.Thread(target=answer, daemon=True).start()
number = last()
while True:
    number += 1
    log.write(b"%d @VERSION@ %.3f\\n" % (number, time.time()))
    time.sleep(0.05)
'''
UNIT: Final = """[Unit]
Description=The shop's log writer (@VERSION@)

[Service]
ExecStart=/usr/lib/shop/server
LogsDirectory=shop
Restart=always

[Install]
WantedBy=multi-user.target
"""
ROTATE: Final = """/var/log/shop/*.log {
    rotate 20
    missingok
    notifempty
    postrotate
        systemctl kill --signal=HUP --kill-whom=main shop.service
    endscript
}
"""
AFTER: Final = "#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl enable -q shop\nsystemctl restart shop\n"


def content(number: int, version: str) -> bytes | None:
    """Of the package's file with that number; None: this version does not have it. Every third one changes."""
    if number % 50 == (7 if version == "1.1" else 8):
        return None
    seed = f"{number} {version if number % 3 == 0 else ''}".encode()
    return (hashlib.sha256(seed).hexdigest() + "\n").encode() * (1 + number % 100)


def build(version: str, directory: Path) -> Path:
    """The .deb."""
    root = directory / f"shop-{version}"
    for name, text, mode in (
        ("usr/lib/shop/server", SERVER, 0o755), ("lib/systemd/system/shop.service", UNIT, 0o644),
        ("etc/logrotate.d/shop", ROTATE, 0o644), ("etc/shop.conf", "greeting = hello\n", 0o644),
    ):  # fmt: skip
        _write(root / name, text.replace("@VERSION@", version).encode(), mode)
    for number in range(FILES):
        if (data := content(number, version)) is not None:
            _write(root / f"usr/share/shop/{number % 40:02}/{number:04}", data, 0o644)
    sums = "".join(
        f"{hashlib.md5(file.read_bytes()).hexdigest()}  {file.relative_to(root)}\n"
        for file in sorted(root.rglob("*"))
        if file.is_file() and file.relative_to(root).parts[0] != "etc"
    )
    control = (
        f"Package: shop\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@localhost>\n"
        "Priority: optional\nSection: misc\nDescription: a service for tests\n"
    )
    for name, text, mode in (
        ("control", control, 0o644), ("conffiles", "/etc/logrotate.d/shop\n/etc/shop.conf\n", 0o644),
        ("md5sums", sums, 0o644), ("postinst", AFTER, 0o755),
    ):  # fmt: skip
        _write(root / "DEBIAN" / name, text.encode(), mode)
    deb = directory / f"shop_{version}_all.deb"
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", root, deb)
    return deb


def _write(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)

"""What is written down comes back as it was; anything else is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from livelift.errors import CorruptError
from livelift.takeover.records import (
    TRYING,
    Config,
    Confirm,
    Menu,
    Records,
    State,
    Volume,
    parse_config,
    parse_state,
    render_config,
    render_state,
)

CONFIG = Config(
    volumes=(Volume("/", "UUID=1", "ext4"), Volume("/home", "/dev/mapper/vg-home", "btrfs", "subvol=/@home")),
    boot="/",
    directory="boot/grub",
    kernels="boot",
    menu=Menu("/boot", "1", ("part_gpt",), (), "root=UUID=1"),
    confirm=Confirm(("nginx.service",), (), ("192.0.2.1",), True),
    counting="stage",
    after_commit=(("grub-install", "/dev/vda"), ("update-grub",)),
    disks=("/dev/vda",),
)
STATE = State(TRYING, 1, 2, 3, 4, "a\nreason ü", "boot", "grubenv", "/dev/vda", 1)


def test_there_and_back() -> None:
    assert parse_config(render_config(CONFIG)) == CONFIG
    assert parse_state(render_state(STATE)) == STATE


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"format": 2}', b'{"phase": "armed"}', b"\xff\xfe", b"null"])
def test_damage_is_told(raw: bytes) -> None:
    for parse in (parse_config, parse_state):
        with pytest.raises(CorruptError):
            parse(raw)


def test_fields_that_do_not_belong() -> None:
    for change in ({"phase": "confused"}, {"more": 1}):
        with pytest.raises(CorruptError):
            parse_state(json.dumps({**json.loads(render_state(STATE)), **change}).encode())
    with pytest.raises(CorruptError):
        parse_config(json.dumps({**json.loads(render_config(CONFIG)), "volumes": [{"x": 1}]}).encode())


def test_the_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Records(str(tmp_path))
    os.makedirs(tmp_path / ".livelift/takeover")
    records = Records(str(tmp_path))
    assert records.config() is None and records.state() is None and records.failing() == ""
    records.write_config(CONFIG)
    records.write_state(STATE)
    records.log("one")
    records.log("two \udcff")
    (tmp_path / ".livelift/takeover/unconfirmed").write_bytes(b"nginx.service is failed\n")
    assert (records.config(), records.state()) == (CONFIG, STATE)
    assert records.failing() == "nginx.service is failed"
    assert (tmp_path / ".livelift/takeover/log").read_bytes() == b"one\ntwo \\udcff\n"
    records.close()

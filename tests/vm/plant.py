"""The source as a server that has lived: a service with data, a package, a log that rotates, files of odd kinds."""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.vm import shop
from tests.vm.load import SCHEMA
from tests.vm.machine import Machine

SCRIPT = Path(__file__).with_name("plant.sh")
PLANTED = "/srv/planted"


def plant(source: Machine, directory: Path) -> str:
    """Everything, on a machine that is up. ``directory``: for what is made on the way. The token of the page."""
    token = secrets.token_hex(8)
    (directory / "schema.sql").write_text(SCHEMA)
    made = [shop.build(version, directory) for version in ("1.0", "1.1")]
    source.push([*made, directory / "schema.sql", SCRIPT], "/root/")
    source.ssh(f"sh /root/plant.sh {token}", timeout=900)
    return token


def upgrade(source: Machine) -> None:
    """The package upgrade, which restarts its service. Takes a while: say it while the copy runs."""
    source.ssh("dpkg -i /root/shop_1.1_all.deb", timeout=900)


def rotate(source: Machine) -> None:
    """Every log, as in the night."""
    source.ssh("logrotate --force /etc/logrotate.conf", timeout=900)

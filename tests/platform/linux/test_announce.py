"""Announcements over a real link, in a network namespace of the test's own: as the neighbour hears them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from livelift.platform.linux.announce import advertisement, announce, arp_announcement

pytestmark = pytest.mark.root

MAC = "02:00:00:00:00:07"
SPACE = "livelift-announce"
HEAR = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as line:
    line.bind(("peer", 0))
    line.settimeout(20)
    print("ready", flush=True)
    while True:
        frame = line.recv(200)
        if bytes.fromhex(sys.argv[1]) in frame:
            print(frame.hex())
            break
"""
SAY = "import sys; from livelift.platform.linux.announce import announce; announce(sys.argv[1], sys.argv[2])"


@pytest.fixture
def space() -> Iterator[list[str]]:
    if not shutil.which("ip"):
        pytest.skip("needs ip(8)")
    inside = ["ip", "netns", "exec", SPACE]
    subprocess.run(["ip", "netns", "add", SPACE], check=True)
    try:
        for words in (
            f"link add svc address {MAC} type veth peer name peer", "link set peer up", "link set svc up",
            "address add 192.0.2.7/24 dev svc", "address add 2001:db8::7/64 dev svc nodad",
        ):  # fmt: skip
            subprocess.run(["ip", "-n", SPACE, *words.split()], check=True)
        time.sleep(0.2)
        yield inside
    finally:
        subprocess.run(["ip", "netns", "del", SPACE], check=True)


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("192.0.2.7/24", arp_announcement(bytes.fromhex(MAC.replace(":", "")), socket.inet_aton("192.0.2.7"))),
        (
            "2001:db8::7",
            advertisement(
                bytes.fromhex(MAC.replace(":", "")), socket.inet_pton(socket.AF_INET6, "2001:db8::7")
            )[4:],  # behind the checksum, which is the kernel's
        ),
    ],
    ids=["arp", "advertisement"],
)
def test_the_neighbour_hears_it(space: list[str], address: str, wanted: bytes) -> None:
    words = [*space, sys.executable, "-c", HEAR, wanted.hex()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as hearing:
        assert hearing.stdout is not None and hearing.stdout.readline() == "ready\n"
        subprocess.run([*space, sys.executable, "-c", SAY, "svc", address], check=True)
        frame = bytes.fromhex(hearing.stdout.readline())
    assert frame.endswith(wanted)
    assert frame[6:12].hex(":") == MAC
    if ":" in address:
        assert frame[:6].hex() == "333300000001" and frame[21] == 255, "all nodes; the hop limit"


def test_a_link_without_hardware_addresses_is_left_alone() -> None:
    announce("lo", "127.0.0.1/8")

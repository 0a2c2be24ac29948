"""Tells the neighbours of a link that an address is this machine's now. Those that have talked to another machine under
it keep its hardware address, a router for minutes to hours; the kernel says nothing when an address is added (sysctl
arp_notify is 0).

IPv4: an ARP announcement (RFC 5227, 3). IPv6: an unsolicited neighbour advertisement (RFC 4861, 7.2.6)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Final

from livelift.errors import ProgramError

ETHERNET: Final = 6
"""Bytes of a hardware address; other links (loopback has 6 zeros, InfiniBand 20) are left alone."""
ALL_NODES: Final = "ff02::1"
OVERRIDE: Final = 0x20000000


def arp_announcement(mac: bytes, address: bytes) -> bytes:
    """A whole Ethernet frame: a request for one's own address (RFC 826)."""
    header = b"\xff" * ETHERNET + mac + struct.pack("!H", 0x0806)
    return header + struct.pack("!HHBBH", 1, 0x0800, ETHERNET, 4, 1) + mac + address + bytes(ETHERNET) + address


def advertisement(mac: bytes, address: bytes) -> bytes:
    """ICMPv6 without its checksum, which the kernel puts in: flags "override", the target and its hardware address."""
    return struct.pack("!BBHI", 136, 0, 0, OVERRIDE) + address + struct.pack("!BB", 2, 1) + mac


def announce(interface: str, address: str) -> None:
    """``address``: with or without a prefix length. ProgramError: it could not be said."""
    parsed = ipaddress.ip_interface(address).ip
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
            link.bind((interface, 0))
            mac = link.getsockname()[4]
            if len(mac) != ETHERNET or not any(mac):
                return
            if parsed.version == 4:
                link.send(arp_announcement(mac, parsed.packed))
                return
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as line:
            number = socket.if_nametoindex(interface)
            line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)
            line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            line.bind((str(parsed), 0, 0, 0))
            line.sendto(advertisement(mac, parsed.packed), (ALL_NODES, 0, 0, number))
    except OSError as error:
        raise ProgramError(
            f"{parsed} is not announced on {interface}: {error}", remedy=f"arping -U -I {interface} {parsed}"
        ) from error

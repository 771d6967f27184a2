"""QUIC's addresses: `[/ip6zone/Z]/ip4|ip6/…/udp/N/quic-v1`, and sockets' names."""

from __future__ import annotations

import socket
from typing import TypeAlias

from py_p2pstack.addresses import Multiaddr, parse_bytes
from py_p2pstack.transports.sockets import Endpoint, tcp_multiaddr

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

_UDP = b"\x91\x02"  # multicodec 0x0111 as a varint
_QUIC_V1 = b"\xcd\x03"  # 0x01cd


def quic_endpoint(address: Multiaddr) -> Endpoint | None:
    """Where a QUIC address leads; None for any other kind of address."""
    names = address.protocols
    zone = ""
    if names[:2] == ("ip6zone", "ip6"):
        zone = address.value("ip6zone") or ""
        names = names[1:]
    if len(names) != 3 or names[0] not in ("ip4", "ip6") or names[1:] != ("udp", "quic-v1"):
        return None
    family = socket.AF_INET if names[0] == "ip4" else socket.AF_INET6
    host, port = address.value(names[0]), address.raw_value("udp")
    assert host is not None
    assert port is not None
    return Endpoint(family, host, int.from_bytes(port, "big"), zone)


def quic_multiaddr(sockaddr: SocketAddress) -> Multiaddr:
    """The multiaddr of a UDP socket's name."""
    host = tcp_multiaddr(sockaddr).to_bytes()[:-3]
    return parse_bytes(host + _UDP + sockaddr[1].to_bytes(2, "big") + _QUIC_V1)

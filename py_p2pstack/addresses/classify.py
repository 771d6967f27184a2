"""What kind of address this is: where it can be reached from, by which transport, and which neighbourhood it is in."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from py_p2pstack.addresses.multiaddr import Multiaddr

_DNS = frozenset(("dns", "dns4", "dns6", "dnsaddr"))
_NAT64 = ip_network("64:ff9b::/96")
_CGNAT = ip_network("100.64.0.0/10")
_TRANSPORTS = ("webrtc-direct", "webtransport", "quic-v1", "quic", "wss", "ws", "memory", "unix")


def ip_of(address: Multiaddr) -> IPv4Address | IPv6Address | None:
    """The IP address it begins with, if it does."""
    value = address.raw_value("ip4")
    if value is None:
        value = address.raw_value("ip6")
    return None if value is None else ip_address(value)


def is_dns(address: Multiaddr) -> bool:
    """Whether it begins with a name to be resolved."""
    protocols = address.protocols
    return bool(protocols) and protocols[0] in _DNS


def is_relay(address: Multiaddr) -> bool:
    """Whether it leads through a relay."""
    return "p2p-circuit" in address.protocols


def is_loopback(address: Multiaddr) -> bool:
    """Whether it is this machine's own; memory addresses are."""
    ip = ip_of(address)
    return ip.is_loopback if ip is not None else address.raw_value("memory") is not None


def is_unspecified(address: Multiaddr) -> bool:
    """Whether it is 0.0.0.0 or ::, which stands for every interface."""
    ip = ip_of(address)
    return ip is not None and ip.is_unspecified


def is_private(address: Multiaddr) -> bool:
    """Whether it means something in a local network only (loopback included)."""
    ip = ip_of(address)
    if ip is None:
        return is_loopback(address)
    return (ip.is_private or ip.is_link_local or ip in _CGNAT) and ip not in _NAT64


def is_public(address: Multiaddr) -> bool:
    """Whether anybody on the Internet may dial it; names count as public."""
    ip = ip_of(address)
    if ip is None:
        return is_dns(address)
    return (ip.is_global and not ip.is_multicast) or ip in _NAT64


def ip_group(address: Multiaddr) -> str | None:
    """The neighbourhood of its IP: the IPv4 /16 or the IPv6 /32, the smallest that one party commonly holds whole."""
    ip = ip_of(address)
    if ip is None:
        return None
    return str(ip_network(f"{ip}/{16 if ip.version == 4 else 32}", strict=False))


def transport_of(address: Multiaddr) -> str:
    """Which transport dials it: `tcp`, `ws`, `wss`, `quic-v1`, `webtransport`, `webrtc-direct`, `p2p-circuit`, `memory`, …

    "" if none is recognized.
    """
    protocols = address.protocols
    if "p2p-circuit" in protocols:
        return "p2p-circuit"
    for name in _TRANSPORTS:
        if name in protocols:
            return "wss" if name == "ws" and "tls" in protocols else name
    for name in ("tcp", "udp"):
        if name in protocols:
            return name
    return ""


def host_and_port(address: Multiaddr) -> tuple[str, int] | None:
    """The IP or name, with its zone, and the TCP or UDP port, if it begins with those."""
    protocols = address.protocols
    zone = ""
    if protocols and protocols[0] == "ip6zone":
        zone = f"%{address.value('ip6zone')}"
        protocols = protocols[1:]
    if len(protocols) < 2 or protocols[0] not in {"ip4", "ip6", *_DNS} or protocols[1] not in ("tcp", "udp"):
        return None
    port = address.value(protocols[1])
    return f"{address.value(protocols[0])}{zone}", int(port or 0)

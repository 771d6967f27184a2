"""What kind of address this is: from where it can be reached, by which transport, in which neighbourhood.

Only the beginning of an address is believed: `/dns4/a/tcp/1/ip4/8.8.8.8` leads to the name, not to the IP behind it.
An IPv4 address mapped into IPv6 is the IPv4 address it stands for.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

from py_p2pstack.addresses.multiaddr import Multiaddr

_DNS = frozenset(("dns", "dns4", "dns6", "dnsaddr"))
_HOSTS = _DNS | {"ip4", "ip6"}
_CGNAT = ip_network("100.64.0.0/10")  # RFC 6598: neither private nor global to Python
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052
_LOCAL_NAMES = (".localhost", ".local", ".internal", ".home.arpa")  # RFC 6761, 6762, 8375; ICANN 2024
_TRANSPORTS = ("webrtc-direct", "webtransport", "quic-v1", "quic", "wss", "ws", "memory", "unix")
_GROUP_BITS_4 = 16  # as Bitcoin's address manager and the libp2p DHT's diversity filter
_GROUP_BITS_6 = 32  # the smallest block a registry hands to a provider


def ip_of(address: Multiaddr) -> IPv4Address | IPv6Address | None:
    """The IP address it begins with, if it does."""
    head = address.head
    if head is None:
        return None
    name, value = head
    if name == "ip4":
        return IPv4Address(value)
    if name == "ip6":
        ip = IPv6Address(value)
        return ip.ipv4_mapped or ip
    return None


def is_dns(address: Multiaddr) -> bool:
    """Whether it begins with a name to be resolved."""
    head = address.head
    return head is not None and head[0] in _DNS


def is_relay(address: Multiaddr) -> bool:
    """Whether it leads through a relay."""
    return "p2p-circuit" in address.protocols


def is_loopback(address: Multiaddr) -> bool:
    """Whether it is this machine's own: a loopback IP, the name `localhost`, or memory."""
    ip = ip_of(address)
    if ip is not None:
        return ip.is_loopback
    head = address.head
    return head is not None and (head[0] == "memory" or _name(head).endswith(".localhost"))


def is_unspecified(address: Multiaddr) -> bool:
    """Whether it is 0.0.0.0 or ::, which stands for every interface."""
    ip = ip_of(address)
    return ip is not None and ip.is_unspecified


def is_private(address: Multiaddr) -> bool:
    """Whether it means something in a local network only (loopback included)."""
    ip = ip_of(address)
    if ip is not None:
        ip = _behind_nat64(ip)
        return ip.is_private or ip.is_link_local or ip in _CGNAT
    head = address.head
    return head is not None and (head[0] == "memory" or _name(head).endswith(_LOCAL_NAMES))


def is_public(address: Multiaddr) -> bool:
    """Whether anybody on the Internet may dial it; names count as public, but for those of local networks."""
    ip = ip_of(address)
    if ip is not None:
        ip = _behind_nat64(ip)
        return ip.is_global and not ip.is_multicast
    return is_dns(address) and not is_private(address)


def subnet_of(address: Multiaddr, ipv4_bits: int, ipv6_bits: int) -> str | None:
    """The subnet of its IP with so many leading bits, as `10.1.0.0/16`; None without an IP. For use as a key."""
    ip = ip_of(address)
    if ip is None:
        return None
    bits = ipv4_bits if ip.version == 4 else ipv6_bits
    free = ip.max_prefixlen - bits
    return f"{type(ip)(int(ip) >> free << free)}/{bits}"


def ip_group(address: Multiaddr) -> str | None:
    """The neighbourhood of its IP, the IPv4 /16 or the IPv6 /32, which one party commonly holds whole."""
    return subnet_of(address, _GROUP_BITS_4, _GROUP_BITS_6)


def transport_of(address: Multiaddr) -> str:
    """Which transport dials it; "" if none is recognized.

    One of `tcp`, `ws`, `wss`, `quic-v1`, `webtransport`, `webrtc-direct`, `p2p-circuit`, `memory`, `unix`, `udp`.
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
    if len(protocols) < 2 or protocols[0] not in _HOSTS or protocols[1] not in ("tcp", "udp"):
        return None
    port = address.raw_value(protocols[1])
    assert port is not None
    return f"{address.value(protocols[0])}{zone}", int.from_bytes(port, "big")


def _behind_nat64(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else ip


def _name(head: tuple[str, bytes]) -> str:
    """A name in lower case, with a dot before it so that it ends in `.localhost` even if it is just that."""
    protocol, value = head
    return "." + value.decode().rstrip(".").lower() if protocol in _DNS else ""

"""In which order, and at which pace, the addresses of one peer are dialled: happy eyeballs.

The aim is one connection by the best way with few sockets wasted and no dead address in the way (RFC 8305).
The order
and delays are go-libp2p's `DefaultDialRanker`, with one change:

go starts the first TCP address of each family 250 ms apart and then *all* others at once. A list from
strangers may name dozens, so one dial becomes a volley of SYNs, at targets others chose. RFC 8305 §5 starts
one address each 250 ms, alternating families; but then a good address behind sixty bad ones waits a quarter
of a minute. Here TCP addresses follow one another at RFC pace for four steps; whatever is left goes a step
later, held by the dialer's bound on attempts in flight. So a dead first address costs 250 ms, and no address
waits for its turn longer than a second.

The dialer skips delays while nothing is in flight: an address that fails at once (refused) costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

from py_p2pstack.addresses import Multiaddr, ip_of, is_private, is_relay, transport_of

# Seconds; go-libp2p swarm/dial_ranker.go, where 250 ms is RFC 8305's "Connection Attempt Delay", about one
# round trip.
PUBLIC_DELAY = 0.250
PRIVATE_DELAY = 0.030
RELAY_DELAY = 0.500  # how much later relays start when a direct public address is known
PUBLIC_OTHER_DELAY = 1.0  # transports we like least (WebRTC), behind the last QUIC or TCP attempt
PRIVATE_OTHER_DELAY = 0.100
MAX_STEPS = 4  # ours: TCP attempts that start one by one; see above

_QUIC = frozenset(("quic-v1", "quic", "webtransport"))
_TCP = frozenset(("tcp", "ws", "wss"))


def rank(addresses: Sequence[Multiaddr]) -> list[tuple[Multiaddr, float]]:
    """Return each address with its delay in seconds from the start of the dial, soonest first.

    Private and loopback addresses start beside public ones; relays later, if a public address is known; what
    is none of these (memory addresses, unresolved names) a second behind everything else. Lower ports go
    first: they are more often the listening ones. The result depends on the set of addresses only, not on
    their order.
    """
    if len(addresses) == 1:
        return [(addresses[0], 0.0)]
    relayed: list[Multiaddr] = []
    private: list[Multiaddr] = []
    public: list[Multiaddr] = []
    others: list[Multiaddr] = []
    for address in sorted(set(addresses)):
        if is_relay(address):
            relayed.append(address)
        elif ip_of(address) is None:
            others.append(address)
        elif is_private(address):
            private.append(address)
        else:
            public.append(address)
    ranked = [
        *_schedule(private, PRIVATE_DELAY, PRIVATE_OTHER_DELAY, 0.0),
        *_schedule(public, PUBLIC_DELAY, PUBLIC_OTHER_DELAY, 0.0),
        *_schedule(relayed, PUBLIC_DELAY, PUBLIC_OTHER_DELAY, RELAY_DELAY if public else 0.0),
    ]
    after_all = max(delay for _, delay in ranked) + PUBLIC_OTHER_DELAY if ranked else 0.0
    ranked += [(address, after_all) for address in others]
    ranked.sort(key=lambda entry: entry[1])  # stable: within one delay, the order of preference stays
    return ranked


def _schedule(
    addresses: Iterable[Multiaddr], step: float, other_delay: float, offset: float
) -> list[tuple[Multiaddr, float]]:
    """QUIC, then TCP, then the rest of one group, each kind by preference."""
    quic: list[Multiaddr] = []
    tcp: list[Multiaddr] = []
    rest: list[Multiaddr] = []
    for address in addresses:
        transport = _base_transport(address)
        (quic if transport in _QUIC else tcp if transport in _TCP else rest).append(address)
    result = []
    delay = last = offset
    # The best QUIC address of each family one by one, all others together: attempts are cheap, and most peers
    # have one.
    quic_steps = 2 if _both_families(quic) else 1
    for position, address in enumerate(_by_family(quic)):
        last = offset + step * min(position, quic_steps)
        result.append((address, last))
    if quic:
        delay = last + step
    for position, address in enumerate(_by_family(tcp)):
        last = delay + step * min(position, MAX_STEPS)
        result.append((address, last))
    result += [(address, last + other_delay if quic or tcp else offset) for address in rest]
    return result


def _base_transport(address: Multiaddr) -> str:
    """How the first hop is reached: for a relayed address, the transport to the relay."""
    return transport_of(address.decapsulate("p2p-circuit") if is_relay(address) else address)


def _by_family(addresses: list[Multiaddr]) -> list[Multiaddr]:
    """IPv6 and IPv4 in turn, IPv6 first (RFC 8305 §4), each with the lowest port first."""
    ordered = sorted(addresses, key=_preference)
    v6 = [address for address in ordered if _is_ipv6(address)]
    v4 = [address for address in ordered if not _is_ipv6(address)]
    return [address for address in chain.from_iterable(zip_longest(v6, v4)) if address is not None]


def _is_ipv6(address: Multiaddr) -> bool:
    ip = ip_of(address)
    return ip is not None and ip.version == 6


def _both_families(addresses: list[Multiaddr]) -> bool:
    v6 = sum(_is_ipv6(address) for address in addresses)
    return 0 < v6 < len(addresses)


def _preference(address: Multiaddr) -> tuple[int, int]:
    """Lower is better: QUIC before WebTransport and QUIC drafts, then the port."""
    port = address.raw_value("udp") or address.raw_value("tcp") or b""
    kind = (
        ("quic-v1", "quic", "webtransport").index(transport) if (transport := _base_transport(address)) in _QUIC else 0
    )
    return kind, int.from_bytes(port, "big")

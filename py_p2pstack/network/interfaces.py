"""The addresses of this machine's interfaces, to spell out what listening on 0.0.0.0 or :: means."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from ipaddress import ip_address

from py_p2pstack.addresses import Multiaddr, is_unspecified

_MAX_AGE = 10.0  # seconds; every identify asks, interfaces change rarely
_cached: tuple[float, tuple[str, ...]] | None = None


def expand_unspecified(addresses: Iterable[Multiaddr]) -> list[Multiaddr]:
    """Put an address per interface of its family in the place of each on 0.0.0.0 or ::; keep the rest.

    Link-local IPv6 addresses are left out: they mean nothing without a zone, and zones differ between
    machines.
    """
    expanded: dict[Multiaddr, None] = {}
    for address in addresses:
        if not is_unspecified(address):
            expanded[address] = None
            continue
        family = address.protocols[0]
        rest = str(address).removeprefix(f"/{family}/{address.value(family)}")
        for ip in interface_addresses():
            if ("ip6" if ":" in ip else "ip4") == family:
                expanded[Multiaddr.parse(f"/{family}/{ip}{rest}")] = None
    return list(expanded)


def interface_addresses() -> tuple[str, ...]:
    """The IP addresses of all interfaces that are no link-local IPv6 ones, at most ten seconds old."""
    global _cached
    now = time.monotonic()
    if _cached is None or now - _cached[0] > _MAX_AGE:
        _cached = now, tuple(dict.fromkeys(ip for ip in _all_addresses() if _is_useful(ip)))
    return _cached[1]


def _is_useful(ip: str) -> bool:
    parsed = ip_address(ip)
    return not (parsed.is_unspecified or parsed.is_multicast or (parsed.version == 6 and parsed.is_link_local))


def _all_addresses() -> list[str]:
    import psutil  # slow; only who listens everywhere needs it

    return [
        entry.address.partition("%")[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    ]

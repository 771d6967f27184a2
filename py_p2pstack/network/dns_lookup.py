"""Questions to the DNS, by dnspython, on whichever event loop is running.

What this machine itself says (`localhost`, the hosts file) comes before the DNS, as in every resolver.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from py_p2pstack.errors import ResolutionError

if TYPE_CHECKING:
    import dns.asyncresolver

_LIFETIME = 5.0  # seconds for one question, all nameservers and retries together
_MAX_HOSTS_FILE = 1 << 20  # bytes; a longer one is a block list, not names to dial


class DnsLookup:
    """Asks the system's nameservers, or those given as (IP address, port)."""

    def __init__(self, nameservers: Sequence[tuple[str, int]] | None = None) -> None:
        self._nameservers = None if nameservers is None else tuple(nameservers)
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def addresses(self, name: str, version: int) -> Sequence[str]:
        """The IP addresses of `name`, of `version` 4 or 6; none, if there are none. Raises ResolutionError.

        Names are taken as absolute: search domains are for what a user typed, not for what a stranger sent.
        """
        own = _own_addresses(name)
        if own:
            return [ip for ip in own if ip_address(ip).version == version]
        return [str(record) for record in await self._ask(name, "A" if version == 4 else "AAAA")]

    async def texts(self, name: str) -> Sequence[str]:
        """The TXT records of `name` that are UTF-8, each with its pieces joined; none, if there are none.

        Raises ResolutionError.
        """
        found = []
        for record in await self._ask(name, "TXT"):
            try:
                found.append(b"".join(record.strings).decode())
            except UnicodeDecodeError:
                continue
        return sorted(found)  # servers rotate them; our order of dialling is not theirs to choose

    async def _ask(self, name: str, kind: str) -> list[Any]:
        resolver = self._resolver
        if resolver is None:
            # A fifth of a second of imports: not on the event loop's time.
            resolver = self._resolver = await anyio.to_thread.run_sync(self._build)
        import dns.asyncbackend
        import dns.exception
        import dns.resolver

        # dnspython remembers the first backend it met; ours may be another by now.
        backend = dns.asyncbackend.get_backend(dns.asyncbackend.sniff())
        try:
            answer = await resolver.resolve(name, kind, lifetime=_LIFETIME, search=False, backend=backend)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError, ValueError) as fault:
            raise ResolutionError(name, f"{kind}: {fault}") from fault
        return list(answer)

    def _build(self) -> dns.asyncresolver.Resolver:
        import dns.asyncresolver
        import dns.resolver

        if self._nameservers is None:
            try:
                return dns.asyncresolver.Resolver()
            except dns.resolver.NoResolverConfiguration as fault:
                raise ResolutionError("names", f"no DNS here: {fault}") from fault
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in self._nameservers]
        return resolver


def _own_addresses(name: str) -> list[str]:
    """What this machine itself says `name` is."""
    name = name.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return ["127.0.0.1", "::1"]  # RFC 6761 §6.3: never asked of the DNS
    try:
        with _hosts_file().open(encoding="utf-8", errors="replace") as lines:
            return parse_hosts(lines.read(_MAX_HOSTS_FILE)).get(name, [])
    except OSError:
        return []


def _hosts_file() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "drivers", "etc", "hosts")
    return Path("/etc/hosts")


def parse_hosts(text: str) -> dict[str, list[str]]:
    """Read a hosts file: lower-case name → IP addresses, in order.

    Skips what is malformed. Source: hosts(5).
    """
    names: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2:
            continue
        try:
            ip = str(ip_address(words[0].partition("%")[0]))
        except ValueError:
            continue
        for name in words[1:]:
            addresses = names.setdefault(name.lower(), [])
            if ip not in addresses:
                addresses.append(ip)
    return names

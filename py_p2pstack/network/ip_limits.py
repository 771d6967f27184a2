"""How many connections one IP address, or the subnet its owner holds, may have and may open in a while.

Identities cost nothing, addresses do: these limits hold before a handshake, when nothing else is known. A
count bounds live connections of both directions, a token bucket the rate of new inbound ones. Source:
go-libp2p rcmgr/conn_limiter.go and conn_rate_limiter.go; loopback is exempt from both, as there.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeAlias

from py_p2pstack.errors import ResourceLimitExceeded

IpAddress: TypeAlias = IPv4Address | IPv6Address
_Key: TypeAlias = tuple[int, int, int]
"""IP version, prefix length, the prefix as a number."""

_SWEEP = 4  # buckets looked at for each connection: the map empties itself without a task


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetLimit:
    """The limit of each subnet of one size."""

    prefix_length: int
    """How many leading bits make a subnet."""
    connections: int
    """Live connections, both directions."""
    rate: float
    """New inbound connections a second, in the long run; 0 for no limit."""
    burst: int
    """New inbound connections at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IpLimits:
    """Limits per address and subnet."""

    ipv4: tuple[SubnetLimit, ...] = (SubnetLimit(prefix_length=32, connections=8, rate=0.2, burst=16),)
    """For IPv4 addresses, and IPv4 addresses in IPv6 clothes."""
    ipv6: tuple[SubnetLimit, ...] = (
        SubnetLimit(prefix_length=56, connections=8, rate=0.2, burst=16),
        SubnetLimit(prefix_length=48, connections=64, rate=0.5, burst=80),
    )
    """For IPv6 addresses: a customer gets a /56, an organisation a /48."""
    exempt: tuple[IPv4Network | IPv6Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    """Networks without limits."""
    max_tracked: int = 65_536
    """Subnets whose rate is remembered; the longest quiet is forgotten first."""

    @classmethod
    def unlimited(cls) -> IpLimits:
        """No limits at all."""
        return cls(ipv4=(), ipv6=())


class _Bucket:
    __slots__ = ("tokens", "updated")

    def __init__(self, tokens: float, updated: float) -> None:
        self.tokens = tokens
        self.updated = updated


class IpLimiter:
    """Counts connections by subnet. Pure: `now` is monotonic time in seconds."""

    __slots__ = ("_buckets", "_counts", "_limits")

    def __init__(self, limits: IpLimits) -> None:
        self._limits = limits
        self._counts: dict[_Key, int] = {}
        self._buckets: OrderedDict[_Key, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def tracked(self) -> int:
        """Subnets whose rate is remembered."""
        return len(self._buckets)

    def reserve(self, ip: IpAddress, now: float, *, inbound: bool) -> tuple[_Key, ...]:
        """Take a place for a connection with `ip`; give what is returned to `release` when it ends.

        Raises ResourceLimitExceeded, and then takes neither a place nor a token.
        """
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        limits = self._limits.ipv4 if ip.version == 4 else self._limits.ipv6
        if not limits or any(ip in network for network in self._limits.exempt):
            return ()
        number, bits = int(ip), ip.max_prefixlen
        keys = tuple((ip.version, limit.prefix_length, number >> (bits - limit.prefix_length)) for limit in limits)
        for key, limit in zip(keys, limits, strict=True):
            count = self._counts.get(key, 0)
            if count >= limit.connections:
                raise ResourceLimitExceeded(f"ip {ip}/{limit.prefix_length}", limit.connections, count + 1)
        if inbound:
            self._take_tokens(ip, keys, limits, now)
        for key in keys:
            self._counts[key] = self._counts.get(key, 0) + 1
        return keys

    def release(self, keys: tuple[_Key, ...]) -> None:
        """Give a place back."""
        for key in keys:
            count = self._counts[key] - 1
            if count:
                self._counts[key] = count
            else:
                del self._counts[key]

    def _take_tokens(self, ip: IpAddress, keys: tuple[_Key, ...], limits: tuple[SubnetLimit, ...], now: float) -> None:
        buckets = self._buckets
        self._sweep(now)
        taken = []
        for key, limit in zip(keys, limits, strict=True):
            if not limit.rate:
                continue
            bucket = buckets.get(key)
            if bucket is None:
                bucket = _Bucket(limit.burst, now)
            else:
                bucket.tokens = min(limit.burst, bucket.tokens + (now - bucket.updated) * limit.rate)
                bucket.updated = now
            if bucket.tokens < 1:
                raise ResourceLimitExceeded(f"ip rate {ip}/{limit.prefix_length}", limit.rate, limit.burst + 1)
            taken.append((key, bucket))
        for key, bucket in taken:
            bucket.tokens -= 1
            buckets[key] = bucket
            buckets.move_to_end(key)
        while len(buckets) > self._limits.max_tracked:
            buckets.popitem(last=False)

    def _sweep(self, now: float) -> None:
        """Forget the longest quiet buckets that are full again: a new one would be the same."""
        for _ in range(min(_SWEEP, len(self._buckets))):
            key, bucket = next(iter(self._buckets.items()))
            limit = self._limit_of(key)
            if bucket.tokens + (now - bucket.updated) * limit.rate < limit.burst:
                break
            del self._buckets[key]

    def _limit_of(self, key: _Key) -> SubnetLimit:
        limits = self._limits.ipv4 if key[0] == 4 else self._limits.ipv6
        return next(limit for limit in limits if limit.prefix_length == key[1])

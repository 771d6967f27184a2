"""The knobs of what protects lookups against peers that lie and peers that crowd around a key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """How much a lookup spends on not being misled."""

    disjoint_paths: int = 1
    """Paths a lookup takes that share no peer (S/Kademlia), at most α; 1: a plain lookup. Five find an honest peer 19
    times out of 20 where a quarter of all peers tells of nobody but its own, for half as many requests again."""
    quorum_ip_groups: bool = False
    """Whether peers count once for each IP group (of public addresses: IPv4 /16, IPv6 /32) in quorums and majorities.
    Private and loopback addresses are not limited."""
    sybil_check: bool = True
    """Whether putting, getting, providing and finding providers also ask the wider region of a key whose nearest
    peers are nearer than chance puts them. It needs an estimate of the network's size, which a few lookups give."""
    sybil_alarm: float = 1e-3
    """How unlikely chance must be: so often the wider region is asked in vain. 1: it is always asked."""
    max_region_peers: int = 200
    """Peers of such a region that are asked besides the k nearest."""

    def __post_init__(self) -> None:
        if self.disjoint_paths < 1 or self.max_region_peers < 1 or not 0 < self.sybil_alarm <= 1:
            raise ValueError(
                "disjoint_paths and max_region_peers begin at 1, sybil_alarm lies above 0, and not above 1"
            )

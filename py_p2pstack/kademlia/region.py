"""Whether a key is surrounded by more peers than chance puts there, and what to ask then.

Peer ids are cheap, so whoever wants a key's value gone makes peers whose keys are the nearest to it: all that are
asked are theirs. But peers nearer than chance allows are noticed: with the size of the network known, the number within
each distance is Poisson distributed. The way out is not to believe the k nearest, but to cover the region in which
k honest peers are expected, with as many as there are in it.

Every answer to the key itself is crowded by the same peers, so the region is explored by other keys in it.
Source: Sridhar et al., "Content Censorship in the InterPlanetary File System", NDSS 2024 (detection and region-based
queries); arXiv 2505.01139 on attackers who stay below the threshold of a test that compares prefix lengths only, which
is why ours looks at the density at every rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from py_p2pstack.kademlia.distance import KEY_BITS
from py_p2pstack.kademlia.network_size import NetworkSize, probability_of_at_least

_CAUTION = 2.0  # standard errors by which the network may be larger than estimated before a key counts as crowded


@dataclass(frozen=True, slots=True)
class Region:
    """All keys nearer to `target` than `radius`."""

    target: int
    radius: int

    @property
    def prefix_length(self) -> int:
        """How many leading bits all of its keys share with the target (at least)."""
        return KEY_BITS - (self.radius - 1).bit_length() if self.radius > 1 else KEY_BITS

    def __contains__(self, key: int) -> bool:
        return key ^ self.target < self.radius

    def branches(self, count: float) -> range:
        """The prefix lengths at which to leave the way to the target, one key each, to hear of the whole region.

        A key that shares exactly the first of these numbers of bits with the target lies in the half of the region
        away from it, the next in its quarter, and so on down to where less than one of the `count` peers lives that
        are expected in the region. Peers that crowd the target are in none of these branches, or in few.
        """
        first = self.prefix_length
        return range(first, min(first + max(int(count), 1).bit_length(), KEY_BITS))


def crowding(distances: Sequence[int], network: NetworkSize) -> float:
    """How likely chance alone puts peers as near to a key as these distances say: an upper bound on it, 0 to 1.

    Small means that somebody chose their keys; 0.001 or less is a sensible alarm. Honest keys come out below x in a
    fraction of at most x of all lookups, also if the network is larger than estimated by two standard errors.
    """
    if not distances:
        return 1.0
    factor = 1 + _CAUTION * network.error
    rarest = 1.0
    for rank, distance in enumerate(sorted(distances), 1):
        expected = network.expected(distance) * factor
        if rank > expected + 2 * sqrt(expected):  # else it is no rarer than one time in fifty
            rarest = min(rarest, probability_of_at_least(rank, expected))
    return min(rarest * len(distances), 1.0)  # of so many ranks, one is rare by chance (Bonferroni)


def honest_region(target: int, network: NetworkSize, count: float) -> Region:
    """The region around a key in which `count` honest peers are expected."""
    return Region(target, max(network.radius(count), 1))

"""How many peers there are, told from how near the nearest of random keys lie.

Among N peers with uniformly random keys, as many lie within a distance of a target as a Poisson process of density N
puts there; so the distance of the k-th nearest, as a fraction of the key space, is Gamma(k)/N distributed, and no other
distance of the same lookup adds anything. go-libp2p-kad-dht's netsize fits a line through the means of all k distances;
we take the median of the k-th ones instead, because whoever surrounds a few keys with peers of its own moves a mean as
far as it likes, and a median hardly.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma, log, sqrt

from py_p2pstack.kademlia.distance import KEY_BITS

KEY_SPACE = 1 << KEY_BITS


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """An estimate of how many peers there are besides us."""

    size: float
    error: float
    """Its standard error as a fraction of `size`: 0.1 means give or take 10 %, two times out of three."""

    def __float__(self) -> float:
        return self.size

    def expected(self, distance: int) -> float:
        """How many peers are nearer to a key than `distance`, on average."""
        return distance * self.size / KEY_SPACE

    def radius(self, count: float) -> int:
        """The distance to a key within which there are `count` peers, on average."""
        return min(int(count / self.size * KEY_SPACE), KEY_SPACE - 1)

    def quantile(self, rank: int, probability: float) -> int:
        """The distance within which the `rank`-th nearest peer of a key lies with a probability between 0 and 1.

        With 0.1: a peer nearer than that is one of the `rank` nearest with a certainty of 0.9.
        """
        low, high = 0.0, 10.0 * (rank + 10)
        for _ in range(60):
            middle = (low + high) / 2
            if probability_of_at_least(rank, middle) < probability:
                low = middle
            else:
                high = middle
        return self.radius(high)


class NetworkSizeEstimator:
    """Estimates from the lookups of the last hours; each lookup counts once for its target."""

    __slots__ = ("_by_target", "_distances", "k", "max_age", "max_lookups", "min_lookups")

    def __init__(self, k: int = 20, *, max_age: float = 7200.0, min_lookups: int = 5, max_lookups: int = 150) -> None:
        """`max_age` in seconds; below `min_lookups` there is no estimate (numbers: go-libp2p-kad-dht netsize)."""
        if not (k > 0 and 0 < min_lookups <= max_lookups):
            raise ValueError("an estimate needs k > 0 and 0 < min_lookups <= max_lookups")
        self.k = k
        self.max_age = max_age
        self.min_lookups = min_lookups
        self.max_lookups = max_lookups
        self._by_target: dict[int, tuple[float, int]] = {}
        self._distances: list[int] = []  # the same, sorted

    def __len__(self) -> int:
        """How many lookups are remembered."""
        return len(self._by_target)

    def track(self, target: int, distances: Sequence[int], now: float) -> bool:
        """Take in a completed lookup: the distances of its k nearest peers to its target.

        A later lookup of the same target replaces the earlier one, so nobody's favourite key outweighs the others.
        Returns whether it counts: one that found fewer than k peers tells nothing of the density.
        """
        if len(distances) < self.k:
            return False
        farthest = sorted(distances)[self.k - 1]
        if target in self._by_target:
            self._forget(target)
        elif len(self._by_target) >= self.max_lookups:
            self._forget(next(iter(self._by_target)))
        self._by_target[target] = (now, farthest)
        insort(self._distances, farthest)
        return True

    def _forget(self, target: int) -> None:
        _, distance = self._by_target.pop(target)
        del self._distances[bisect_left(self._distances, distance)]

    def estimate(self, now: float) -> NetworkSize | None:
        """The size, from the lookups of the last `max_age` seconds; None if there are fewer than `min_lookups`."""
        oldest = now - self.max_age
        while self._by_target:
            target = next(iter(self._by_target))
            if self._by_target[target][0] > oldest:
                break
            self._forget(target)
        count = len(self._by_target)
        if count < self.min_lookups:
            return None
        middle = (self._distances[count // 2] + self._distances[(count - 1) // 2]) / 2
        if middle <= 0:  # whoever found keys that near is not one to believe
            return None
        expected = self.k - 1 / 3 + 8 / (405 * self.k)  # the median of Gamma(k), to 1e-3
        # The median's standard error is √(π/2) that of the mean, which is 1/√k of it for each lookup.
        return NetworkSize(expected * KEY_SPACE / middle, 1.2533 / sqrt(self.k * count))


def probability_of_at_least(count: int, expected: float) -> float:
    """How likely a Poisson process that puts `expected` peers somewhere on average puts at least `count` there."""
    if count <= 0:
        return 1.0
    if expected <= 0:
        return 0.0
    # Sum the shorter-lived side: the terms fall from their first on.
    if count > expected:
        return min(_tail(count, expected, 1), 1.0)
    return max(1.0 - _tail(count - 1, expected, -1), 0.0)


def _tail(count: int, expected: float, step: int) -> float:
    term = exp(count * log(expected) - expected - lgamma(count + 1))
    total = 0.0
    while count >= 0 and term > total * 1e-16:
        total += term
        term *= expected / (count + 1) if step > 0 else count / expected
        count += step
    return total

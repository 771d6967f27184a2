"""What decides in an optimistic provide: whom to store with before the lookup is over, and when that is enough.

With the size of the network known, a peer's distance alone tells how likely it is among the k nearest, and the mean
distance of the nearest found how likely there are none nearer. So the records are sent while the lookup still runs,
which ends as soon as those found are probably the nearest; and the caller is not kept waiting for the last few, which
are the slow and the dead. No I/O.
Source: go-libp2p-kad-dht lookup_optim.go; Trautwein et al., "Optimistic Provide" (RFM 17).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from py_p2pstack.kademlia import KEY_BITS

P = TypeVar("P", bound=Hashable)

_KEY_SPACE = float(1 << KEY_BITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimisticConfig:
    """How sure an optimistic provide wants to be. All values are go-libp2p-kad-dht's."""

    certainty: float = 0.9
    """How likely a peer is among the k nearest before it is given the record while the lookup goes on."""
    strictness: float = 0.1
    """How likely the k nearest are farther away on average than what ends the lookup early."""
    return_ratio: float = 0.75
    """After which part of the k stores the caller goes on; the rest happens in the background."""
    max_background: int = 60
    """Stores in the background at once, of all provides; beyond, a provide waits for its own."""

    def __post_init__(self) -> None:
        if not (0 < self.certainty < 1 and 0 < self.strictness < 1 and 0 < self.return_ratio <= 1):
            raise ValueError("certainty and strictness lie between 0 and 1, return_ratio in 0..1")


class OptimisticProvide(Generic[P]):
    """One provide: show it the nearest peers after each answer, and store with those it returns."""

    __slots__ = ("_distance", "_k", "chosen", "mean_limit", "peer_limit")

    def __init__(self, network_size: float, distance: Callable[[P], int], *, k: int, config: OptimisticConfig) -> None:
        """`distance` is a peer's to the key; `network_size` an estimate of how many peers there are."""
        self.peer_limit = gamma_quantile(k, 1 - config.certainty) / network_size
        """A peer this near (as a part of the key space) is among the k nearest with the certainty asked for."""
        self.mean_limit = gamma_quantile(k / 2 + 1, 1 - config.strictness) / network_size
        """k peers this near on average are taken to be the nearest."""
        self.chosen: set[P] = set()
        """Those returned so far."""
        self._k = k
        self._distance = distance

    def choose(self, nearest: Sequence[P]) -> list[P]:
        """Return whom of the k nearest not failed so far to store with now; nobody twice."""
        limit = self.peer_limit * _KEY_SPACE
        fresh = [peer for peer in nearest if peer not in self.chosen and self._distance(peer) <= limit]
        self.chosen.update(fresh)
        return fresh

    def is_enough(self, nearest: Sequence[P], stored: int) -> bool:
        """Whether to end the lookup: `stored` (under way, or done) are k, or the k nearest are near enough."""
        if stored >= self._k:
            return True
        if len(nearest) < self._k:
            return False
        mean = sum(map(self._distance, nearest)) / len(nearest)
        return mean < self.mean_limit * _KEY_SPACE


@lru_cache(maxsize=16)  # a millisecond each
def gamma_quantile(shape: float, probability: float) -> float:
    """The x below which a gamma variable of this shape (and rate 1) lies with this probability.

    The distance of the i-th nearest of n peers, as a part of the key space, times n is such a variable of shape i.
    """
    low, high = 0.0, shape + 1.0
    while _gamma_probability(shape, high) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if _gamma_probability(shape, middle) < probability:
            low = middle
        else:
            high = middle
    return high


def _gamma_probability(shape: float, x: float) -> float:
    """The regularised lower incomplete gamma function, by its series (Abramowitz & Stegun 6.5.29)."""
    if x <= 0:
        return 0.0
    term = math.exp(shape * math.log(x) - x - math.lgamma(shape + 1))
    total, n = 0.0, shape
    while term > total * 1e-17:
        total += term
        n += 1
        term *= x / n
    return min(total, 1.0)

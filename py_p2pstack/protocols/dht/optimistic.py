"""What decides in an optimistic provide: whom to store with before the lookup is over, and when that is enough.

With the size of the network known, a peer's distance alone tells how likely it is among the k nearest, and the mean
distance of the nearest found how likely there are none nearer. So the records are sent while the lookup still runs,
which ends as soon as those found are probably the nearest; and the caller is not kept waiting for the last few, which
are the slow and the dead. No I/O.
Source: go-libp2p-kad-dht lookup_optim.go; Trautwein et al., "Optimistic Provide" (RFM 17).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from py_p2pstack.kademlia import NetworkSize

P = TypeVar("P", bound=Hashable)


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

    def __init__(self, network: NetworkSize, distance: Callable[[P], int], *, k: int, config: OptimisticConfig) -> None:
        """`distance` is a peer's to the key."""
        self.peer_limit = network.quantile(k, 1 - config.certainty)
        """A peer this near is among the k nearest with the certainty asked for."""
        self.mean_limit = network.quantile(k // 2 + 1, 1 - config.strictness)
        """k peers this near on average are taken to be the nearest."""
        self.chosen: set[P] = set()
        """Those returned so far."""
        self._k = k
        self._distance = distance

    def choose(self, nearest: Sequence[P]) -> list[P]:
        """Return whom of the k nearest not failed so far to store with now; nobody twice."""
        near = (peer for peer in nearest if self._distance(peer) <= self.peer_limit)
        fresh = [peer for peer in near if peer not in self.chosen]
        self.chosen.update(fresh)
        return fresh

    def is_enough(self, nearest: Sequence[P], stored: int) -> bool:
        """Whether to end the lookup: `stored` (under way, or done) are k, or the k nearest are near enough."""
        if stored >= self._k:
            return True
        if len(nearest) < self._k:
            return False
        return sum(map(self._distance, nearest)) < self.mean_limit * len(nearest)

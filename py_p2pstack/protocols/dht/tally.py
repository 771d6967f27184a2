"""Which of the values that peers returned is the best, and who has it. Pure.

A validator that prefers the one of two values whatever their order says which is better; of two that it takes in either
order (blank values, say) it knows nothing. Then the value that more peers hold wins, and nobody is corrected: a node
that missed the last write must not undo it by having answered first. (go-libp2p lets the first answer win, and writes
it over all others.) Peers may be counted by IP group, lest one party with many of them outvote all others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Set

from py_p2pstack.errors import InvalidRecord
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import independent
from py_p2pstack.protocols.dht.validators import Validator

MAX_RIVALS = 16  # values of undecided rank that are counted; a liar can invent as many as it likes


class Tally:
    """Counts the valid values for one key."""

    __slots__ = ("_groups", "_groups_of", "_holders", "_key", "_validator", "best", "stale")

    def __init__(
        self, key: bytes, validator: Validator, groups_of: Callable[[PeerId], Set[Hashable]] | None = None
    ) -> None:
        """`groups_of` tells the IP groups of a peer that answers; None counts each peer."""
        self.best: bytes | None = None
        """The best so far."""
        self.stale: set[PeerId] = set()
        """Who holds a value that is worse than one seen."""
        self._key = key
        self._validator = validator
        self._groups_of = groups_of
        self._groups: dict[PeerId, Set[Hashable]] = {}  # of everybody who answered, as they were then
        self._holders: dict[bytes, set[PeerId]] = {}  # the best, and what is neither better nor worse

    @property
    def answers(self) -> int:
        """How many gave a valid value, equal ones too."""
        return self._count(self._groups)

    @property
    def holders(self) -> frozenset[PeerId]:
        """Who holds the best."""
        return frozenset(self._holders.get(self.best, ())) if self.best is not None else frozenset()

    def add(self, peer: PeerId, value: bytes, now: float) -> bool:
        """Count a value that was found valid; returns whether the best is another now."""
        self._groups[peer] = frozenset() if self._groups_of is None else self._groups_of(peer)
        if self.best is None:
            self.best = value
        if value not in self._holders:
            rank = 0 if value == self.best else compare(self._validator, self._key, value, self.best, now)
            if rank < 0:
                self.stale.add(peer)
                return False
            if rank > 0:
                self.stale.update(*self._holders.values())
                self._holders.clear()
                self.best = value
            elif len(self._holders) >= MAX_RIVALS:
                return False
        self._holders.setdefault(value, set()).add(peer)
        if value != self.best and self._count(self._holders[value]) > self._count(self._holders[self.best]):
            self.best = value
            return True
        return len(self._holders) == 1 and len(self._holders[value]) == 1

    def _count(self, peers: Collection[PeerId]) -> int:
        return len(peers) if self._groups_of is None else independent(self._groups[peer] for peer in peers)


def compare(validator: Validator, key: bytes, one: bytes, other: bytes, now: float) -> int:
    """Return 1 if `one` is better whatever the order, -1 if `other` is, 0 if the validator takes what comes first."""
    try:
        ahead = validator.select(key, [one, other], now) == 0
        behind = validator.select(key, [other, one], now) == 1
    except InvalidRecord:
        return 0
    return 0 if ahead != behind else 1 if ahead else -1

"""A bounded map by peer: when it is full the longest untouched entry goes, that of a spared peer last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from py_p2pstack.identity import PeerId

V = TypeVar("V")

_CHANCES = 16  # spared entries passed over in one search for a victim: eviction stays O(1)


def _spare_nobody(peer: PeerId) -> bool:
    return False


class PeerMap(Generic[V]):
    """Values by peer, bounded in number and total weight. Reading is not touching: it must be quick."""

    __slots__ = ("_entries", "_max_peers", "_max_weight", "_spare", "weight")

    def __init__(
        self,
        max_peers: int,
        max_weight: int | None = None,
        *,
        spare: Callable[[PeerId], bool] = _spare_nobody,
    ) -> None:
        self._max_peers = max_peers
        self._max_weight = max_weight
        self._spare = spare
        self._entries: OrderedDict[PeerId, tuple[V, int]] = OrderedDict()
        self.weight = 0
        """The weights of all entries together."""

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[PeerId]:
        return iter(self._entries)

    def __contains__(self, peer: object) -> bool:
        return peer in self._entries

    def get(self, peer: PeerId) -> V | None:
        """The value of `peer`."""
        entry = self._entries.get(peer)
        return None if entry is None else entry[0]

    def put(self, peer: PeerId, value: V, weight: int = 0) -> None:
        """Set a value, in place of an earlier one; others make room. What is too heavy alone is not kept."""
        self.pop(peer)
        entries = self._entries
        most = self._max_weight
        if most is not None and weight > most:
            return
        while entries and (len(entries) >= self._max_peers or (most is not None and self.weight + weight > most)):
            self.pop(self._victim())
        entries[peer] = (value, weight)
        self.weight += weight

    def pop(self, peer: PeerId) -> V | None:
        """Forget `peer`; returns the value it had."""
        entry = self._entries.pop(peer, None)
        if entry is None:
            return None
        self.weight -= entry[1]
        return entry[0]

    def _victim(self) -> PeerId:
        for _ in range(min(_CHANCES, len(self._entries))):
            oldest = next(iter(self._entries))
            if not self._spare(oldest):
                break
            self._entries.move_to_end(oldest)
        return next(iter(self._entries))

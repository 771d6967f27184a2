"""IP diversity: one party with many addresses in one neighbourhood must not fill a routing table or an answer.

Source: go-libp2p-kbucket peerdiversity, go-libp2p-kad-dht rt_diversity_filter; attacks: CVE-2020-10937.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence, Set
from itertools import chain
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


class IpDiversity(Generic[P]):
    """Counts the IP groups of the peers in a table.

    `groups_of` tells the groups of a peer's addresses; a peer without any (loopback, private networks) is not limited.
    The groups a peer had when it was admitted are the ones given back, even if its addresses changed since.
    """

    __slots__ = ("_by_cpl", "_by_table", "_groups_of", "_held", "max_per_cpl", "max_per_table")

    def __init__(
        self, groups_of: Callable[[P], Iterable[Hashable]], *, max_per_cpl: int = 2, max_per_table: int = 3
    ) -> None:
        self._groups_of = groups_of
        self.max_per_cpl = max_per_cpl
        self.max_per_table = max_per_table
        self._held: dict[P, tuple[int, Set[Hashable]]] = {}
        self._by_table: Counter[Hashable] = Counter()
        self._by_cpl: Counter[tuple[int, Hashable]] = Counter()

    def __len__(self) -> int:
        """How many peers are counted."""
        return len(self._held)

    def admit(self, peer: P, cpl: int) -> bool:
        """Count `peer`, unless a group of its is full at this prefix length or in the table."""
        groups = frozenset(self._groups_of(peer))
        for group in groups:
            if self._by_table[group] >= self.max_per_table or self._by_cpl[cpl, group] >= self.max_per_cpl:
                return False
        if groups:
            self._held[peer] = (cpl, groups)
            self._by_table.update(groups)
            self._by_cpl.update((cpl, group) for group in groups)
        return True

    def release(self, peer: P) -> None:
        """Count `peer` no longer."""
        cpl, groups = self._held.pop(peer, (0, frozenset()))
        for group in groups:
            _decrement(self._by_table, group)
            _decrement(self._by_cpl, (cpl, group))


def crowded_out(groups: Sequence[Set[Hashable]], limit: int) -> set[int]:
    """The indices of peers that share an IP group with more than `limit` peers of the same answer (all of them go)."""
    crowds = {group for group, count in Counter(chain.from_iterable(groups)).items() if count > limit}
    return {index for index, each in enumerate(groups) if not crowds.isdisjoint(each)} if crowds else set()


def independent(groups: Iterable[Set[Hashable]]) -> int:
    """How many voices peers with these IP groups have: as many as there are among them that share no group.

    A hundred peers of one network say no more than one, and a peer that has addresses everywhere says it once. A peer
    without groups (loopback, private networks) speaks for itself.
    """
    count = 0
    taken: set[Hashable] = set()
    for each in sorted(groups, key=len):  # who is in many groups would silence the others
        if taken.isdisjoint(each):
            taken |= each
            count += 1
    return count


C = TypeVar("C", bound=Hashable)


def _decrement(counter: Counter[C], key: C) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]

"""What decides in a re-provide sweep: what is known of the key space, and when which part of it is due. No I/O.

A lookup of t returns the k nearest to t. If the farthest of them shares c bits with t, there are no others among the
keys that share c + 1 bits with t: that block of the key space is known. A region is a smallest block that holds at
least k peers: the k nearest of every key in it are in it too. So once a region is known, which takes two or three
lookups in it, every one of our keys there has its true nearest peers without a lookup of its own.
Source: go-libp2p-kad-dht provider/ has the idea.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from py_p2pstack.kademlia import KEY_BITS, common_prefix_length

P = TypeVar("P", bound=Hashable)

END = 1 << KEY_BITS  # one behind the last key


class Block(NamedTuple):
    """The keys that share a prefix: those in [start, end)."""

    start: int
    end: int

    def __contains__(self, key: object) -> bool:
        return isinstance(key, int) and self.start <= key < self.end

    @property
    def prefix_length(self) -> int:
        """How many leading bits they share."""
        return KEY_BITS + 1 - (self.end - self.start).bit_length()


EVERYTHING = Block(0, END)
NOWHERE = Block(0, 0)


def block_around(key: int, prefix_length: int) -> Block:
    """The block of the keys that share `prefix_length` bits with `key`."""
    size = KEY_BITS - prefix_length
    start = key >> size << size
    return Block(start, start + (1 << size))


class KnownSpace(Generic[P]):
    """The peers that lookups found, and in which parts of the key space there are no others."""

    def __init__(self, key_of: Callable[[P], int], k: int) -> None:
        """Nothing is known at first. `k`: how many nearest are wanted, and how many a lookup returns."""
        self._key_of = key_of
        self._k = k
        self._keys: list[int] = []
        self._peer_at: dict[int, P] = {}
        self._starts: list[int] = []  # of the known parts, which neither overlap nor touch
        self._ends: list[int] = []
        self._last = NOWHERE, NOWHERE  # the half of a region in which a key lay, and the region; until more are learned
        self._inside: dict[Block, list[int]] = {}  # the peers of a region, until more are learned

    def __len__(self) -> int:
        """How many peers are known."""
        return len(self._keys)

    def learn(self, target: int, peers: Sequence[P]) -> None:
        """Take in what a whole lookup of `target` found: the k nearest, fewer only if there are no more."""
        for peer in peers:
            key = self._key_of(peer)
            if key not in self._peer_at:
                self._peer_at[key] = peer
                insort(self._keys, key)
        if len(peers) < self._k:
            self._mark_known(EVERYTHING)
        else:
            shared = min(common_prefix_length(self._key_of(peer), target) for peer in peers)
            self._mark_known(block_around(target, min(shared + 1, KEY_BITS)))
        self._inside.clear()
        self._last = NOWHERE, NOWHERE

    def is_known(self, block: Block) -> bool:
        """Whether every peer in `block` is known."""
        index = bisect_right(self._starts, block.start) - 1
        return index >= 0 and block.end <= self._ends[index]

    def region(self, key: int) -> Block:
        """The smallest block around `key` in which k peers are known: whose keys share their nearest peers."""
        leaf, region = self._last
        if leaf.start <= key < leaf.end:
            return region
        low, high = 0, KEY_BITS
        while low < high:  # the longest prefix that k peers share
            middle = (low + high + 1) // 2
            block = block_around(key, middle)
            if bisect_left(self._keys, block.end) - bisect_left(self._keys, block.start) >= self._k:
                low = middle
            else:
                high = middle - 1
        self._last = block_around(key, min(low + 1, KEY_BITS)), block_around(key, low)
        return self._last[1]

    def nearest(self, key: int) -> list[P]:
        """The k nearest to `key` of the peers known, nearest first. See `gap` for whether they are the true ones."""
        return [self._peer_at[each] for each in self._nearest_keys(key, self.region(key))]

    def gap(self, key: int) -> Block | None:
        """A block that must be looked up before `nearest` of `key` is sure; None if it is.

        It contains `key` if nothing around it is known yet. Looking up any key in it makes a part of it known.
        """
        block = self.region(key)
        if self.is_known(block):
            return None
        if not self._touches(block_around(key, KEY_BITS)):
            block = block_around(key, KEY_BITS)
            while block.prefix_length > 0 and not self._touches(wider := block_around(key, block.prefix_length - 1)):
                block = wider
            return block
        while self._touches(block):  # into the half that is not known, the nearer one first
            half = (block.end - block.start) // 2
            low, high = Block(block.start, block.end - half), Block(block.start + half, block.end)
            near, far = (high, low) if key & half else (low, high)
            block = far if self.is_known(near) else near
        return block

    def _nearest_keys(self, key: int, region: Block) -> list[int]:
        inside = self._inside.get(region)
        if inside is None:
            first, last = bisect_left(self._keys, region.start), bisect_left(self._keys, region.end)
            inside = self._inside[region] = self._keys[first:last]
        return sorted(inside, key=key.__xor__)[: self._k]

    def _touches(self, block: Block) -> bool:
        """Whether a part of `block` is known."""
        index = bisect_left(self._starts, block.end) - 1
        return index >= 0 and self._ends[index] > block.start

    def _mark_known(self, block: Block) -> None:
        """Merge a block into the known parts."""
        start, end = block
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When which key is provided again: each point of the key space has its slot, once in each interval.

    The slots follow the key space from `origin` on, so the work is spread evenly over the interval as the keys are, and
    over nodes that have different origins. They depend on the clock alone: a restart changes nothing.
    """

    interval: float
    """Seconds between two slots of a key."""
    origin: int
    """Where in the key space an interval begins."""
    steps: int
    """A key may be provided 1/steps of an interval before its slot: together with others of its region."""

    @property
    def slack(self) -> float:
        """How many seconds before its slot a key may be provided."""
        return self.interval / self.steps

    @property
    def reach(self) -> int:
        """How much of the key space may be provided at once, when its first key is due."""
        return END // self.steps

    def due_at(self, position: int, provided_at: float, now: float) -> float:
        """When a key at `position` that was last provided at `provided_at` is to be provided again.

        At its next slot, but the one for which it was provided early. A time in the future (the clock was set back)
        counts as now.
        """
        after = min(provided_at, now) + self.slack
        phase = ((position - self.origin) % END) / END * self.interval
        return after + (phase - after) % self.interval

"""The routing table: unfolding k-buckets, who may enter, who is nearest, which prefix wants a refresh.

Bucket i holds the peers whose keys share exactly i leading bits with ours; the last one holds all that share at least
as many, and is split when it overflows. Full buckets keep their old entries: long-lived peers live on, and a flood of
newcomers changes nothing. Source: Kademlia (Maymounkov, Mazières 2002) §2.4; go-libp2p-kbucket.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from enum import Enum
from typing import Generic, TypeVar

from py_p2pstack.kademlia.bucket import Bucket, Entry
from py_p2pstack.kademlia.distance import common_prefix_length
from py_p2pstack.kademlia.diversity import IpDiversity

P = TypeVar("P", bound=Hashable)

MAX_REFRESH_CPL = 15  # go-libp2p-kbucket: PeerIDPreimageMaxCpl; beyond it the self-lookup does the work


class AddOutcome(Enum):
    """What became of a peer offered to the table."""

    ADDED = "added"
    KNOWN = "already there"
    FULL = "its bucket is full; kept as a replacement"
    CROWDED = "too many of its IP group"
    SELF = "that is us"


class RoutingTable(Generic[P]):
    """Peers by distance from `local`. At most `bucket_size` a bucket, `replacements` waiting per prefix length."""

    __slots__ = ("_buckets", "_diversity", "_entries", "_key_of", "_refreshed_at", "_waiting", "bucket_size", "local",
                 "on_added", "on_removed", "replacements")  # fmt: skip

    def __init__(
        self,
        local: int,
        key_of: Callable[[P], int],
        *,
        bucket_size: int = 20,
        replacements: int = 20,
        diversity: IpDiversity[P] | None = None,
    ) -> None:
        self.local = local
        self.bucket_size = bucket_size
        self.replacements = replacements
        self.on_added: Callable[[Entry[P]], None] | None = None
        """Called after a peer entered."""
        self.on_removed: Callable[[Entry[P]], None] | None = None
        """Called after a peer left."""
        self._key_of = key_of
        self._diversity = diversity
        self._buckets: list[Bucket[P]] = [Bucket()]
        self._entries: dict[P, Entry[P]] = {}
        self._waiting: dict[int, dict[P, None]] = {}
        self._refreshed_at: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"<RoutingTable {len(self)} peers in buckets of {self.bucket_sizes()}>"

    # --- what is there ----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, peer: object) -> bool:
        return peer in self._entries

    def __iter__(self) -> Iterator[P]:
        return iter(list(self._entries))

    def get(self, peer: P) -> Entry[P] | None:
        """What is known of a peer in the table."""
        return self._entries.get(peer)

    def entries(self) -> list[Entry[P]]:
        """Every entry, in the order they entered."""
        return list(self._entries.values())

    def bucket_sizes(self) -> list[int]:
        """How full each bucket is, the farthest first."""
        return [len(bucket) for bucket in self._buckets]

    def count(self, cpl: int) -> int:
        """How many peers share exactly `cpl` bits with us."""
        if cpl < len(self._buckets) - 1:
            return len(self._buckets[cpl])
        return sum(entry.cpl == cpl for entry in self._buckets[-1].entries.values())

    def waiting_counts(self) -> dict[int, int]:
        """How many peers wait to replace others, by the prefix length they share with us."""
        return {cpl: len(waiting) for cpl, waiting in self._waiting.items() if waiting}

    def max_cpl(self) -> int:
        """The most bits a peer in the table shares with us; 0 for an empty table."""
        for bucket in reversed(self._buckets):
            if bucket.entries:
                return max(entry.cpl for entry in bucket.entries.values())
        return 0

    def nearest(self, key: int, count: int, *, without: P | None = None) -> list[P]:
        """The `count` peers nearest to `key` in the table, nearest first; `without` (who asks) is not among them."""
        skipped = None if without is None else self._entries.get(without)
        if skipped is not None:
            count += 1
        buckets = self._buckets
        # Peers in the bucket of the key's own prefix share more bits with it than all others. To the right of it all
        # share exactly as many as we do; to the left, each bucket shares one less than the one before.
        start = min(common_prefix_length(key, self.local), len(buckets) - 1)
        found = list(buckets[start].entries.values())
        if len(found) < count:
            for bucket in buckets[start + 1 :]:
                found += bucket.entries.values()
        for index in range(start - 1, -1, -1):
            if len(found) >= count:
                break
            found += buckets[index].entries.values()
        found.sort(key=lambda entry: entry.key ^ key)
        del found[count:]
        if skipped is not None:
            found = [entry for entry in found if entry is not skipped][: count - 1]
        return [entry.peer for entry in found]

    # --- coming and going -------------------------------------------------------------------------

    def would_take(self, peer: P) -> bool:
        """Whether `add` would find room for a new peer: asked before spending a query on it."""
        if peer in self._entries:
            return False
        cpl = common_prefix_length(self._key_of(peer), self.local)
        index = min(cpl, len(self._buckets) - 1)
        bucket = self._buckets[index]
        if len(bucket) < self.bucket_size or bucket.replaceable() is not None:
            return True
        splits = index == len(self._buckets) - 1
        return splits and any(entry.cpl != cpl for entry in bucket.entries.values())

    def add(self, peer: P, now: float, *, queried: bool = True, replaceable: bool = False) -> AddOutcome:
        """Offer a peer that was found alive.

        `queried`: it answered a query of ours, so it counts as useful from now. A peer already there is bumped once
        in this way if it was not before. One that finds its bucket full waits among the replacements.
        """
        useful = now if queried else None
        entry = self._entries.get(peer)
        if entry is not None:
            if entry.last_useful_at is None:
                entry.last_useful_at = useful
            return AddOutcome.KNOWN
        key = self._key_of(peer)
        if key == self.local:
            return AddOutcome.SELF
        cpl = common_prefix_length(key, self.local)
        if self._diversity is not None and not self._diversity.admit(peer, cpl):
            return AddOutcome.CROWDED
        bucket = self._bucket_for(cpl)
        if len(bucket) >= self.bucket_size and bucket is self._buckets[-1]:
            self._unfold()
            bucket = self._bucket_for(cpl)
        evicted = None
        if len(bucket) >= self.bucket_size:
            evicted = bucket.replaceable()
            if evicted is None:
                if self._diversity is not None:
                    self._diversity.release(peer)
                self._keep_waiting(peer, cpl)
                return AddOutcome.FULL
        entry = Entry(peer, key, cpl, now, useful, now, replaceable)
        bucket.entries[peer] = self._entries[peer] = entry
        self._waiting.get(cpl, {}).pop(peer, None)
        if self.on_added is not None:
            self.on_added(entry)
        if evicted is not None:
            self.remove(evicted.peer)
        return AddOutcome.ADDED

    def remove(self, peer: P) -> bool:
        """Take a peer out, of the replacements too; returns whether it was in the table."""
        entry = self._entries.pop(peer, None)
        cpl = common_prefix_length(self._key_of(peer), self.local) if entry is None else entry.cpl
        self._waiting.get(cpl, {}).pop(peer, None)
        if entry is None:
            return False
        del self._bucket_for(entry.cpl).entries[peer]
        self._fold()
        if self._diversity is not None:
            self._diversity.release(peer)
        if self.on_removed is not None:
            self.on_removed(entry)
        return True

    def take_replacement(self, cpl: int) -> P | None:
        """Take out whoever waits for a place in the bucket of `cpl` and was seen last, to be checked and added."""
        last = len(self._buckets) - 1
        cpls = [cpl] if cpl < last else sorted(each for each in self._waiting if each >= last)
        for each in cpls:
            waiting = self._waiting.get(each)
            if waiting:
                return waiting.popitem()[0]
        return None

    def freeze(self) -> None:
        """Let nobody be replaced any more: the hasty part of the bootstrap is over."""
        for entry in self._entries.values():
            entry.replaceable = False

    def mark_useful(self, peer: P, now: float) -> None:
        """Remember that a peer helped a lookup; unknown peers are ignored."""
        entry = self._entries.get(peer)
        if entry is not None:
            entry.last_useful_at = now

    def mark_success(self, peer: P, now: float) -> None:
        """Remember that a peer answered; unknown peers are ignored."""
        entry = self._entries.get(peer)
        if entry is not None:
            entry.last_success_at = now

    # --- refresh ----------------------------------------------------------------------------------

    def refresh_times(self) -> list[float | None]:
        """When each prefix length up to the longest in the table (at most MAX_REFRESH_CPL) was last looked up."""
        return [self._refreshed_at.get(cpl) for cpl in range(min(self.max_cpl(), MAX_REFRESH_CPL) + 1)]

    def mark_refreshed(self, key: int, now: float) -> None:
        """Remember that a lookup towards `key` was completed."""
        cpl = common_prefix_length(key, self.local)
        if cpl <= MAX_REFRESH_CPL:
            self._refreshed_at[cpl] = now

    # --- buckets ----------------------------------------------------------------------------------

    def _bucket_for(self, cpl: int) -> Bucket[P]:
        buckets = self._buckets
        return buckets[cpl] if cpl < len(buckets) else buckets[-1]

    def _unfold(self) -> None:
        """Split the last bucket until the last one has room."""
        while len(last := self._buckets[-1]) >= self.bucket_size:
            self._buckets.append(last.split(len(self._buckets) - 1))

    def _fold(self) -> None:
        """Drop empty buckets at the near end."""
        buckets = self._buckets
        while len(buckets) > 1:
            if not buckets[-1].entries:
                buckets.pop()
            elif not buckets[-2].entries:
                del buckets[-2]
            else:
                return

    def _keep_waiting(self, peer: P, cpl: int) -> None:
        if not self.replacements:
            return
        waiting = self._waiting.setdefault(cpl, {})
        waiting.pop(peer, None)
        if len(waiting) >= self.replacements:
            del waiting[next(iter(waiting))]
        waiting[peer] = None

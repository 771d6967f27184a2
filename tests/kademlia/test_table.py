"""The routing table: unfolding, who stays, who is nearest, what to refresh."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from py_p2pstack.kademlia import AddOutcome, Entry, RoutingTable, common_prefix_length
from tests.kademlia.network import key

LOCAL = 0


def identity(peer: int) -> int:
    return peer


def keyed(bucket_size: int = 2) -> RoutingTable[int]:
    """A table whose peers are their own keys and whose own key is 0."""
    return RoutingTable(LOCAL, identity, bucket_size=bucket_size)


def at(cpl: int, low: int = 0) -> int:
    """A key that shares exactly `cpl` bits with 0."""
    return 1 << (255 - cpl) | low


def test_buckets_unfold_as_the_nearest_one_overflows() -> None:
    table = keyed(bucket_size=2)
    table.add(at(0), 0.0)
    table.add(at(1), 0.0)
    assert table.bucket_sizes() == [2]
    table.add(at(2), 0.0)
    assert table.bucket_sizes() == [1, 2] or table.bucket_sizes() == [1, 1, 1]
    table.add(at(3), 0.0)
    table.add(at(4), 0.0)
    assert len(table) == 5
    assert all(size <= 2 for size in table.bucket_sizes())


def test_unfolding_goes_on_while_all_peers_are_nearer_still() -> None:
    table = keyed(bucket_size=2)
    for low in (1, 2):
        table.add(at(8, low), 0.0)
    assert table.add(at(0), 0.0) is AddOutcome.ADDED
    assert table.bucket_sizes() == [1, 0, 0, 0, 0, 0, 0, 0, 2, 0]


def test_a_full_bucket_keeps_its_old_peers_and_lets_the_newcomer_wait() -> None:
    table = keyed(bucket_size=2)
    for low in range(2):
        assert table.add(at(0, low), 0.0) is AddOutcome.ADDED
    assert not table.would_take(at(0, 2))
    assert table.add(at(0, 2), 0.0) is AddOutcome.FULL
    assert at(0, 2) not in table
    table.remove(at(0, 0))
    assert table.take_replacement(0) == at(0, 2)
    assert table.take_replacement(0) is None


def test_a_replaceable_peer_makes_room_until_the_table_is_frozen() -> None:
    table = keyed(bucket_size=2)
    table.add(at(0, 0), 0.0, replaceable=True)
    table.add(at(0, 1), 0.0, replaceable=True)
    assert table.would_take(at(0, 2))
    assert table.add(at(0, 2), 0.0) is AddOutcome.ADDED
    assert list(table) == [at(0, 1), at(0, 2)]
    table.freeze()
    assert table.add(at(0, 3), 0.0) is AddOutcome.FULL


def test_a_bucket_of_one_can_be_replaced_too() -> None:
    table = keyed(bucket_size=1)
    table.add(at(0, 0), 0.0, replaceable=True)
    assert table.add(at(0, 1), 0.0) is AddOutcome.ADDED
    assert list(table) == [at(0, 1)]


def test_the_replacements_are_bounded_and_the_last_seen_is_taken_first() -> None:
    table = RoutingTable(LOCAL, identity, bucket_size=1, replacements=3)
    for low in range(8):
        table.add(at(0, low), 0.0)
    table.add(at(0, 5), 0.0)  # seen again
    table.remove(at(0, 0))
    assert [table.take_replacement(0) for _ in range(4)] == [at(0, 5), at(0, 7), at(0, 6), None]


def test_replacements_of_the_nearest_bucket_are_found_whatever_their_prefix() -> None:
    table = keyed(bucket_size=1)
    for low in range(2):
        table.add(at(5, low), 0.0)
    assert table.remove(at(5, 0))
    assert table.take_replacement(0) == at(5, 1)


def test_without_replacements_nobody_waits() -> None:
    table = RoutingTable(LOCAL, identity, bucket_size=1, replacements=0)
    table.add(at(0, 0), 0.0)
    assert table.add(at(0, 1), 0.0) is AddOutcome.FULL
    assert table.take_replacement(0) is None


def test_removing_takes_out_of_the_replacements_too() -> None:
    table = keyed(bucket_size=1)
    table.add(at(0, 0), 0.0)
    table.add(at(0, 1), 0.0)
    assert not table.remove(at(0, 1))
    table.remove(at(0, 0))
    assert table.take_replacement(0) is None


def test_we_never_enter_our_own_table() -> None:
    assert keyed().add(LOCAL, 0.0) is AddOutcome.SELF


def test_stamps_are_kept_and_a_first_query_bumps_once() -> None:
    table = keyed()
    table.add(at(0), 1.0, queried=False)
    entry = table.get(at(0))
    assert entry is not None
    assert (entry.added_at, entry.last_useful_at, entry.last_success_at) == (1.0, None, 1.0)
    assert table.add(at(0), 2.0) is AddOutcome.KNOWN
    table.add(at(0), 3.0)
    assert entry.last_useful_at == 2.0
    table.mark_useful(at(0), 4.0)
    table.mark_success(at(0), 5.0)
    assert (entry.last_useful_at, entry.last_success_at) == (4.0, 5.0)
    table.mark_useful(at(1), 4.0)
    table.mark_success(at(1), 4.0)
    assert at(1) not in table


def test_the_owner_is_told_who_came_and_who_left() -> None:
    table = keyed(bucket_size=1)
    told: list[tuple[str, int]] = []

    def tell(what: str) -> Callable[[Entry[int]], None]:
        return lambda entry: told.append((what, entry.cpl))

    table.on_added, table.on_removed = tell("in"), tell("out")
    table.add(at(0, 0), 0.0, replaceable=True)
    table.add(at(0, 1), 0.0)
    table.remove(at(0, 1))
    assert told == [("in", 0), ("in", 0), ("out", 0), ("out", 0)]


def test_refresh_times_reach_to_the_longest_prefix_at_most_fifteen() -> None:
    table = keyed(bucket_size=20)
    assert table.refresh_times() == [None]
    table.add(at(3), 0.0)
    table.mark_refreshed(at(2), 7.0)
    assert table.refresh_times() == [None, None, 7.0, None]
    table.add(at(40), 0.0)
    table.mark_refreshed(at(40), 8.0)
    assert len(table.refresh_times()) == 16


def test_counts_per_prefix_length() -> None:
    table = keyed(bucket_size=3)
    for low in range(3):
        table.add(at(0, low), 0.0)
    for low in range(2):
        table.add(at(4, low), 0.0)
    assert [table.count(cpl) for cpl in range(6)] == [3, 0, 0, 0, 2, 0]
    assert table.max_cpl() == 4
    assert len(table.entries()) == len(table) == 5
    assert repr(table) == "<RoutingTable 5 peers in buckets of [3, 2]>"


def test_an_empty_table_is_a_table() -> None:
    table = keyed()
    assert table
    assert table.max_cpl() == 0
    assert table.nearest(5, 3) == []
    assert not table.remove(at(0))


@pytest.mark.parametrize("size", [0, 1, 19, 20, 21, 300])
def test_nearest_equals_a_search_through_everybody(size: int) -> None:
    rng = Random(size)
    table = RoutingTable(key(10**6), key)
    for peer in range(size):
        table.add(peer, 0.0)
    for _ in range(50):
        target, count = rng.getrandbits(256), rng.randrange(1, 30)
        assert table.nearest(target, count) == sorted(table, key=lambda peer: key(peer) ^ target)[:count]


@given(st.lists(st.integers(1, 2**256 - 1), unique=True, max_size=120), st.integers(1, 4))
def test_would_take_tells_what_add_will_do(peers: list[int], bucket_size: int) -> None:
    table = keyed(bucket_size)
    for peer in peers:
        promised = table.would_take(peer)
        assert (table.add(peer, 0.0) is AddOutcome.ADDED) is promised


class TableMachine(RuleBasedStateMachine):
    """Peers come and go in any order; the table stays in shape."""

    def __init__(self) -> None:
        super().__init__()
        self.table = RoutingTable(LOCAL, identity, bucket_size=3, replacements=2)
        self.added = 0
        self.removed = 0
        self.table.on_added = self._on_added
        self.table.on_removed = self._on_removed

    def _on_added(self, entry: Entry[int]) -> None:
        self.added += 1

    def _on_removed(self, entry: Entry[int]) -> None:
        self.removed += 1

    @rule(cpl=st.integers(0, 12), low=st.integers(0, 9), replaceable=st.booleans())
    def add(self, cpl: int, low: int, replaceable: bool) -> None:
        self.table.add(at(cpl, low), 0.0, replaceable=replaceable)

    @rule(cpl=st.integers(0, 12), low=st.integers(0, 9))
    def remove(self, cpl: int, low: int) -> None:
        self.table.remove(at(cpl, low))
        assert at(cpl, low) not in self.table

    @rule(cpl=st.integers(0, 12))
    def promote(self, cpl: int) -> None:
        peer = self.table.take_replacement(cpl)
        if peer is not None:
            assert peer not in self.table
            self.table.add(peer, 0.0)

    @invariant()
    def buckets_hold_what_they_should(self) -> None:
        buckets = self.table._buckets
        for index, bucket in enumerate(buckets):
            assert len(bucket) <= 3
            for peer, entry in bucket.entries.items():
                assert entry.cpl == common_prefix_length(peer, LOCAL)
                assert entry.cpl == index or (index == len(buckets) - 1 and entry.cpl >= index)
        assert sum(self.table.bucket_sizes()) == len(self.table) == self.added - self.removed
        for waiting in self.table._waiting.values():
            assert len(waiting) <= 2
            assert not any(peer in self.table for peer in waiting)


TestTableMachine = TableMachine.TestCase

"""What a sweep knows of the key space, and when a key is due."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py_p2pstack.kademlia import KEY_BITS, key_of
from py_p2pstack.protocols.dht.sweep_plan import END, EVERYTHING, Block, KnownSpace, Schedule, block_around

TOP = KEY_BITS - 10  # tests think of keys as numbers of ten bits


def key(number: int) -> int:
    """A peer is the number of its key's first ten bits."""
    return number << TOP


def look_up(peers: list[int], target: int, k: int) -> list[int]:
    return sorted(peers, key=lambda peer: key(peer) ^ target)[:k]


def explored(space: KnownSpace[int], peers: list[int], target: int, k: int) -> int:
    """Look up gaps until the nearest of `target` are sure; returns how many lookups that took."""
    count = 0
    while (gap := space.gap(target)) is not None:
        space.learn(gap.start, look_up(peers, gap.start, k))
        count += 1
    return count


def test_a_block_is_the_keys_that_share_a_prefix() -> None:
    block = block_around(key(0b1011001111), 4)
    assert block == Block(key(0b1011000000), key(0b1100000000))
    assert block.prefix_length == 4
    assert key(0b1011111111) in block
    assert key(0b1100000000) not in block
    assert block_around(5, 0) == EVERYTHING
    assert EVERYTHING.prefix_length == 0
    assert block_around(5, KEY_BITS) == Block(5, 6)


def test_nothing_is_known_at_first_and_the_key_itself_is_to_be_looked_up() -> None:
    space = KnownSpace(key, 3)
    assert space.gap(key(7)) == EVERYTHING
    assert space.nearest(key(7)) == []
    assert len(space) == 0


def test_a_lookup_that_finds_fewer_than_k_makes_everything_known() -> None:
    space = KnownSpace(key, 3)
    space.learn(key(500), [1, 900])
    assert space.gap(key(3)) is None
    assert space.nearest(key(890)) == [900, 1]
    assert space.region(0) == EVERYTHING


def test_a_lookup_makes_the_block_known_that_its_farthest_peer_bounds() -> None:
    space = KnownSpace(key, 2)
    space.learn(key(0b0001000000), [0b0001000001, 0b0011000000])  # the farthest shares two bits
    assert space.is_known(block_around(key(0b0001111111), 3))
    assert not space.is_known(block_around(key(0b0011000000), 3))
    # The other half of the smallest block with two peers is where a nearer one might be.
    assert space.region(key(0b0001100000)) == block_around(0, 2)
    assert space.gap(key(0b0001100000)) == block_around(key(0b0010000000), 3)
    # Around a key in the wilderness nothing is known: the largest such block around it is.
    assert space.gap(key(0b1001100000)) == block_around(key(0b1000000000), 1)


def test_known_blocks_that_touch_are_one() -> None:
    space = KnownSpace(key, 1)
    for number in (0b00, 0b11, 0b01, 0b10):
        space._mark_known(block_around(key(number << 8), 2))
    assert (space._starts, space._ends) == ([0], [END])


@settings(max_examples=60)
@given(st.sets(st.integers(0, 1023), min_size=1, max_size=200), st.integers(1, 8), st.integers(0, END - 1))
def test_once_no_gap_is_left_the_nearest_are_the_true_ones(numbers: set[int], k: int, target: int) -> None:
    peers, space = sorted(numbers), KnownSpace(key, k)
    explored(space, peers, target, k)
    assert space.nearest(target) == look_up(peers, target, k)
    # And so they are for every other key of the region, without another lookup.
    region = space.region(target)
    for other in range(region.start, region.end, max(1, (region.end - region.start) // 8)):
        assert space.gap(other) is None
        assert space.nearest(other) == look_up(peers, other, k)


def test_a_region_takes_a_few_lookups_and_all_of_a_thousand_peers_are_found() -> None:
    space: KnownSpace[int] = KnownSpace(lambda peer: key_of(peer.to_bytes(4, "big")), 20)
    peers = {key_of(peer.to_bytes(4, "big")): peer for peer in range(1000)}
    lookups = regions = position = 0
    while position < END:
        regions += 1
        while (gap := space.gap(position)) is not None:
            target = gap.start
            space.learn(target, [peers[each] for each in sorted(peers, key=target.__xor__)[:20]])
            lookups += 1
        position = space.region(position).end
    assert len(space) == 1000
    assert 20 < regions < 60
    assert lookups < 3 * regions


# --- when --------------------------------------------------------------------------------------------

DAY = Schedule(interval=24.0, origin=0, steps=24)  # hours; the slot of a key is its hour


def hour(number: float) -> int:
    return int(END * number / 24)


def test_a_key_never_provided_is_due_at_once() -> None:
    assert DAY.due_at(hour(5), 0.0, 1000.0) < 1000.0


def test_each_key_is_due_at_its_own_hour() -> None:
    for number in range(24):
        assert DAY.due_at(hour(number), 24.0 * 9 + 0.0, 24.0 * 10) == pytest.approx(
            24.0 * (9 if number else 10) + number
        )


def test_a_key_provided_a_little_before_its_hour_is_not_due_again_at_it() -> None:
    assert DAY.due_at(hour(5), 244.5, 244.5) == pytest.approx(24.0 * 11 + 5)
    assert DAY.due_at(hour(5), 243.5, 243.5) == pytest.approx(24.0 * 10 + 5)
    assert DAY.due_at(hour(5), 245.0, 245.0) == pytest.approx(24.0 * 11 + 5)


def test_another_origin_shifts_the_hours() -> None:
    shifted = Schedule(interval=24.0, origin=hour(6), steps=24)
    assert shifted.due_at(hour(8), 240.0, 240.0) == pytest.approx(240.0 + 2)
    assert shifted.due_at(hour(5), 240.0, 240.0) == pytest.approx(240.0 + 23)


def test_a_clock_that_was_set_back_does_not_keep_a_key_waiting() -> None:
    assert DAY.due_at(hour(5), 9e9, 240.0) == pytest.approx(245.0)


@given(st.integers(0, END - 1), st.floats(0, 1e10), st.integers(0, END - 1))
def test_a_key_is_due_within_an_interval_and_the_slack(position: int, at: float, origin: int) -> None:
    schedule = Schedule(interval=79200.0, origin=origin, steps=32)
    due = schedule.due_at(position, at, at)
    assert at + schedule.slack <= due + 1e-3 <= at + schedule.slack + schedule.interval + 2e-3

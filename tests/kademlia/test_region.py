"""Crowded keys: noticed when they are surrounded, not when they are not, and the way around the crowd."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.kademlia import common_prefix_length, random_key
from py_p2pstack.kademlia.network_size import KEY_SPACE, NetworkSize, NetworkSizeEstimator
from py_p2pstack.kademlia.region import Region, crowding, honest_region

K, SIZE, SYBILS = 20, 1_000, 45
ALARM = 1e-3


class Space:
    """A thousand honest peers, and what was learnt about their number."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.honest = [self.rng.getrandbits(256) for _ in range(SIZE)]
        estimator = NetworkSizeEstimator(K)
        for _ in range(12):
            target = self.rng.getrandbits(256)
            estimator.track(target, self.nearest(target), 0.0)
        estimate = estimator.estimate(0.0)
        assert estimate is not None
        self.network = estimate

    def nearest(self, target: int, others: tuple[int, ...] = ()) -> list[int]:
        return sorted(key ^ target for key in (*self.honest, *others))[:K]

    def sybils(self, target: int, count: int = SYBILS) -> tuple[int, ...]:
        """Nearer than the nearest honest peer, as one gets them by trying some thousand keys each."""
        first = self.nearest(target)[0]
        return tuple(target ^ self.rng.randrange(first) for _ in range(count))


SPACE = Space(seed=11)


def test_an_honest_neighbourhood_raises_no_alarm() -> None:
    targets = [SPACE.rng.getrandbits(256) for _ in range(400)]
    alarms = sum(crowding(SPACE.nearest(target), SPACE.network) < ALARM for target in targets)
    assert alarms == 0


@pytest.mark.parametrize("count", [SYBILS, K, 12])
def test_a_surrounded_key_raises_the_alarm(count: int) -> None:
    targets = [SPACE.rng.getrandbits(256) for _ in range(100)]
    seen = sum(
        crowding(SPACE.nearest(target, SPACE.sybils(target, count)), SPACE.network) < ALARM for target in targets
    )
    assert seen == 100 if count >= K else seen >= 90


def test_nobody_near_is_no_crowd() -> None:
    assert crowding([], NetworkSize(1_000, 0.1)) == 1.0


def test_the_region_holds_as_many_honest_peers_as_asked_for_however_many_sybils() -> None:
    counts = []
    for _ in range(100):
        target = SPACE.rng.getrandbits(256)
        region = honest_region(target, SPACE.network, K)
        counts.append(sum(key in region for key in SPACE.honest))
        assert all(key in region for key in SPACE.sybils(target))
    assert sum(counts) / 100 == pytest.approx(K, rel=0.2)
    assert min(counts) >= 6


def test_looking_up_a_key_in_each_branch_finds_the_honest_peers_of_a_surrounded_region() -> None:
    """Each answer holds the k nearest of all, crowd or not, as an honest and all-knowing network gives it."""
    lookups, shares = 0, []
    for _ in range(60):
        target = SPACE.rng.getrandbits(256)
        everybody = [*SPACE.honest, *SPACE.sybils(target)]
        region = honest_region(target, SPACE.network, K)
        found: set[int] = set()
        branches = region.branches(K)
        lookups += len(branches)
        for branch in branches:
            near = random_key(target, branch, SPACE.rng)
            assert near in Region(target, 2 * region.radius)
            found |= set(sorted(everybody, key=near.__xor__)[:K])
        honest = {key for key in SPACE.honest if key in region}
        shares.append(len(honest & found) / len(honest))
    assert sum(shares) / len(shares) >= 0.95
    assert min(shares) >= 0.5
    assert lookups / 60 <= 5


@given(st.integers(0, KEY_SPACE - 1), st.integers(1, KEY_SPACE - 1), st.integers(0, KEY_SPACE - 1))
def test_all_keys_of_a_region_share_its_prefix(target: int, radius: int, distance: int) -> None:
    region = Region(target, radius)
    key = target ^ distance
    assert (key in region) is (distance < radius)
    if key in region:
        assert common_prefix_length(key, target) >= region.prefix_length


def test_the_branches_end_where_nobody_is_expected_or_the_key_ends() -> None:
    assert Region(0, 1 << 200).branches(20) == range(56, 61)
    assert Region(0, 1 << 200).branches(0.5) == range(56, 57)
    assert Region(0, 4).branches(20) == range(254, 256)
    assert not Region(0, 1).branches(20)


def test_a_network_smaller_than_the_region_is_the_region() -> None:
    region = honest_region(5, NetworkSize(7.0, 0.3), K)
    assert region.radius == KEY_SPACE - 1
    assert region.prefix_length == 0

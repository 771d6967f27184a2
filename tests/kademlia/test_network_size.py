"""The estimate of the network's size: right within its error, bounded, and hard to move."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.kademlia.network_size import (
    KEY_SPACE,
    NetworkSize,
    NetworkSizeEstimator,
    probability_of_at_least,
)

K = 20


def nearest(keys: list[int], target: int, count: int = K) -> list[int]:
    return sorted(key ^ target for key in keys)[:count]


def network(size: int, seed: int) -> tuple[list[int], Random]:
    rng = Random(seed)
    return [rng.getrandbits(256) for _ in range(size)], rng


@pytest.mark.parametrize("size", [100, 1_000, 10_000])
def test_the_estimate_is_right_within_its_error(size: int) -> None:
    keys, rng = network(size, seed=size)
    estimator = NetworkSizeEstimator(K)
    for _ in range(20):
        target = rng.getrandbits(256)
        assert estimator.track(target, nearest(keys, target), 0.0)
    estimate = estimator.estimate(0.0)
    assert estimate is not None
    assert estimate.error == pytest.approx(0.063, abs=0.001)
    assert abs(estimate.size / size - 1) < 3 * estimate.error
    assert float(estimate) == estimate.size


def test_the_error_it_claims_is_the_error_it_makes() -> None:
    keys, rng = network(2_000, seed=7)
    ratios, claimed = [], 0.0
    for _ in range(60):
        estimator = NetworkSizeEstimator(K)
        for _ in range(8):
            target = rng.getrandbits(256)
            estimator.track(target, nearest(keys, target), 0.0)
        estimate = estimator.estimate(0.0)
        assert estimate is not None
        ratios.append(estimate.size / 2_000 - 1)
        claimed = estimate.error
    spread = (sum(ratio**2 for ratio in ratios) / len(ratios)) ** 0.5
    assert 0.5 * claimed < spread < 1.5 * claimed


def test_few_lookups_or_short_ones_are_no_estimate() -> None:
    keys, rng = network(500, seed=1)
    estimator = NetworkSizeEstimator(K, min_lookups=5)
    for _ in range(4):
        target = rng.getrandbits(256)
        estimator.track(target, nearest(keys, target), 0.0)
    assert estimator.estimate(0.0) is None
    assert not estimator.track(1, nearest(keys, 1, K - 1), 0.0)
    assert estimator.estimate(0.0) is None
    assert estimator.track(1, nearest(keys, 1), 0.0)
    assert estimator.estimate(0.0) is not None


def test_lookups_that_are_too_old_are_forgotten() -> None:
    keys, rng = network(500, seed=2)
    estimator = NetworkSizeEstimator(K, max_age=100.0, min_lookups=2)
    for now in (0.0, 50.0, 90.0):
        target = rng.getrandbits(256)
        estimator.track(target, nearest(keys, target), now)
    assert estimator.estimate(100.0) is not None
    assert len(estimator) == 2
    assert estimator.estimate(150.0) is None
    assert len(estimator) == 1


def test_the_window_is_bounded_and_the_oldest_leaves() -> None:
    estimator = NetworkSizeEstimator(K, max_lookups=150)
    for target in range(1_000):
        estimator.track(target, [target + 1] * K, float(target))
    assert len(estimator) == 150
    estimate = estimator.estimate(1_000.0)
    assert estimate is not None
    assert estimate.size == pytest.approx(19.67 * KEY_SPACE / 925.5, rel=0.01)


def test_the_same_key_looked_up_again_counts_once() -> None:
    keys, _ = network(500, seed=3)
    estimator = NetworkSizeEstimator(K)
    for _ in range(100):
        estimator.track(42, nearest(keys, 42), 0.0)
    assert len(estimator) == 1


def test_keys_that_are_surrounded_hardly_move_it() -> None:
    keys, rng = network(1_000, seed=4)
    estimator = NetworkSizeEstimator(K)
    for number in range(30):
        target = rng.getrandbits(256)
        crowd = [target ^ rng.getrandbits(200) for _ in range(45)] if number % 5 == 0 else []
        estimator.track(target, nearest(keys + crowd, target), 0.0)
    estimate = estimator.estimate(0.0)
    assert estimate is not None
    assert 0.8 < estimate.size / 1_000 < 1.3


def test_a_crowd_everywhere_is_not_believed() -> None:
    estimator = NetworkSizeEstimator(K)
    for target in range(10):
        estimator.track(target, [0] * K, 0.0)
    assert estimator.estimate(0.0) is None


@pytest.mark.parametrize(("k", "least", "most"), [(0, 5, 150), (20, 0, 150), (20, 10, 9)])
def test_bounds_that_make_no_sense_are_refused(k: int, least: int, most: int) -> None:
    with pytest.raises(ValueError):
        NetworkSizeEstimator(k, min_lookups=least, max_lookups=most)


# --- Poisson --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "expected", "probability"),
    [
        (0, 5.0, 1.0),
        (1, 0.0, 0.0),
        (1, 1.0, 0.6321205588),
        (20, 10.0, 0.0034543420),
        (20, 20.0, 0.5297427332),
        (5, 20.0, 0.9999830557),
        (45, 0.9, 3.0256148717e-59),
    ],
)
def test_the_poisson_tail_is_known(count: int, expected: float, probability: float) -> None:
    assert probability_of_at_least(count, expected) == pytest.approx(probability, rel=1e-6)


@given(st.integers(0, 400), st.floats(0, 1000))
def test_a_probability_is_one_and_falls_with_the_count(count: int, expected: float) -> None:
    here, next_ = probability_of_at_least(count, expected), probability_of_at_least(count + 1, expected)
    assert 0.0 <= next_ <= here + 1e-12 <= 1.0 + 1e-9


@given(st.integers(1, 40), st.floats(0.01, 0.99), st.floats(50, 1e9))
def test_a_quantile_is_where_the_probability_is_reached(rank: int, probability: float, size: float) -> None:
    network_size = NetworkSize(size, 0.1)
    distance = network_size.quantile(rank, probability)
    if distance < KEY_SPACE - 1:
        assert probability_of_at_least(rank, network_size.expected(distance)) == pytest.approx(probability, abs=1e-6)


def test_nine_of_ten_peers_nearer_than_the_quantile_are_among_the_nearest() -> None:
    keys, rng = network(1_000, seed=5)
    bound = NetworkSize(1_000, 0.0).quantile(K, 0.1)
    within = [sum(key ^ target < bound for key in keys) for target in (rng.getrandbits(256) for _ in range(200))]
    assert sum(count < K for count in within) / 200 == pytest.approx(0.9, abs=0.06)

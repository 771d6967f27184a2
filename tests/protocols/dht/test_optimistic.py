"""When an optimistic provide stores, and when it has enough."""

from __future__ import annotations

import random

import pytest

from py_p2pstack.kademlia import KEY_BITS
from py_p2pstack.protocols.dht.optimistic import OptimisticConfig, OptimisticProvide, gamma_quantile

SPACE = 1 << KEY_BITS


def begin(network_size: float, **config: float) -> OptimisticProvide[int]:
    """Peers are their own distances."""
    return OptimisticProvide(network_size, int, k=20, config=OptimisticConfig(**config))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "probability", "expected"),
    # half the chi-square table's values for 2 * shape degrees of freedom
    [
        (20, 0.1, 29.051 / 2),
        (11, 0.9, 30.813 / 2),
        (0.5, 0.95, 3.8415 / 2),
        (1, 0.5, 0.693147),
        (50, 0.99, 135.807 / 2),
    ],
)
def test_the_quantiles_are_those_of_the_tables(shape: float, probability: float, expected: float) -> None:
    assert gamma_quantile(shape, probability) == pytest.approx(expected, rel=1e-4)


def test_a_peer_is_chosen_once_and_only_when_near_enough() -> None:
    provide = begin(1000)
    limit = int(provide.peer_limit * SPACE)
    assert provide.peer_limit == pytest.approx(0.01453, rel=1e-3)
    assert provide.choose([limit // 2, limit - 1, limit * 2]) == [limit // 2, limit - 1]
    assert provide.choose([limit // 3, limit // 2]) == [limit // 3]
    assert provide.chosen == {limit // 3, limit // 2, limit - 1}


def test_k_stores_are_enough_whatever_the_distances() -> None:
    provide = begin(1000)
    far = [SPACE // 2] * 20
    assert not provide.is_enough(far, 19)
    assert provide.is_enough(far, 20)


def test_the_lookup_ends_when_the_k_nearest_are_near_on_average_but_never_with_fewer() -> None:
    provide = begin(1000)
    near = int(provide.mean_limit * SPACE * 0.9)
    assert provide.is_enough([near] * 20, 0)
    assert not provide.is_enough([near] * 19, 0)
    assert not provide.is_enough([near] * 10 + [near * 3] * 10, 0)


def test_a_peer_chosen_is_among_the_k_nearest_as_often_as_promised() -> None:
    rng = random.Random(7)
    mistaken = enough = 0
    for _ in range(300):
        distances = sorted(rng.randrange(SPACE) for _ in range(1000))
        provide = begin(1000)
        mistaken += any(peer > distances[19] for peer in provide.choose(distances))
        enough += provide.is_enough(distances[:20], 0)
    assert mistaken / 300 < 0.15  # certainty 0.9: in a tenth of the cases the 20th is nearer than the limit
    assert enough / 300 > 0.8


@pytest.mark.parametrize("wrong", [{"certainty": 1.0}, {"strictness": 0.0}, {"return_ratio": 0.0}])
def test_a_config_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="certainty"):
        begin(1000, **wrong)

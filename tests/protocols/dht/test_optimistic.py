"""When an optimistic provide stores, and when it has enough."""

from __future__ import annotations

import random

import pytest

from py_p2pstack.kademlia import KEY_BITS, NetworkSize
from py_p2pstack.protocols.dht.optimistic import OptimisticConfig, OptimisticProvide

SPACE = 1 << KEY_BITS


def begin(size: float, **config: float) -> OptimisticProvide[int]:
    """Peers are their own distances."""
    return OptimisticProvide(NetworkSize(size, 0.1), int, k=20, config=OptimisticConfig(**config))  # type: ignore[arg-type]


def test_a_peer_is_chosen_once_and_only_when_near_enough() -> None:
    provide = begin(1000)
    limit = provide.peer_limit
    assert provide.peer_limit / SPACE == pytest.approx(29.051 / 2 / 1000, rel=1e-3)  # chi-square, 40 degrees
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
    near = provide.mean_limit * 9 // 10
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

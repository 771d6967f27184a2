"""Lookups on disjoint paths: the same lookup to whoever drives it, and liars mislead one path each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py_p2pstack.errors import LocalProtocolError
from py_p2pstack.kademlia import DisjointLookup, EndReason, Lookup, LookupConfig, PeerState, RoutingTable
from tests.kademlia.network import drive, key

CONFIG = LookupConfig(k=4, alpha=4, beta=2)


def identity(peer: int) -> int:
    return peer


def towards_zero(*seeds: int, paths: int = 2, config: LookupConfig = CONFIG) -> DisjointLookup[int]:
    """A lookup for key 0 among peers that are their own keys: the smaller, the nearer."""
    return DisjointLookup(0, seeds, identity, paths=paths, config=config)


# --- paths ----------------------------------------------------------------------------------------


def test_seeds_are_dealt_out_nearest_first_and_the_requests_are_shared() -> None:
    lookup = towards_zero(60, 10, 50, 20, 40, 30)
    assert lookup.next_queries() == [10, 30, 20, 40]
    assert lookup.next_queries() == []
    assert (lookup.waiting, lookup.heard, len(lookup)) == (4, 2, 6)


def test_what_a_peer_tells_is_told_to_its_own_path_only() -> None:
    lookup = towards_zero(10, 20)
    assert lookup.next_queries() == [10, 20]
    assert lookup.answered(10, [1]) == [1]
    assert lookup.next_queries() == [1]
    assert lookup.answered(20, [2]) == [2]
    assert lookup.referrer(1) == 10
    assert lookup.referrer(2) == 20


def test_a_peer_heard_of_on_two_paths_is_asked_on_one_and_counts_for_both() -> None:
    lookup = towards_zero(10, 20)
    lookup.next_queries()
    assert lookup.answered(10, [5]) == [5]
    assert lookup.answered(20, [5]) == []
    assert lookup.next_queries() == [5]
    assert lookup.state(5) is PeerState.WAITING
    lookup.answered(5, [])
    assert lookup.next_queries() == []
    assert lookup.ended is not None
    assert lookup.result().peers == (5, 10, 20)


def test_a_peer_that_another_path_has_asked_already_is_not_asked_when_it_is_heard_of() -> None:
    lookup = towards_zero(10, 20)
    lookup.next_queries()
    assert lookup.answered(20, [10, 15]) == [15]
    assert lookup.next_queries() == [15]
    lookup.failed(10)
    lookup.answered(15, [10])
    lookup.next_queries()
    result = lookup.result()
    assert result.peers == (15, 20)
    assert result.closest == (10, 15, 20)
    assert (result.queried, result.unreachable) == (2, 1)
    assert lookup.state(10) is PeerState.UNREACHABLE


def test_it_goes_on_while_one_path_does() -> None:
    lookup = towards_zero(10, 20)
    lookup.next_queries()
    lookup.answered(10, [])
    assert lookup.next_queries() == []
    assert "going on" in repr(lookup)
    lookup.answered(20, [1])
    assert lookup.next_queries() == [1]
    lookup.answered(1, [])
    lookup.next_queries()
    assert lookup.ended is EndReason.STARVED
    assert lookup.result().completed


def test_an_answer_after_the_end_of_its_path_still_counts_for_the_others() -> None:
    config = LookupConfig(k=2, alpha=4, beta=1)
    lookup = towards_zero(10, 20, 30, 40, 50, 60, paths=2, config=config)
    assert lookup.next_queries() == [10, 30, 20, 40]
    lookup.answered(10, [1, 2])
    assert lookup.next_queries() == [1]
    lookup.answered(1, [])
    assert lookup.next_queries() == [2]
    lookup.answered(2, [])
    assert lookup.next_queries() == []  # the first path is over: its two nearest have answered
    lookup.answered(30, [3])
    assert lookup.state(30) is PeerState.QUERIED
    assert 3 not in lookup


def test_fewer_seeds_than_paths_leave_paths_unused_and_none_starve_at_once() -> None:
    lookup = towards_zero(10, paths=4)
    assert lookup.next_queries() == [10]
    empty = towards_zero(paths=4)
    assert empty.next_queries() == []
    assert empty.ended is EndReason.STARVED
    assert empty.result().peers == ()


# --- as any lookup --------------------------------------------------------------------------------


def test_the_stop_function_is_asked_before_all_else() -> None:
    stopped = False
    lookup = DisjointLookup(0, [10, 20], identity, paths=2, config=CONFIG, stop=lambda: stopped)
    lookup.next_queries()
    assert not lookup.stops()
    stopped = True
    assert lookup.next_queries() == []
    assert lookup.ended is EndReason.STOPPED
    assert lookup.answered(10, [5]) == []
    lookup.failed(20)
    lookup.cancel()
    assert lookup.result().reason is EndReason.STOPPED


def test_it_can_be_cancelled_and_tells_what_it_knows() -> None:
    lookup = towards_zero(10, 20)
    lookup.next_queries()
    with pytest.raises(LocalProtocolError):
        lookup.result()
    assert repr(lookup) == "<DisjointLookup 0000000000… on 2 paths: going on>"
    lookup.cancel()
    assert lookup.result().reason is EndReason.CANCELLED
    assert lookup.nearest() == [10, 20]
    assert "cancelled" in repr(lookup)


def test_misuse_is_an_error() -> None:
    lookup = towards_zero(10, 20)
    for misuse in (lambda: lookup.answered(10, []), lambda: lookup.failed(99)):
        with pytest.raises(LocalProtocolError):
            misuse()
    with pytest.raises(KeyError):
        lookup.referrer(99)
    assert lookup.state(99) is None
    assert lookup.distance(99) == 99
    for paths in (0, 5):
        with pytest.raises(ValueError):
            towards_zero(10, paths=paths)


PEERS = st.integers(1, 60)
ANSWERS = st.dictionaries(PEERS, st.none() | st.lists(PEERS, max_size=12), max_size=60)


@settings(max_examples=300)
@given(st.lists(PEERS, max_size=8), ANSWERS, st.integers(1, 4), st.integers(0, 1 << 30))
def test_on_any_network_it_ends_asks_nobody_twice_and_alpha_at_most(
    seeds: list[int], network: dict[int, list[int] | None], paths: int, seed: int
) -> None:
    lookup = towards_zero(*seeds, paths=paths)
    asked: Counter[int] = Counter()

    def ask(peer: int) -> list[int] | None:
        asked[peer] += 1
        return network.get(peer, [])

    def watch(flying: Collection[int]) -> None:
        assert len(flying) <= CONFIG.alpha
        assert len(set(flying)) == len(flying)

    result = drive(lookup, ask, Random(seed), watch=watch)
    assert not asked or max(asked.values()) == 1
    assert set(result.states) <= {PeerState.QUERIED}
    assert result.completed
    answered = sorted(peer for peer in asked if network.get(peer, []) is not None)
    assert list(result.peers) == answered[: CONFIG.k]


@settings(max_examples=100)
@given(st.lists(PEERS, max_size=8), ANSWERS, st.integers(0, 1 << 30))
def test_one_path_is_a_plain_lookup(seeds: list[int], network: dict[int, list[int] | None], seed: int) -> None:
    def ask(peer: int) -> list[int] | None:
        return network.get(peer, [])

    ours = drive(towards_zero(*seeds, paths=1), ask, Random(seed))
    assert ours == drive(Lookup(0, seeds, identity, config=CONFIG), ask, Random(seed))


def test_what_it_keeps_is_bounded() -> None:
    config = LookupConfig(k=4, alpha=4, beta=2, max_peers=20)
    lookup = towards_zero(*range(1000, 1100), paths=2, config=config)
    rng = Random(1)
    result = drive(lookup, lambda peer: rng.sample(range(1, 1 << 20), 8), rng)
    assert len(lookup) <= 20
    assert result.completed


# --- liars ----------------------------------------------------------------------------------------

SIZE = 1_000
BIG = LookupConfig()


class Town:
    """A thousand nodes; some of them tell of nobody but peers they made up, nearer to any target than all others."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.peers = list(range(SIZE))
        ordered = sorted(self.peers, key=key)
        self.tables = {}
        for place, peer in enumerate(ordered):
            table = self.tables[peer] = RoutingTable(key(peer), key, bucket_size=BIG.k)
            neighbours = ordered[max(place - 20, 0) : place + 20]
            for other in (*neighbours, *self.rng.sample(self.peers, 120)):
                if other != peer:
                    table.add(other, 0.0)

    def finds(self, share_of_liars: float, look_up: Callable[..., Lookup[int] | DisjointLookup[int]]) -> bool:
        """Whether a lookup by an honest node comes to the honest node nearest to a random target."""
        liars = set(self.rng.sample(self.peers, int(SIZE * share_of_liars)))
        origin, *_ = (peer for peer in self.peers if peer not in liars)
        target = self.rng.getrandbits(256)
        nearest = min((peer for peer in self.peers if peer not in liars), key=lambda peer: key(peer) ^ target)
        nearer = key(nearest) ^ target
        made_up = {SIZE + index: target ^ self.rng.randrange(nearer) for index in range(60)}
        asked = set()

        def ask(peer: int) -> Iterable[int]:
            asked.add(peer)
            if peer in liars or peer in made_up:
                return self.rng.sample(sorted(made_up), BIG.k)
            return self.tables[peer].nearest(target, BIG.k)

        seeds = self.tables[origin].nearest(target, BIG.k)
        drive(
            look_up(target, seeds, lambda peer: made_up.get(peer) or key(peer), config=BIG, exclude=[origin]),
            ask,
            self.rng,
        )
        return nearest in asked


def test_among_liars_the_honest_target_is_found_on_disjoint_paths_and_much_less_often_on_one() -> None:
    town = Town(seed=3)

    def disjoint(*args: object, **kwargs: object) -> DisjointLookup[int]:
        return DisjointLookup(*args, paths=5, **kwargs)  # type: ignore[arg-type]

    runs = 60
    on_one = sum(town.finds(0.25, Lookup) for _ in range(runs)) / runs
    on_five = sum(town.finds(0.25, disjoint) for _ in range(runs)) / runs
    assert on_one <= 0.85
    assert on_five >= 0.95

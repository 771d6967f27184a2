"""The lookup machine: its states, its ends, and what must hold on any network."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.errors import LocalProtocolError
from py_p2pstack.kademlia import EndReason, Lookup, LookupConfig, PeerState
from tests.kademlia.network import Network, drive, key

CONFIG = LookupConfig(k=4, alpha=3, beta=2)


def identity(peer: int) -> int:
    return peer


def towards_zero(*seeds: int, config: LookupConfig = CONFIG) -> Lookup[int]:
    """A lookup for key 0 among peers that are their own keys: the smaller, the nearer."""
    return Lookup(0, seeds, identity, config=config)


def test_the_nearest_heard_peers_are_asked_first_at_most_alpha_at_once() -> None:
    lookup = towards_zero(50, 10, 40, 20, 30)
    assert lookup.next_queries() == [10, 20, 30]
    assert lookup.next_queries() == []
    lookup.answered(20, [5])
    assert lookup.next_queries() == [5]


def test_a_narrow_lookup_asks_no_more_than_its_width_until_all_of_them_have_answered() -> None:
    config = LookupConfig(k=4, alpha=3, beta=3)
    lookup = Lookup(0, [10, 20, 30, 40, 50], identity, config=config, width=2)
    assert lookup.next_queries() == [10, 20]
    lookup.answered(10, [])
    assert lookup.next_queries() == []
    lookup.answered(20, [])
    assert lookup.next_queries() == [30, 40, 50]


@pytest.mark.parametrize("fails", [False, True])
def test_a_narrow_lookup_asks_few_at_once_until_it_is_widened_or_one_fails(fails: bool) -> None:
    config = LookupConfig(k=4, alpha=3, beta=2)
    lookup = Lookup(0, [10, 20, 30, 40, 50], identity, config=config, width=1)
    assert lookup.next_queries() == [10]
    assert lookup.next_queries() == []
    if fails:
        lookup.failed(10)
    else:
        lookup.widen()
    assert lookup.next_queries() == ([20, 30, 40] if fails else [20, 30])


def test_a_lookup_without_seeds_starves_at_once() -> None:
    lookup = towards_zero()
    assert lookup.next_queries() == []
    assert lookup.ended is EndReason.STARVED
    assert lookup.result().peers == ()


def test_a_small_network_ends_by_starvation_which_counts_as_completed() -> None:
    lookup = towards_zero(10)
    lookup.next_queries()
    assert lookup.answered(10, [10]) == []
    lookup.next_queries()
    assert lookup.ended is EndReason.STARVED
    result = lookup.result()
    assert result.completed
    assert result.peers == (10,)


def test_it_completes_when_the_beta_nearest_answered_and_the_k_nearest_were_followed_up() -> None:
    lookup = towards_zero(10, 20, 30, 40, 50, 60)
    lookup.next_queries()
    lookup.answered(10, [])
    lookup.answered(20, [])  # the beta nearest: from here on only the k nearest matter
    assert lookup.next_queries() == [40]
    lookup.answered(30, [])
    assert lookup.next_queries() == []
    lookup.answered(40, [])
    lookup.next_queries()
    assert lookup.ended is EndReason.COMPLETED
    result = lookup.result()
    assert result.peers == (10, 20, 30, 40)
    assert set(result.states) == {PeerState.QUERIED}
    assert lookup.state(50) is PeerState.HEARD


def test_without_a_follow_up_it_ends_with_the_beta_nearest() -> None:
    lookup = towards_zero(10, 20, 30, 40, config=LookupConfig(k=4, alpha=3, beta=2, follow_up=False))
    lookup.next_queries()
    lookup.answered(10, [])
    lookup.answered(20, [])
    assert lookup.next_queries() == []
    assert lookup.ended is EndReason.COMPLETED
    assert lookup.result().states == (PeerState.QUERIED, PeerState.QUERIED, PeerState.WAITING, PeerState.HEARD)


def test_a_peer_that_fails_in_the_follow_up_makes_room_for_the_next() -> None:
    lookup = towards_zero(10, 20, 30, 40, 50)
    lookup.next_queries()
    lookup.answered(10, [])
    lookup.answered(20, [])
    assert lookup.next_queries() == [40]
    assert lookup.nearest() == [10, 20, 30, 40]
    lookup.failed(30)
    assert lookup.nearest() == [10, 20, 40, 50]
    assert lookup.next_queries() == [50]
    lookup.answered(40, [])
    lookup.answered(50, [])
    lookup.next_queries()
    result = lookup.result()
    assert result.peers == (10, 20, 40, 50)
    assert result.closest == (10, 20, 30, 40)
    assert (result.queried, result.unreachable) == (4, 1)


def test_what_the_follow_up_tells_is_followed_too() -> None:
    lookup = towards_zero(10, 20, 30, 40)
    lookup.next_queries()
    lookup.answered(10, [])
    lookup.answered(20, [])
    lookup.next_queries()
    assert lookup.answered(40, [1]) == [1]
    assert lookup.next_queries() == [1]
    lookup.answered(1, [])
    lookup.answered(30, [])
    lookup.next_queries()
    assert lookup.result().peers == (1, 10, 20, 30)


def test_the_stop_function_is_asked_before_all_else() -> None:
    stopped = False
    lookup = Lookup(0, [10, 20], identity, config=CONFIG, stop=lambda: stopped)
    lookup.next_queries()
    stopped = True
    lookup.answered(10, [5])
    assert lookup.next_queries() == []
    assert lookup.ended is EndReason.STOPPED
    assert not lookup.result().completed


def test_answers_after_the_end_change_nothing() -> None:
    lookup = towards_zero(10, 20)
    lookup.next_queries()
    lookup.cancel()
    assert lookup.ended is EndReason.CANCELLED
    lookup.answered(10, [5])
    lookup.failed(20)
    assert 5 not in lookup
    assert lookup.state(10) is PeerState.WAITING
    assert lookup.state(20) is PeerState.WAITING
    lookup.cancel()
    assert lookup.next_queries() == []


def test_only_peers_that_were_asked_can_answer_or_fail() -> None:
    lookup = towards_zero(10, 20, 30, 40)
    lookup.next_queries()
    lookup.answered(10, [])
    for peer in (10, 40, 99):
        with pytest.raises(LocalProtocolError):
            lookup.answered(peer, [])
        with pytest.raises(LocalProtocolError):
            lookup.failed(peer)


def test_there_is_no_result_before_the_end() -> None:
    with pytest.raises(LocalProtocolError):
        towards_zero(10).result()


def test_we_are_never_taken_in() -> None:
    lookup = Lookup(0, [7, 10], identity, config=CONFIG, exclude=[7])
    assert lookup.next_queries() == [10]
    assert lookup.answered(10, [7]) == []
    assert 7 not in lookup


def test_of_one_answer_two_k_peers_are_looked_at() -> None:
    lookup = towards_zero(1000)
    lookup.next_queries()
    assert lookup.answered(1000, range(1, 500)) == list(range(1, 9))


def test_the_peers_kept_are_bounded_and_the_farthest_heard_go_first() -> None:
    config = LookupConfig(k=4, alpha=2, beta=2, max_peers=6)
    lookup = towards_zero(60, 70, config=config)
    lookup.next_queries()
    lookup.answered(60, [10, 20, 30, 90])
    assert len(lookup) == 6
    lookup.answered(70, [40, 5, 95])
    assert len(lookup) == 6
    assert 90 not in lookup  # pushed out by 40
    assert 40 not in lookup  # and that one by 5
    assert 95 not in lookup
    assert lookup.state(60) is PeerState.QUERIED


def test_a_liar_that_always_tells_of_nearer_peers_cannot_lead_on_for_ever() -> None:
    fresh = iter(range(10**9, 0, -1))
    lookup = towards_zero(2 * 10**9, config=LookupConfig(k=4, alpha=3, beta=2, max_peers=100))
    result = drive(lookup, lambda peer: [next(fresh) for _ in range(8)], Random(1))
    assert result.queried <= 100


def test_who_told_of_whom_is_remembered() -> None:
    lookup = towards_zero(10)
    lookup.next_queries()
    lookup.answered(10, [5])
    lookup.next_queries()
    lookup.answered(5, [10, 1])
    assert (lookup.referrer(10), lookup.referrer(5), lookup.referrer(1)) == (None, 10, 5)
    lookup.next_queries()
    lookup.answered(1, [])
    lookup.next_queries()
    assert lookup.result().hops == 3
    assert lookup.distance(5) == 5
    assert "3 queried" in repr(lookup)


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"alpha": 0}, {"beta": 0}, {"beta": 21}, {"max_peers": 19}], ids=lambda wrong: str(wrong)
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="lookup"):
        LookupConfig(**wrong)  # type: ignore[arg-type]  # follow_up is not among them


# --- what must hold on any network --------------------------------------------------------------------

PEERS = st.integers(1, 60)


@given(
    graph=st.dictionaries(PEERS, st.one_of(st.none(), st.lists(PEERS, max_size=8)), max_size=60),
    seeds=st.lists(PEERS, max_size=6),
    k=st.integers(1, 6),
    alpha=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_any_lookup_ends_asks_nobody_twice_and_tells_the_truth(
    graph: dict[int, list[int] | None], seeds: list[int], k: int, alpha: int, seed: int
) -> None:
    config = LookupConfig(k=k, alpha=alpha, beta=min(3, k))
    target = key(0)
    asked: list[int] = []
    told = set(seeds)
    most = 0

    def ask(peer: int) -> list[int] | None:
        asked.append(peer)
        closer = graph.get(peer)
        told.update((closer or [])[: 2 * k])
        return closer

    def watch(flying: Collection[int]) -> None:
        nonlocal most
        most = max(most, len(flying))

    lookup = Lookup(target, seeds, key, config=config)
    result = drive(lookup, ask, Random(seed), watch=watch)

    assert result.completed
    assert most <= alpha
    assert len(asked) == len(set(asked))
    assert set(result.states) <= {PeerState.QUERIED}
    # The result is the k nearest of all that anybody told of, less those that do not answer.
    alive = sorted((peer for peer in told if graph.get(peer) is not None), key=lambda peer: key(peer) ^ target)
    dead_unasked = {peer for peer in told if graph.get(peer) is None}
    assert list(result.peers) == [peer for peer in alive if peer not in dead_unasked][:k]


def test_lookups_among_500_nodes_find_exactly_the_k_nearest_in_few_hops() -> None:
    network = Network(500, seed=7)
    network.introduce_everybody()
    hops = []
    for _ in range(60):
        origin, target = network.rng.choice(network.peers), network.rng.getrandbits(256)
        result = network.lookup(origin, target)
        assert list(result.peers) == network.truly_nearest(origin, target)
        hops.append(result.hops)
    assert median(hops) <= 9 / 2 + 2  # log2(500) / 2 + 2


def test_lookups_find_the_nearest_living_nodes_when_a_fifth_is_dead_and_still_in_all_tables() -> None:
    network = Network(300, seed=8)
    network.introduce_everybody()
    network.dead = set(network.rng.sample(network.peers, 60))
    found = wanted = 0
    for _ in range(60):
        origin = network.rng.choice([peer for peer in network.peers if peer not in network.dead])
        target = network.rng.getrandbits(256)
        result, truth = network.lookup(origin, target), network.truly_nearest(origin, target)
        assert result.peers[:10] == tuple(truth[:10])
        found += len(set(result.peers) & set(truth))
        wanted += len(truth)
    assert found / wanted > 0.95  # answers full of dead peers leave less room for the living


def test_300_nodes_that_know_one_bootstrapper_find_each_other_by_looking_themselves_up() -> None:
    network = Network(300, seed=9)
    # Each newcomer knows node 0 alone and looks itself up.
    for peer in network.peers[1:]:
        network.tables[peer].add(0, 0.0)
        network.tables[0].add(peer, 0.0)
        network.lookup(peer, key(peer))
    found = 0
    for _ in range(60):
        origin, target = network.rng.sample(network.peers, 2)
        found += target in network.lookup(origin, key(target)).peers
    assert found == 60

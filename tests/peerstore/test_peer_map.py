"""The bounded map: what goes when it is full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.identity import PeerId
from py_p2pstack.peerstore.peer_map import PeerMap
from tests.peer_ids import peer


def test_the_longest_untouched_goes_first() -> None:
    values: PeerMap[str] = PeerMap(2)
    for number, value in ((1, "a"), (2, "b"), (1, "c"), (3, "d")):
        values.put(peer(number), value)
    assert list(values) == [peer(1), peer(3)]
    assert values.get(peer(1)) == "c"
    assert values.get(peer(2)) is None
    assert peer(2) not in values


def test_weight_is_bounded_too() -> None:
    values: PeerMap[str] = PeerMap(10, 100)
    values.put(peer(1), "a", 60)
    values.put(peer(2), "b", 40)
    assert len(values) == 2
    values.put(peer(2), "b", 50)
    assert list(values) == [peer(2)]
    assert values.weight == 50
    assert values.pop(peer(2)) == "b"
    assert values.pop(peer(2)) is None
    assert values.weight == 0


def test_what_is_too_heavy_alone_is_not_kept_and_drives_nobody_out() -> None:
    values: PeerMap[str] = PeerMap(10, 100)
    values.put(peer(1), "a", 60)
    values.put(peer(2), "b", 101)
    assert list(values) == [peer(1)]


def test_spared_peers_go_after_the_others() -> None:
    spared = {peer(1), peer(2)}
    values: PeerMap[int] = PeerMap(3, spare=spared.__contains__)
    for number in range(1, 10):
        values.put(peer(number), number)
    assert set(values) == {peer(1), peer(2), peer(9)}


def test_the_newcomer_comes_in_even_if_all_others_are_spared() -> None:
    values: PeerMap[int] = PeerMap(3, spare=lambda who: who != peer(9))
    for number in (1, 2, 3, 9):
        values.put(peer(number), number)
    assert peer(9) in values
    assert len(values) == 3


def test_the_search_for_a_victim_is_short_however_many_are_spared() -> None:
    asked: list[PeerId] = []

    def spare(who: PeerId) -> bool:
        asked.append(who)
        return True

    values: PeerMap[int] = PeerMap(1000, spare=spare)
    for number in range(1000):
        values.put(peer(number), number)
    values.put(peer(5000), 0)
    assert len(asked) == 16
    assert len(values) == 1000


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 30))), st.sets(st.integers(0, 20)))
def test_the_bounds_hold_and_the_weight_is_true(puts: list[tuple[int, int]], spared: set[int]) -> None:
    values: PeerMap[int] = PeerMap(8, 60, spare={peer(number) for number in spared}.__contains__)
    for number, weight in puts:
        values.put(peer(number), weight, weight)
        assert values.get(peer(number)) == weight
        assert len(values) <= 8
        assert values.weight <= 60
        assert values.weight == sum(values.get(who) or 0 for who in values)

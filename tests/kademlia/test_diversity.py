"""How many peers of one IP group may sit in a table or in an answer."""

from __future__ import annotations

from py_p2pstack.kademlia import AddOutcome, IpDiversity, RoutingTable, crowded_out, independent
from tests.kademlia.network import key


def test_a_group_has_two_places_per_prefix_length_and_three_in_the_table() -> None:
    diversity = IpDiversity[int](lambda peer: ["10.1"])
    assert diversity.admit(1, cpl=0)
    assert diversity.admit(2, cpl=0)
    assert not diversity.admit(3, cpl=0)
    assert diversity.admit(4, cpl=1)
    assert not diversity.admit(5, cpl=2)


def test_a_peer_without_groups_is_not_limited() -> None:
    diversity = IpDiversity[int](lambda peer: [])
    assert all(diversity.admit(peer, cpl=0) for peer in range(50))
    assert len(diversity) == 0


def test_a_peer_of_two_groups_needs_room_in_both() -> None:
    diversity = IpDiversity[int](lambda peer: ["a", "b"] if peer == 9 else ["a"])
    assert diversity.admit(1, cpl=0)
    assert diversity.admit(2, cpl=0)
    assert not diversity.admit(9, cpl=0)
    diversity.release(1)
    assert diversity.admit(9, cpl=0)


def test_release_gives_back_the_groups_held_then_not_those_of_now() -> None:
    groups = {1: ["a"]}
    diversity = IpDiversity[int](lambda peer: groups.get(peer, ["a"]), max_per_table=1)
    assert diversity.admit(1, cpl=3)
    groups[1] = ["b"]
    assert not diversity.admit(2, cpl=3)
    diversity.release(1)
    assert diversity.admit(2, cpl=3)
    diversity.release(2)
    diversity.release(2)
    assert len(diversity) == 0
    assert not diversity._by_cpl
    assert not diversity._by_table


def test_a_table_refuses_the_crowd_and_takes_the_next_after_one_left() -> None:
    diversity = IpDiversity[int](lambda peer: ["a"], max_per_cpl=3, max_per_table=3)
    table = RoutingTable(key(0), key, diversity=diversity)
    outcomes = [table.add(peer, 0.0) for peer in range(1, 6)]
    assert outcomes == [AddOutcome.ADDED] * 3 + [AddOutcome.CROWDED] * 2
    table.remove(1)
    assert table.add(5, 0.0) is AddOutcome.ADDED


def test_a_peer_that_finds_no_room_does_not_count_towards_its_group() -> None:
    diversity = IpDiversity[int](lambda peer: ["a"], max_per_cpl=50, max_per_table=50)
    table = RoutingTable(key(0), key, bucket_size=1, diversity=diversity)
    for peer in range(1, 50):
        table.add(peer, 0.0)
    assert len(diversity) == len(table) < 20


def test_all_of_a_crowd_in_one_answer_are_dropped() -> None:
    groups = [{"a"}, {"b"}, {"a", "b"}, {"a"}, set[str](), {"a"}]
    assert crowded_out(groups, 3) == {0, 2, 3, 5}
    assert crowded_out(groups, 4) == set()


def test_peers_of_one_group_are_one_voice_and_peers_without_are_one_each() -> None:
    assert independent([]) == 0
    assert independent([{"a"}] * 100) == 1
    assert independent([set(), set(), {"a"}, {"b"}]) == 4


def test_a_peer_that_is_everywhere_is_one_voice_and_silences_nobody() -> None:
    everywhere = {"a", "b", "c", "d"}
    assert independent([everywhere]) == 1
    assert independent([everywhere, {"a"}, {"b"}]) == 2
    assert independent([everywhere, everywhere, {"e"}]) == 2

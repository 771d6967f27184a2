"""Counting values: the better wins, of equals the one more hold, and a party of many is one voice if wanted."""

from __future__ import annotations

from collections.abc import Sequence

from py_p2pstack.identity import PeerId
from py_p2pstack.protocols.dht.tally import MAX_RIVALS, Tally
from py_p2pstack.protocols.dht.validators import BlankValidator
from tests.peer_ids import peer as numbered

KEY, NOW = b"/v/x", 0.0
PEERS = [numbered(index) for index in range(40)]


class Larger:
    """The larger bytes are better."""

    def validate(self, key: bytes, value: bytes, now: float) -> None: ...

    def select(self, key: bytes, values: Sequence[bytes], now: float) -> int:
        return max(range(len(values)), key=lambda index: values[index])


def test_the_better_value_wins_and_whoever_holds_a_worse_one_is_stale() -> None:
    tally = Tally(KEY, Larger())
    assert tally.add(PEERS[0], b"2", NOW)
    assert not tally.add(PEERS[1], b"1", NOW)
    assert tally.add(PEERS[2], b"3", NOW)
    assert (tally.best, tally.answers) == (b"3", 3)
    assert tally.stale == {PEERS[0], PEERS[1]}
    assert tally.holders == {PEERS[2]}


def test_of_values_without_rank_the_one_more_peers_hold_wins_and_nobody_is_stale() -> None:
    tally = Tally(KEY, BlankValidator())
    assert tally.holders == frozenset()
    tally.add(PEERS[0], b"a", NOW)
    assert not tally.add(PEERS[1], b"b", NOW)
    assert tally.add(PEERS[2], b"b", NOW)
    assert tally.best == b"b"
    assert not tally.stale


def test_a_peer_that_answers_twice_is_one_answer() -> None:
    tally = Tally(KEY, BlankValidator())
    tally.add(PEERS[0], b"a", NOW)
    tally.add(PEERS[0], b"a", NOW)
    assert tally.answers == 1


def test_rivals_are_bounded() -> None:
    tally = Tally(KEY, BlankValidator())
    for index, peer in enumerate(PEERS):
        tally.add(peer, b"%d" % index, NOW)
    assert tally.best == b"0"
    for peer in PEERS[MAX_RIVALS:]:
        tally.add(peer, b"late", NOW)
    assert tally.best == b"0"


def test_counted_by_ip_group_one_party_neither_fills_a_quorum_nor_outvotes_others() -> None:
    crowd, honest = PEERS[:30], PEERS[30:33]
    groups = {peer: {"198.51"} for peer in crowd} | {peer: {f"10.{index}"} for index, peer in enumerate(honest)}

    def groups_of(peer: PeerId) -> set[str]:
        return groups[peer]

    tally = Tally(KEY, BlankValidator(), groups_of)
    for peer in crowd:
        tally.add(peer, b"false", NOW)
    assert tally.answers == 1
    for peer in honest:
        tally.add(peer, b"true", NOW)
    assert tally.answers == 4
    assert tally.best == b"true"


def test_a_peer_counts_with_the_groups_it_had_when_it_answered() -> None:
    groups = {"198.51"}
    tally = Tally(KEY, BlankValidator(), lambda peer: set(groups))
    tally.add(PEERS[0], b"a", NOW)
    groups.clear()
    tally.add(PEERS[1], b"a", NOW)
    assert tally.answers == 2

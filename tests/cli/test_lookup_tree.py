"""A lookup's events make a tree: who told of whom, and how each stands."""

from __future__ import annotations

from typing import Any

import pytest

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.cli import lookup_tree
from py_p2pstack.cli.lookup_tree import LookupTree
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import EndReason, PeerState, common_prefix_length, key_of
from py_p2pstack.protocols.dht import (
    AddingPeer,
    DialingPeer,
    FinalPeer,
    LookupEnded,
    LookupStarted,
    LookupUpdated,
    PeerResponse,
    Provider,
    QueryError,
    QueryEvent,
    SendingQuery,
    Value,
)
from tests.peer_ids import peer as peer_id

US, ALICE, BOB, CAROL, DAVE = map(peer_id, range(5))
KEY = b"/v/greeting"


def at(peer: PeerId) -> int:
    return key_of(peer.to_bytes()) ^ key_of(KEY)


def story() -> list[QueryEvent]:
    """Alice tells of Bob, Carol and Dave; Bob has the value, Carol cannot be reached, Dave is not asked."""
    now = iter(range(1, 100))

    def tell(kind: type[QueryEvent], **details: Any) -> QueryEvent:
        return kind(query_id=1, at=next(now) / 100, **details)

    def of(kind: type[QueryEvent], peer: PeerId, **details: Any) -> QueryEvent:
        return tell(kind, peer=peer, distance=at(peer), **details)

    return [
        tell(LookupStarted, node=US, key=KEY, seeds=(ALICE,)),
        tell(LookupUpdated, cause=US, source=None, heard=(ALICE,)),
        tell(LookupUpdated, cause=US, source=None, waiting=(ALICE,)),
        of(SendingQuery, ALICE),
        of(PeerResponse, ALICE, closer=(PeerInfo(BOB), PeerInfo(CAROL), PeerInfo(DAVE)), rtt=0.012),
        of(AddingPeer, BOB),
        tell(LookupUpdated, cause=ALICE, source=ALICE, heard=(BOB, CAROL, DAVE), queried=(ALICE,)),
        tell(LookupUpdated, cause=ALICE, source=ALICE, waiting=(BOB,)),
        tell(LookupUpdated, cause=ALICE, source=ALICE, waiting=(CAROL,)),
        of(DialingPeer, CAROL),
        of(SendingQuery, BOB),
        of(PeerResponse, BOB, closer=(), rtt=0.034),
        tell(Value, peer=BOB, value=b"hello"),
        tell(LookupUpdated, cause=BOB, source=BOB, queried=(BOB,)),
        tell(QueryError, peer=CAROL, reason="connection\nrefused"),
        tell(LookupUpdated, cause=CAROL, source=CAROL, unreachable=(CAROL,)),
        tell(LookupEnded, reason=EndReason.COMPLETED, peers=(BOB, ALICE)),
        of(FinalPeer, BOB),
    ]


def told(events: list[QueryEvent]) -> LookupTree:
    tree = LookupTree()
    for event in events:
        tree.take(event)
    return tree


def test_each_peer_hangs_below_who_told_of_it() -> None:
    tree = told(story())
    assert [hop.peer for hop in tree.seeds] == [ALICE]
    assert [hop.peer for hop in tree.seeds[0].children] == [BOB, CAROL, DAVE]


def test_each_peer_stands_as_the_lookup_says() -> None:
    tree = told(story())
    states = {peer: hop.state for peer, hop in tree.hops.items()}
    assert states == {
        ALICE: PeerState.QUERIED,
        BOB: PeerState.QUERIED,
        CAROL: PeerState.UNREACHABLE,
        DAVE: PeerState.HEARD,
    }
    assert tree.hops[ALICE].rtt == 0.012
    assert tree.hops[CAROL].reason == "connection\nrefused"
    assert tree.hops[BOB].final
    assert tree.hops[BOB].found == "has a value of 5 bytes"
    assert tree.ended == "completed"
    assert tree.elapsed == 0.18
    assert tree.depth == 2


def test_a_peer_is_as_near_as_its_key() -> None:
    hop = told(story()).hops[BOB]
    assert hop.distance == at(BOB)
    assert hop.shared_bits == common_prefix_length(key_of(BOB.to_bytes()), key_of(KEY))
    assert hop.shared_bits <= hop.nearness < hop.shared_bits + 1


def test_peers_not_asked_are_one_line() -> None:
    rows = [(row.hop.peer if row.hop else row.unasked, row.last) for row in told(story()).rows()]
    assert rows == [(ALICE, (True,)), (BOB, (True, False)), (CAROL, (True, False)), (1, (True, True))]


def test_a_peer_that_is_written_to_afterwards_keeps_the_time_of_its_answer() -> None:
    events = story()
    events.append(PeerResponse(query_id=1, at=1.0, peer=BOB, distance=at(BOB), closer=(), rtt=0.5))
    hop = told(events).hops[BOB]
    assert hop.stored
    assert hop.rtt == 0.034


def test_a_peer_that_was_only_heard_of_is_written_to_and_one_that_is_asked_again_is_not() -> None:
    events = story()
    events.append(FinalPeer(query_id=1, at=0.9, peer=DAVE, distance=at(DAVE)))
    events.append(PeerResponse(query_id=1, at=1.0, peer=DAVE, distance=at(DAVE), closer=(), rtt=0.5))
    events.append(LookupStarted(query_id=1, at=1.1, node=US, key=KEY, seeds=(BOB,)))
    events.append(PeerResponse(query_id=1, at=1.2, peer=BOB, distance=at(BOB), closer=(), rtt=0.5))
    hops = told(events).hops
    assert hops[DAVE].stored
    assert hops[DAVE].rtt == 0.5
    assert not hops[BOB].stored


def test_one_that_refuses_to_be_written_to_says_why() -> None:
    events = story()
    events.append(PeerResponse(query_id=1, at=1.0, peer=BOB, distance=at(BOB), closer=(), rtt=0.5))
    events.append(QueryError(query_id=1, at=1.1, peer=BOB, reason="too big"))
    hop = told(events).hops[BOB]
    assert not hop.stored
    assert hop.reason == "too big"


def test_what_we_have_ourselves_is_told_before_the_lookup() -> None:
    tree = told([Value(query_id=1, at=0.0, peer=US, value=b"hello"), *story()])
    assert tree.found_here == "has a value of 5 bytes"
    assert US not in tree.hops


def test_providers_are_told_of() -> None:
    tree = told([*story(), Provider(query_id=1, at=1.0, peer=BOB, providers=(PeerInfo(DAVE),))])
    assert tree.hops[BOB].found == "knows 1 provider"


def test_an_operation_that_fails_says_why() -> None:
    assert told([QueryError(query_id=1, at=0.0, peer=None, reason="nobody")]).failure == "nobody"


def test_two_lookups_of_one_operation_are_one_tree_that_goes_on_as_long_as_either() -> None:
    both = [QueryError(query_id=2, at=0.0, peer=None, reason="nobody"), *story()]
    assert (told(both).failure, told(both).ended) == ("", "completed")
    late = LookupStarted(query_id=2, at=0.01, node=US, key=KEY, seeds=(DAVE,))
    tree = told([story()[0], late, *story()[1:]])
    assert tree.ended == ""
    tree.take(LookupEnded(query_id=2, at=2.0, reason=EndReason.STARVED, peers=()))
    assert tree.ended == "starved"


def test_a_tree_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    many = tuple(map(peer_id, range(10, 14)))
    monkeypatch.setattr(lookup_tree, "MAX_HOPS", 3)
    tree = told([*story()[:2], LookupUpdated(query_id=1, at=0.1, cause=ALICE, source=ALICE, heard=many)])
    tree.take(SendingQuery(query_id=1, at=0.2, peer=many[3], distance=at(many[3])))
    assert len(tree.hops) == 3

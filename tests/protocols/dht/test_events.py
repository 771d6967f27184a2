"""Query events: their text, who hears them, and what a listener cannot break."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.events import EventBus
from py_p2pstack.kademlia import EndReason
from py_p2pstack.protocols.dht import (
    AddingPeer,
    FinalPeer,
    LookupEnded,
    LookupEvent,
    LookupStarted,
    LookupUpdated,
    PeerResponse,
    Provider,
    QueryError,
    QueryEvent,
    SendingQuery,
    Value,
    watching,
)
from py_p2pstack.protocols.dht.events import EVENT_TYPES, MAX_SINKS, listeners, tell
from tests.peer_ids import peer

ALICE = peer(1)
HERE: dict[str, Any] = {"query_id": 7, "at": 0.0123}


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (SendingQuery(**HERE, peer=ALICE, distance=1 << 250), f"SendingQuery {ALICE} (shares 5 bits)"),
        (FinalPeer(**HERE, peer=ALICE, distance=0), f"FinalPeer {ALICE} (shares 256 bits)"),
        (
            PeerResponse(**HERE, peer=ALICE, distance=0, closer=(PeerInfo(ALICE),), rtt=0.002),
            f"PeerResponse {ALICE} (shares 256 bits): 1 closer peers in 2.0 ms",
        ),
        (QueryError(**HERE, peer=ALICE, reason="no\nroute"), f"QueryError {ALICE}: no route"),
        (QueryError(**HERE, peer=None, reason="nobody"), "QueryError: nobody"),
        (Value(**HERE, peer=ALICE, value=b"abc"), f"Value {ALICE}: 3 bytes"),
        (Provider(**HERE, peer=ALICE, providers=()), f"Provider {ALICE}: 0 providers"),
        (LookupStarted(**HERE, node=ALICE, key=b"k", seeds=(ALICE,)), "LookupStarted with 1 peers"),
        (
            LookupUpdated(**HERE, cause=ALICE, source=None, heard=(ALICE, ALICE), unreachable=(ALICE,)),
            "LookupUpdated 2 heard, 1 unreachable",
        ),
        (LookupEnded(**HERE, reason=EndReason.STARVED, peers=()), "LookupEnded starved with 0 peers"),
    ],
)
def test_events_print_as_one_line(event: QueryEvent, text: str) -> None:
    assert str(event) == f"#7    12.3 ms  {text}"
    assert type(event) in EVENT_TYPES


def test_lookup_events_are_told_apart() -> None:
    assert {kind for kind in EVENT_TYPES if issubclass(kind, LookupEvent)} == {
        LookupStarted,
        LookupUpdated,
        LookupEnded,
    }


def test_usually_nobody_listens() -> None:
    assert listeners(EventBus(), None) == []


def test_callbacks_blocks_and_watchers_all_hear() -> None:
    bus = EventBus()
    heard: list[str] = []
    event = AddingPeer(**HERE, peer=ALICE, distance=3)
    with bus.subscribe(*EVENT_TYPES) as watcher, watching(lambda event: heard.append("outer")):
        with watching(lambda event: heard.append("inner")):
            tell(listeners(bus, lambda event: heard.append("call")), event)
        assert heard == ["outer", "inner", "call"]
        assert len(watcher) == 1
        assert len(listeners(bus, None)) == 2
    assert listeners(bus, None) == []


def test_a_listener_that_raises_is_called_no_more_and_the_others_hear_on(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[QueryEvent] = []
    calls = 0

    def broken(event: QueryEvent) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("oops")

    event = AddingPeer(**HERE, peer=ALICE, distance=3)
    found = [broken, heard.append]
    with caplog.at_level(logging.ERROR):
        tell(found, event)
        tell(found, event)
    assert calls == 1
    assert heard == [event, event]
    assert "listener failed" in caplog.text


def test_nested_blocks_are_bounded() -> None:
    def nest(depth: int) -> int:
        if depth == 0:
            return len(listeners(EventBus(), None))
        with watching(lambda event: None):
            return nest(depth - 1)

    assert nest(MAX_SINKS + 10) == MAX_SINKS

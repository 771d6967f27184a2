"""Saved operations: every event survives the way to JSON and back; anything else is refused."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.errors import InvalidTrace
from py_p2pstack.kademlia import EndReason
from py_p2pstack.protocols.dht import QueryEvent, trace
from py_p2pstack.protocols.dht.events import EVENT_TYPES
from tests.peer_ids import peer
from tests.protocols.dht.nodes import in_virtual_time, world

PEERS = st.integers(0, 50).map(peer)
INFOS = st.builds(
    PeerInfo,
    PEERS,
    st.lists(st.sampled_from(["/ip4/1.2.3.4/tcp/1", "/dns4/é.x/tcp/2"]).map(Multiaddr.parse)).map(tuple),
)
BY_TYPE: dict[str, st.SearchStrategy[object]] = {
    "PeerId": PEERS,
    "PeerId | None": st.none() | PEERS,
    "tuple[PeerId, ...]": st.lists(PEERS, max_size=5).map(tuple),
    "tuple[PeerInfo, ...]": st.lists(INFOS, max_size=3).map(tuple),
    "int": st.integers(0, 2**256 - 1),
    "float": st.floats(0, 1e6),
    "str": st.text(),
    "bytes": st.binary(max_size=100),
    "EndReason": st.sampled_from(EndReason),
}
EVENTS = st.sampled_from(EVENT_TYPES).flatmap(
    lambda kind: st.builds(kind, **{field.name: BY_TYPE[str(field.type)] for field in fields(kind)})
)


@given(EVENTS)
def test_an_event_read_back_equals_the_one_written(event: QueryEvent) -> None:
    line = trace.to_line(event)
    assert "\n" not in line
    assert trace.from_line(line) == event


def test_a_line_names_its_schema_and_event_first() -> None:
    event = next(iter(EVENT_TYPES))(query_id=1, at=0.5, peer=peer(1), distance=5)  # type: ignore[call-arg]
    told = json.loads(trace.to_line(event))
    assert list(told)[:4] == ["schema", "event", "query_id", "at"]
    assert told == {
        "schema": 1, "event": "SendingQuery", "query_id": 1, "at": 0.5, "peer": str(peer(1)), "distance": f"{5:064x}",
    }  # fmt: skip
    assert trace.from_json(told | {"added later": True}) == event


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "1",
        "[" * 5000,
        '{"schema":2,"event":"AddingPeer"}',
        '{"schema":1,"event":"Nonsense"}',
        '{"schema":1,"event":["AddingPeer"]}',
        '{"schema":1,"event":"QueryError","query_id":1,"at":0,"peer":null}',
        '{"schema":1,"event":"QueryError","query_id":"1","at":0,"peer":null,"reason":""}',
        '{"schema":1,"event":"QueryError","query_id":1,"at":NaN,"peer":null,"reason":""}',
        '{"schema":1,"event":"QueryError","query_id":1,"at":0,"peer":3,"reason":""}',
        '{"schema":1,"event":"QueryError","query_id":1,"at":0,"peer":"x","reason":""}',
        '{"schema":1,"event":"LookupEnded","query_id":1,"at":0,"reason":"tired","peers":[]}',
        '{"schema":1,"event":"LookupEnded","query_id":1,"at":0,"reason":"starved","peers":"ab"}',
        '{"schema":1,"event":"LookupEnded","query_id":true,"at":0,"reason":"starved","peers":[]}',
        " " * (trace.MAX_LINE + 1),
    ],
)
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(InvalidTrace):
        trace.from_line(line)


@in_virtual_time
async def test_a_finished_lookup_is_saved_and_replayed() -> None:
    async with world() as w:
        nodes = await w.join(4)
        told: list[QueryEvent] = []
        await nodes[1].dht.put_value("/v/k", b"\x00\xff", on_event=told.append)
        await nodes[2].dht.get_value("/v/k", on_event=told.append)
        saved = "\n".join(map(trace.to_line, told)) + "\n"
        assert list(trace.load(saved.splitlines())) == told
        assert len({type(event) for event in told}) >= 7

"""Putting values: to the k nearest, in as few words as will do, and with the truth about who keeps it."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack.errors import (
    InvalidRecord,
    LookupFailure,
    OperationTimeout,
    PutFailed,
    RemoteProtocolError,
)
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import LookupConfig
from py_p2pstack.protocols.dht import (
    FinalPeer,
    LookupStarted,
    PeerResponse,
    PutResult,
    QueryError,
    QueryEvent,
    SecurityConfig,
    SendingQuery,
)
from py_p2pstack.protocols.dht.codec import Message, MessageType
from tests.protocols.dht.holding import KEY, OWNED_KEY, give, held, nearest_first, owned, sequence, store
from tests.protocols.dht.nodes import in_virtual_time, world


@in_virtual_time
async def test_a_value_put_by_one_is_got_by_all() -> None:
    async with world() as w:
        nodes = await w.join(6)
        result = await nodes[1].dht.put_value(KEY, b"hello")
        assert set(result.replicas) == {node.id for node in nodes if node is not nodes[1]}
        assert set(result.asked) == set(result.replicas)
        assert result.refused == {}
        for node in nodes:
            assert await node.dht.get_value(KEY) == b"hello"


@in_virtual_time
async def test_a_put_goes_to_the_k_nearest_and_says_so() -> None:
    async with world() as w:
        nodes = await w.join(9, lookup=LookupConfig(k=3))
        told: list[QueryEvent] = []
        result = await nodes[4].dht.put_value(KEY, b"x", on_event=told.append)
        nearest = nearest_first(w, without=nodes[4])
        assert list(result.replicas) == [node.id for node in nearest[:3]]
        assert [await held(node) for node in nearest] == [b"x"] * 3 + [None] * 5
        # Told as one operation: first the lookup, then the puts.
        assert {each.query_id for each in told} == {told[0].query_id}
        assert isinstance(told[0], LookupStarted)
        final = [each.peer for each in told if isinstance(each, FinalPeer)]
        assert final == list(result.asked)
        behind = told[max(index for index, each in enumerate(told) if isinstance(each, FinalPeer)) + 1 :]
        assert {type(each) for each in behind} == {SendingQuery, PeerResponse}
        assert sorted(each.peer for each in behind if isinstance(each, PeerResponse)) == sorted(result.asked)


@in_virtual_time
async def test_a_put_asks_the_beta_nearest_the_way_and_then_all_to_keep_it() -> None:
    async with world() as w:
        nodes = await w.join(12)
        told: list[QueryEvent] = []
        result = await nodes[4].dht.put_value(KEY, b"x", on_event=told.append)
        asked = [each.peer for each in told if isinstance(each, SendingQuery)]
        nearest = [node.id for node in nearest_first(w, without=nodes[4])]
        assert set(asked[:3]) == set(nearest[:3])
        assert sorted(asked[3:]) == sorted(nearest)
        assert list(result.replicas) == nearest


@in_virtual_time
async def test_on_disjoint_paths_all_are_asked_the_way_before_any_keeps_it() -> None:
    async with world() as w:
        nodes = await w.join(6, security=SecurityConfig(disjoint_paths=2))
        told: list[QueryEvent] = []
        await nodes[4].dht.put_value(KEY, b"x", on_event=told.append)
        asked = [each.peer for each in told if isinstance(each, SendingQuery)]
        others = {node.id for node in nodes if node is not nodes[4]}
        assert set(asked[:5]) == set(asked[5:]) == others
        assert len(asked) == 10


@in_virtual_time
async def test_whoever_is_gone_when_it_is_to_keep_a_value_is_made_up_for() -> None:
    async with world() as w:
        nodes = await w.join(9, lookup=LookupConfig(k=4, beta=1))
        nearest = nearest_first(w, without=nodes[4])
        for gone in nearest[1:3]:
            await gone.host.aclose()
        told: list[QueryEvent] = []
        result = await nodes[4].dht.put_value(KEY, b"x", on_event=told.append)
        there = [nearest[index].id for index in (0, 3, 4, 5)]
        assert list(result.replicas) == there
        assert set(result.refused) == {gone.id for gone in nearest[1:3]}
        assert set(result.asked) == set(result.refused) | set(there)
        assert not any(peer in nodes[4].dht.routing_table for peer in result.refused)
        # Nobody was asked twice to keep it.
        assert len([each for each in told if isinstance(each, FinalPeer)]) == len(result.asked)


@in_virtual_time
async def test_who_takes_offence_at_a_value_keeps_its_place_in_the_table() -> None:
    async with world() as w:
        nodes = await w.join(6)

        async def offended(request: Message, sender: PeerId) -> Message:
            raise RemoteProtocolError("no such namespace here")

        nodes[0].dht._server._stores = {**nodes[0].dht._server._stores, MessageType.PUT_VALUE: offended}
        result = await nodes[3].dht.put_value(KEY, b"x")
        assert set(result.refused) == {nodes[0].id}
        assert len(result.replicas) == 4
        assert nodes[0].id in nodes[3].dht.routing_table


@in_virtual_time
async def test_a_put_that_runs_out_of_time_tells_who_keeps_the_value() -> None:
    async with world() as w:
        nodes = await w.join(4)

        async def silent(request: Message, sender: PeerId) -> Message | None:
            await anyio.sleep(60)
            return None

        nodes[0].dht._server._stores = {**nodes[0].dht._server._stores, MessageType.PUT_VALUE: silent}
        result = await nodes[3].dht.put_value(KEY, b"x", timeout=2.0)
        assert set(result.refused) == {nodes[0].id}
        assert set(result.replicas) == {nodes[1].id, nodes[2].id}
        for node in nodes[1:3]:
            node.dht._server._stores = {**node.dht._server._stores, MessageType.PUT_VALUE: silent}
        with pytest.raises(OperationTimeout):
            await nodes[3].dht.put_value(KEY, b"y", timeout=2.0)


@in_virtual_time
async def test_an_invalid_value_is_refused_before_anybody_is_asked() -> None:
    async with world() as w:
        nodes = await w.join(3)
        told: list[QueryEvent] = []
        for key, value in (
            (KEY, b""),
            (KEY, bytes(64 * 1024 + 1)),
            ("/unknown/k", b"x"),
            ("no namespace", b"x"),
            ("", b"x"),
            (b"/v/" + bytes(1024), b"x"),
            (b"/pk/" + nodes[0].id.to_bytes(), b"x"),
            ("/pk/nonsense", b"x"),
        ):
            with pytest.raises(InvalidRecord):
                await nodes[1].dht.put_value(key, value, on_event=told.append)
        assert told == []


@in_virtual_time
async def test_an_older_record_than_our_own_is_refused_before_anybody_is_asked() -> None:
    async with world() as w:
        nodes = await w.join(3)
        await nodes[1].dht.put_value(OWNED_KEY, owned(2))
        with pytest.raises(InvalidRecord, match="older"):
            await nodes[1].dht.put_value(OWNED_KEY, owned(1))
        assert sequence(await nodes[2].dht.get_value(OWNED_KEY)) == 2
        # The same once more is no fault.
        assert len((await nodes[1].dht.put_value(OWNED_KEY, owned(2))).replicas) == 2


@in_virtual_time
async def test_a_put_tells_who_refused_and_why_and_fails_without_a_replica() -> None:
    async with world() as w:
        nodes = await w.join(4)
        for node in nodes[:3]:
            await give(node, owned(5), OWNED_KEY)
        told: list[QueryEvent] = []
        with pytest.raises(PutFailed, match="better") as failure:
            await nodes[3].dht.put_value(OWNED_KEY, owned(4), on_event=told.append)
        result = failure.value.result
        assert isinstance(result, PutResult)
        assert result.replicas == ()
        assert set(result.refused) == set(result.asked) == {node.id for node in nodes[:3]}
        assert {each.peer for each in told if isinstance(each, QueryError)} == set(result.refused)


@in_virtual_time
async def test_fewer_replicas_than_the_quorum_are_a_failure_that_tells_who_has_it() -> None:
    async with world() as w:
        nodes = await w.join(4)
        await give(nodes[0], owned(5), OWNED_KEY)
        assert len((await nodes[3].dht.put_value(OWNED_KEY, owned(4), quorum=2)).replicas) == 2
        with pytest.raises(PutFailed, match="2 of 3 replicas") as failure:
            await nodes[3].dht.put_value(OWNED_KEY, owned(4), quorum=3)
        assert isinstance(failure.value.result, PutResult)
        assert set(failure.value.result.refused) == {nodes[0].id}


@in_virtual_time
async def test_who_does_not_answer_a_put_is_told_of_as_silent() -> None:
    async with world() as w:
        nodes = await w.join(4, put_timeout=3.0)

        async def silent(request: Message, sender: PeerId) -> Message | None:
            await anyio.sleep(60)
            return None

        nodes[0].dht._server._stores = {**nodes[0].dht._server._stores, MessageType.PUT_VALUE: silent}
        start = anyio.current_time()
        result = await nodes[3].dht.put_value(KEY, b"x")
        assert anyio.current_time() - start < 4
        assert result.refused == {nodes[0].id: "no answer in time"}
        assert set(result.replicas) == {nodes[1].id, nodes[2].id}


@in_virtual_time
async def test_with_nobody_there_a_put_fails_and_is_kept_for_later() -> None:
    async with world() as w:
        (alone,) = await w.start(1)
        with pytest.raises(LookupFailure):
            await alone.dht.put_value(KEY, b"x")
        assert await alone.dht.get_value(KEY) == b"x"
        assert [key for key, _ in await store(alone).published()] == [KEY.encode()]


@in_virtual_time
async def test_a_value_too_large_for_others_is_put_and_found_among_ours() -> None:
    async with world() as w:
        nodes = await w.join(5, lookup=LookupConfig(k=2, alpha=2, beta=2))
        large = bytes(range(256)) * 256
        await nodes[1].dht.put_value(KEY, large)
        for node in nodes:
            assert await node.dht.get_value(KEY) == large


@in_virtual_time
async def test_the_last_writer_wins_under_v() -> None:
    async with world() as w:
        nodes = await w.join(6)
        await nodes[1].dht.put_value(KEY, b"one")
        await nodes[2].dht.put_value(KEY, b"two")
        for node in nodes:
            assert await node.dht.get_value(KEY) == b"two"

"""Values among whole nodes: what is put is found, the better one wins, and whoever lacks it is given it."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from py_p2pstack import PrivateKey, StreamReset
from py_p2pstack.errors import (
    NotEnabled,
    OperationTimeout,
    StorageError,
    ValueNotFound,
)
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import LookupConfig
from py_p2pstack.protocols.dht import (
    PeerResponse,
    QueryError,
    QueryEvent,
    SendingQuery,
    Value,
    codec,
)
from py_p2pstack.protocols.dht.codec import Message, MessageType, Record
from py_p2pstack.protocols.dht.records.owned import OwnedRecord
from py_p2pstack.protocols.dht.values import SPARE
from tests.protocols.dht.holding import KEY, OWNED_KEY, OWNER, give, held, nearest_first, owned, sequence, store
from tests.protocols.dht.nodes import Node, in_virtual_time, settle, world


def answer_gets(node: Node, answer: Callable[[Message], Message]) -> None:
    """Have a server answer GET_VALUE as it likes."""

    async def serve(request: Message, sender: PeerId) -> Message:
        return answer(request)

    node.dht._server._stores = {**node.dht._server._stores, MessageType.GET_VALUE: serve}


# --- get ----------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_value_nobody_has_is_not_found() -> None:
    async with world() as w:
        nodes = await w.join(4)
        with pytest.raises(ValueNotFound):
            await nodes[1].dht.get_value(KEY)
        assert [value async for value in nodes[1].dht.search_value(KEY)] == []


@in_virtual_time
async def test_a_search_gives_out_improvements_only_and_ends_with_the_best() -> None:
    async with world() as w:
        nodes = await w.join(8)
        for number, node in enumerate(nodes[:7]):
            await give(node, owned(1 + number % 3), OWNED_KEY)
        found = [sequence(value) async for value in nodes[7].dht.search_value(OWNED_KEY)]
        assert found == sorted(set(found))
        assert found[-1] == 3
        await settle()
        assert sequence(await nodes[7].dht.get_value(OWNED_KEY)) == 3


@in_virtual_time
async def test_a_search_corrects_everybody_near_the_key_and_ourselves() -> None:
    async with world() as w:
        nodes = await w.join(6)
        for node in nodes:
            await give(node, owned(1), OWNED_KEY)
        await give(nodes[2], owned(2), OWNED_KEY)
        await store(nodes[3]).remove(OWNED_KEY)
        assert sequence(await nodes[4].dht.get_value(OWNED_KEY)) == 2
        await settle()
        for node in nodes:
            assert await held(node, OWNED_KEY) == owned(2)
        assert nodes[4].dht._values is not None
        assert nodes[4].dht._values.corrections == 0


@in_virtual_time
async def test_where_values_have_no_rank_the_majority_is_believed_and_nobody_corrected() -> None:
    async with world() as w:
        nodes = await w.join(7)
        for node in nodes[:6]:
            await give(node, b"new")
        nearest = nearest_first(w, without=nodes[6])
        for node in nearest[:2]:
            await give(node, b"missed the last write")
        assert await nodes[6].dht.get_value(KEY) == b"new"
        await settle()
        assert [await held(node) for node in nearest[:3]] == [b"missed the last write"] * 2 + [b"new"]


@in_virtual_time
async def test_a_quorum_ends_a_search_early() -> None:
    async with world() as w:
        nodes = await w.join(12, lookup=LookupConfig(k=12, alpha=1, beta=1))
        for node in nodes[:11]:
            await give(node, b"x")
        for quorum, answers in ((1, 2), (4, 5), (0, 11)):
            told: list[QueryEvent] = []
            assert await nodes[11].dht.get_value(KEY, quorum=quorum, on_event=told.append) == b"x"
            assert len([each for each in told if isinstance(each, Value)]) == answers


@in_virtual_time
async def test_our_own_copy_counts_for_the_quorum() -> None:
    async with world() as w:
        nodes = await w.join(6, lookup=LookupConfig(k=6, alpha=1, beta=1))
        for node in nodes:
            await give(node, b"x")
        told: list[QueryEvent] = []
        await nodes[5].dht.get_value(KEY, quorum=1, on_event=told.append)
        values = [each.peer for each in told if isinstance(each, Value)]
        assert len(values) == 2
        assert values[0] == nodes[5].id


@in_virtual_time
async def test_a_value_found_early_is_cached_at_the_nearest_that_lacked_it() -> None:
    async with world() as w:
        nodes = await w.join(8, lookup=LookupConfig(k=8, alpha=1, beta=1))
        nearest = nearest_first(w, without=nodes[7])
        for node in nearest[4:]:
            await give(node, b"x")
        assert await nodes[7].dht.get_value(KEY, quorum=1) == b"x"
        await settle()
        assert [await held(node) for node in nearest[:4]] == [b"x", None, None, None]


@in_virtual_time
async def test_invalid_values_are_passed_over_and_told_of() -> None:
    async with world() as w:
        nodes = await w.join(5)
        forged = OwnedRecord.create(PrivateKey.from_seed(bytes(31) + b"x"), "n", b"", 9)[1]
        for node in nodes[:2]:
            answer_gets(
                node,
                lambda request: Message(
                    type=MessageType.GET_VALUE, key=request.key, record=Record(key=request.key, value=forged)
                ),
            )
        await give(nodes[2], owned(1), OWNED_KEY)
        told: list[QueryEvent] = []
        assert await nodes[4].dht.get_value(OWNED_KEY, on_event=told.append) == owned(1)
        errors = {each.peer: each.reason for each in told if isinstance(each, QueryError)}
        assert set(errors) == {nodes[0].id, nodes[1].id}
        assert all("invalid value" in reason for reason in errors.values())
        assert nodes[0].id in nodes[4].dht.routing_table


@in_virtual_time
async def test_a_record_of_another_key_is_an_error_of_the_peer_and_costs_it_its_place() -> None:
    async with world() as w:
        nodes = await w.join(4)
        answer_gets(
            nodes[0],
            lambda request: Message(
                type=MessageType.GET_VALUE, key=request.key, record=Record(key=b"/v/other", value=b"x")
            ),
        )
        await give(nodes[1], b"right")
        assert await nodes[3].dht.get_value(KEY) == b"right"
        assert nodes[0].id not in nodes[3].dht.routing_table


@in_virtual_time
async def test_what_was_found_until_the_time_is_over_is_the_answer() -> None:
    async with world() as w:
        nodes = await w.join(5)
        await give(nodes[1], b"x")
        w.network.cut("0")
        assert await nodes[4].dht.get_value(KEY, timeout=2.0) == b"x"
        w.network.cut("1")
        w.network.cut("2")
        w.network.cut("3")
        with pytest.raises(OperationTimeout):
            await nodes[4].dht.get_value(KEY, timeout=2.0)
        with pytest.raises(OperationTimeout):
            async for _ in nodes[4].dht.search_value(KEY, timeout=2.0):
                pass


@in_virtual_time
async def test_a_copy_of_ours_that_became_invalid_does_not_count_and_is_removed() -> None:
    async with world() as w:
        nodes = await w.join(3)
        now = nodes[0].dht._wall_clock()
        _, brief = OwnedRecord.create(OWNER, "n", b"", 7, expires=now + 10)
        await give(nodes[2], brief, OWNED_KEY)
        await anyio.sleep(20)
        with pytest.raises(ValueNotFound):
            await nodes[2].dht.get_value(OWNED_KEY)
        assert await held(nodes[2], OWNED_KEY) is None


@in_virtual_time
async def test_a_search_may_be_left_cancelled_or_forgotten() -> None:
    async with world() as w:
        nodes = await w.join(5)
        await nodes[1].dht.put_value(KEY, b"x")
        for pause in (0.0, 0.001, 0.015, 0.03):
            async with nodes[3].dht.search_value(KEY) as values:
                await anyio.sleep(pause)
            with anyio.move_on_after(pause):
                async for _ in nodes[3].dht.search_value(KEY):
                    pass
            del values
            with anyio.move_on_after(pause):
                await nodes[3].dht.put_value(KEY, b"x")
        await settle()
        assert await nodes[3].dht.get_value(KEY) == b"x"


@in_virtual_time
async def test_a_client_puts_and_gets_and_keeps_nothing_for_others() -> None:
    async with world() as w:
        servers = await w.join(3)
        alice, bob = await w.join(2, mode="client")
        result = await alice.dht.put_value(KEY, b"x")
        assert set(result.replicas) == {node.id for node in servers}
        assert await bob.dht.get_value(KEY) == b"x"
        assert await held(bob) is None


@in_virtual_time
async def test_without_values_a_node_has_no_part_in_them() -> None:
    async with world() as w:
        nodes = await w.join(2)
        (without,) = await w.join(1, enable_values=False)
        with pytest.raises(NotEnabled):
            await without.dht.put_value(KEY, b"x")
        with pytest.raises(NotEnabled):
            await without.dht.get_value(KEY)
        with pytest.raises(NotEnabled):
            without.dht.search_value(KEY)
        result = await nodes[1].dht.put_value(KEY, b"x")
        assert set(result.refused) == {without.id}
        assert await nodes[0].dht.get_value(KEY) == b"x"


@in_virtual_time
async def test_a_store_that_fails_is_not_the_end_of_a_get() -> None:
    async with world() as w:
        nodes = await w.join(3)
        await nodes[1].dht.put_value(KEY, b"x")
        datastore = nodes[2].dht._datastore

        async def broken(*_: object, **__: object) -> bytes:
            raise StorageError("disk")

        datastore.get = broken  # type: ignore[method-assign]
        assert await nodes[2].dht.get_value(KEY) == b"x"
        stream = await nodes[0].host.new_stream(nodes[2].id, nodes[2].dht.config.protocol)
        await stream.send_message(codec.encode(Message(type=MessageType.GET_VALUE, key=KEY.encode())))
        with pytest.raises(StreamReset):
            await stream.receive()


# --- how many are asked at once -----------------------------------------------------------------------


@in_virtual_time
async def test_with_a_quorum_no_more_are_asked_than_may_be_needed() -> None:
    async with world() as w:
        nodes = await w.join(14)
        for node in nodes[:13]:
            await give(node, b"x")
        for quorum in (1, 3):
            told: list[QueryEvent] = []
            await nodes[13].dht.get_value(KEY, quorum=quorum, on_event=told.append)
            asked = [each.peer for each in told if isinstance(each, SendingQuery)]
            assert quorum < len(asked) <= 2 * (quorum + SPARE)


@in_virtual_time
async def test_the_few_asked_first_do_not_hold_up_a_search_if_they_are_slow_or_have_nothing() -> None:
    async with world() as w:
        nodes = await w.join(14)
        nearest = nearest_first(w, without=nodes[13])
        for node in nearest[5:]:
            await give(node, b"x")

        async def slow(request: Message, sender: PeerId) -> Message:
            await anyio.sleep(8)
            return Message(type=MessageType.GET_VALUE, key=request.key)

        for node in nearest[:3]:
            node.dht._server._stores = {**node.dht._server._stores, MessageType.GET_VALUE: slow}
        start = anyio.current_time()
        assert await nodes[13].dht.get_value(KEY, quorum=1) == b"x"
        assert anyio.current_time() - start < 1
        # Nobody has anything: all that are allowed are asked at once then.
        flying, most = 0, 0
        told: list[QueryEvent] = []
        with pytest.raises(ValueNotFound):
            await nodes[13].dht.get_value("/v/nothing", quorum=1, on_event=told.append)
        for each in told:
            flying += isinstance(each, SendingQuery) - isinstance(each, PeerResponse)
            most = max(most, flying)
        assert most == nodes[13].dht.config.lookup.alpha

"""Values among whole nodes: what is put is found, the better one wins, and whoever lacks it is given it."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from py_p2pstack import PrivateKey, StreamReset
from py_p2pstack.errors import (
    InvalidRecord,
    LookupFailure,
    NotEnabled,
    OperationTimeout,
    PutFailed,
    StorageError,
    ValueNotFound,
)
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import LookupConfig, key_of
from py_p2pstack.protocols.dht import (
    FinalPeer,
    LookupStarted,
    PeerResponse,
    PutResult,
    QueryError,
    QueryEvent,
    SendingQuery,
    Value,
    codec,
)
from py_p2pstack.protocols.dht.codec import Message, MessageType, Record
from py_p2pstack.protocols.dht.records.owned import OwnedRecord
from py_p2pstack.protocols.dht.storage import ValueStore
from py_p2pstack.protocols.dht.values import SPARE
from tests.protocols.dht.nodes import Node, World, in_virtual_time, settle, world

KEY = "/v/greeting"
OWNER = PrivateKey.from_seed(bytes(32))
OWNED_KEY, _ = OwnedRecord.create(OWNER, "n", b"", 0)


def owned(sequence: int) -> bytes:
    return OwnedRecord.create(OWNER, "n", b"value %d" % sequence, sequence)[1]


def sequence(value: bytes) -> int:
    return OwnedRecord.parse(value).sequence


def store(node: Node) -> ValueStore:
    assert node.dht._values is not None
    return node.dht._values._store


async def held(node: Node, key: bytes = KEY.encode()) -> bytes | None:
    stored = await store(node).get(key)
    return None if stored is None else stored.value


async def give(node: Node, value: bytes, key: bytes = KEY.encode()) -> None:
    """Have a node hold a value, as if somebody had put it there long ago."""
    await store(node).put(key, value)


def answer_gets(node: Node, answer: Callable[[Message], Message]) -> None:
    """Have a server answer GET_VALUE as it likes."""

    async def serve(request: Message, sender: PeerId) -> Message:
        return answer(request)

    node.dht._server._stores = {**node.dht._server._stores, MessageType.GET_VALUE: serve}


def nearest_first(w: World, key: bytes = KEY.encode(), *, without: Node) -> list[Node]:
    others = [node for node in w.nodes if node is not without]
    return sorted(others, key=lambda node: key_of(node.id.to_bytes()) ^ key_of(key))


# --- put ----------------------------------------------------------------------------------------------


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

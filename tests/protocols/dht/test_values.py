"""Values among whole nodes: what is put is found, the better one wins, and whoever lacks it is given it."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import PrivateKey
from py_p2pstack.errors import InvalidRecord, LookupFailure, PutFailed, ValueNotFound
from py_p2pstack.protocols.dht import QueryEvent, Value
from py_p2pstack.protocols.dht.records.owned import OwnedRecord
from tests.protocols.dht.nodes import in_virtual_time, settle, world

KEY = "/v/greeting"


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
async def test_a_value_nobody_has_is_not_found() -> None:
    async with world() as w:
        nodes = await w.join(4)
        with pytest.raises(ValueNotFound):
            await nodes[1].dht.get_value(KEY)


@in_virtual_time
async def test_the_last_writer_wins_under_v() -> None:
    async with world() as w:
        nodes = await w.join(6)
        await nodes[1].dht.put_value(KEY, b"one")
        await nodes[2].dht.put_value(KEY, b"two")
        for node in nodes:
            assert await node.dht.get_value(KEY) == b"two"


@in_virtual_time
async def test_an_older_record_of_ours_is_refused_before_anybody_is_asked() -> None:
    async with world() as w:
        nodes = await w.join(3)
        owner = PrivateKey.generate()
        key, newer = OwnedRecord.create(owner, "n", b"b", 2)
        _, older = OwnedRecord.create(owner, "n", b"a", 1)
        await nodes[1].dht.put_value(key, newer)
        with pytest.raises(InvalidRecord, match="older"):
            await nodes[1].dht.put_value(key, older)
        with pytest.raises(PutFailed, match="better") as failure:
            await nodes[2].dht.stop_publishing(key)
            await nodes[2].dht._values._store.remove(key)  # type: ignore[union-attr]
            await nodes[2].dht.put_value(key, older)
        assert set(failure.value.result.refused) == {nodes[0].id, nodes[1].id}  # type: ignore[attr-defined]
        assert OwnedRecord.parse(await nodes[2].dht.get_value(key)).value == b"b"
        await settle()


@in_virtual_time
async def test_a_put_that_nobody_keeps_fails() -> None:
    async with world() as w:
        (alone,) = await w.start(1)
        with pytest.raises(LookupFailure):
            await alone.dht.put_value(KEY, b"x")
        assert await alone.dht.get_value(KEY) == b"x"


@in_virtual_time
async def test_a_search_gives_out_improvements_and_may_be_left() -> None:
    async with world() as w:
        nodes = await w.join(5)
        await nodes[1].dht.put_value(KEY, b"x")
        told: list[QueryEvent] = []
        assert [value async for value in nodes[2].dht.search_value(KEY, on_event=told.append)] == [b"x"]
        assert {each.peer for each in told if isinstance(each, Value)} == {node.id for node in nodes}
        with anyio.move_on_after(0.001):
            async with nodes[3].dht.search_value(KEY) as values:
                await anyio.sleep(0.1)
                async for value in values:
                    assert value

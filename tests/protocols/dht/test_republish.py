"""What we publish is put again in time, whatever happens to us; what others left with us is forgotten in time."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from py_p2pstack import Dht, DhtConfig, PrivateKey
from py_p2pstack.errors import LookupFailure, StorageError
from py_p2pstack.kademlia import LookupConfig
from py_p2pstack.protocols.dht.records.owned import OwnedRecord
from py_p2pstack.protocols.dht.storage import ValueStore
from py_p2pstack.storage import MemoryDatastore
from tests.hosts import memory_host
from tests.protocols.dht.nodes import Node, in_virtual_time, wall_clock, world

KEY = b"/v/k"
HOUR = 10.0  # an hour of real hosts costs two seconds even in virtual time
PACE: dict[str, Any] = {
    "republish_interval": 22 * HOUR,
    "republish_spread": 2 * HOUR,
    "republish_check": 0.25 * HOUR,
    "max_value_age": 48 * HOUR,
    "value_gc_interval": 24 * HOUR,
}
OWNER = PrivateKey.from_seed(bytes(32))


def store(node: Node) -> ValueStore:
    assert node.dht._values is not None
    return node.dht._values._store


async def received(node: Node, key: bytes = KEY) -> float | None:
    """When a node got the value, in hours of the test."""
    stored = await store(node).get(key)
    return None if stored is None else (stored.received - 1.7e9) / HOUR


def test_the_pace_is_that_of_go_and_rust() -> None:
    config = DhtConfig()
    hour = 3600.0
    assert (config.republish_interval, config.republish_spread) == (22 * hour, 2 * hour)
    assert (config.max_value_age, config.value_gc_interval) == (48 * hour, 24 * hour)


@in_virtual_time
async def test_a_value_of_ours_is_put_again_after_22_to_24_hours_and_lives_on() -> None:
    async with world() as w:
        nodes = await w.join(3, **PACE)
        await nodes[1].dht.put_value(KEY, b"x")
        await anyio.sleep(21.9 * HOUR)
        first = await received(nodes[0])
        assert first is not None
        assert first < 1
        await anyio.sleep(2.6 * HOUR)
        second = await received(nodes[0])
        assert second is not None
        assert 22 <= second <= 24.25
        await anyio.sleep(50 * HOUR)
        assert await nodes[2].dht.get_value(KEY) == b"x"


@in_virtual_time
async def test_a_value_that_nobody_could_be_given_is_put_as_soon_as_there_is_somebody() -> None:
    async with world() as w:
        nodes = await w.join(2, **PACE)
        (alone,) = await w.start(1, **PACE)
        with pytest.raises(LookupFailure):
            await alone.dht.put_value(KEY, b"x")
        await anyio.sleep(HOUR)
        await alone.meet(nodes[0])
        await anyio.sleep(0.3 * HOUR)
        assert await nodes[1].dht.get_value(KEY) == b"x"
        at = await received(alone)
        assert at is not None
        assert 1 < at < 1.5  # and again in 22 hours


@in_virtual_time
async def test_values_put_together_are_put_again_at_different_times() -> None:
    async with world() as w:
        nodes = await w.join(2, **PACE)
        keys = [b"/v/%d" % number for number in range(12)]
        for key in keys:
            await nodes[1].dht.put_value(key, b"x")
        await anyio.sleep(25 * HOUR)
        times = [await received(nodes[0], key) for key in keys]
        assert all(time is not None and 22 <= time <= 24.25 for time in times)
        assert len({round(time or 0, 1) for time in times}) >= 4


@in_virtual_time
async def test_what_we_got_from_others_is_not_put_again_and_is_gone_after_48_hours() -> None:
    async with world() as w:
        nodes = await w.join(3, **PACE)
        await nodes[1].dht.put_value(KEY, b"x")
        await nodes[1].dht.stop_publishing(KEY)
        await anyio.sleep(47 * HOUR)
        assert await nodes[2].dht.get_value(KEY) == b"x"
        await anyio.sleep(2 * HOUR)
        assert await received(nodes[0]) is None
        # The collection of garbage takes it from the store, too.
        await anyio.sleep(24 * HOUR)
        datastore = nodes[0].dht._datastore
        assert not [key for key, _ in await datastore.scan(b"v/")]


@in_virtual_time
async def test_what_we_publish_survives_a_restart_and_what_became_due_is_put_again_soon() -> None:
    async with world() as w:
        (hub,) = await w.start(1, **PACE)
        datastore, config = MemoryDatastore(), DhtConfig(auto_refresh=False, **PACE)
        async with (
            memory_host(w.network, 50) as host,
            Dht(host, config, datastore=datastore, wall_clock=wall_clock) as dht,
        ):
            await host.connect(hub.host.peer_info)
            await dht.put_value(KEY, b"x")
        await anyio.sleep(60 * HOUR)
        assert await received(hub) is None
        async with memory_host(w.network, 51) as host, Dht(host, config, datastore=datastore, wall_clock=wall_clock):
            await host.connect(hub.host.peer_info)
            await anyio.sleep(0.3 * HOUR)
            assert await received(hub) is not None


@in_virtual_time
async def test_with_nobody_there_it_is_tried_again() -> None:
    async with world() as w:
        alice, bob = await w.start(2, **PACE)
        await alice.meet(bob)
        await alice.dht.put_value(KEY, b"x")
        await alice.host.network.close_peer(bob.id)
        alice.dht.routing_table.remove(bob.id)
        bob.dht.routing_table.remove(alice.id)
        await anyio.sleep(30 * HOUR)
        before = await received(bob)
        assert before is not None
        assert before < 1
        await alice.meet(bob)
        await anyio.sleep(0.3 * HOUR)
        after = await received(bob)
        assert after is not None
        assert after > 30


@in_virtual_time
async def test_when_the_network_has_a_better_value_ours_is_given_up_for_it() -> None:
    async with world() as w:
        nodes = await w.join(8, lookup=LookupConfig(k=3))
        records = [OwnedRecord.create(OWNER, "", b"", number) for number in range(3)]
        key = records[0][0]
        publisher = nodes[4]
        await publisher.dht.put_value(key, records[1][1])
        for node in nodes:
            if node is not publisher:
                await store(node).put(key, records[2][1])
        assert publisher.dht._values is not None
        assert not await publisher.dht._values.republish(key, records[1][1])
        stored = await store(publisher).get(key)
        assert stored is not None
        assert (stored.value, stored.published) == (records[2][1], False)


@in_virtual_time
async def test_where_values_have_no_rank_another_ones_later_value_is_not_undone() -> None:
    async with world() as w:
        nodes = await w.join(5, **PACE)
        await nodes[1].dht.put_value(KEY, b"first")
        await store(nodes[1]).put(KEY, b"first", published=True)
        await nodes[2].dht.put_value(KEY, b"later")
        await store(nodes[1]).put(KEY, b"first", published=True)  # as if we were not near the key ourselves
        await anyio.sleep(25 * HOUR)
        for node in nodes:
            assert await node.dht.get_value(KEY) == b"later"


@in_virtual_time
async def test_what_is_no_longer_valid_is_no_longer_published() -> None:
    async with world() as w:
        nodes = await w.join(2, **PACE)
        key, brief = OwnedRecord.create(OWNER, "", b"", 1, expires=wall_clock() + HOUR)
        await nodes[1].dht.put_value(key, brief)
        assert len(await store(nodes[1]).published()) == 1
        await anyio.sleep(25 * HOUR)
        assert await store(nodes[1]).published() == []


@in_virtual_time
async def test_more_than_a_page_of_values_is_put_again_a_few_at_a_time() -> None:
    async with world(latency=0.001) as w:
        nodes = await w.join(2, max_republishing=2, **PACE)
        for number in range(120):
            await store(nodes[1]).put(b"/v/%d" % number, b"x", published=True)
        await anyio.sleep(25 * HOUR)
        assert [await received(nodes[0], b"/v/%d" % number) for number in range(120)].count(None) == 0


@in_virtual_time
async def test_a_store_that_fails_is_told_of_and_tried_again() -> None:
    async with world() as w:
        nodes = await w.join(2, **PACE)
        await nodes[1].dht.put_value(KEY, b"x")
        datastore = nodes[1].dht._datastore
        scan = datastore.scan

        async def broken(*_: object, **__: object) -> list[tuple[bytes, bytes]]:
            raise StorageError("disk")

        datastore.scan = broken  # type: ignore[method-assign]
        await anyio.sleep(26 * HOUR)
        first = await received(nodes[0])
        assert first is not None
        assert first < 1
        datastore.scan = scan  # type: ignore[method-assign]
        await anyio.sleep(0.3 * HOUR)
        again = await received(nodes[0])
        assert again is not None
        assert again > 25

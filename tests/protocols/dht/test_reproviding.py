"""Providing again and again, among whole hosts: before it expires, after a restart, and when it could not be before."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import Dht, DhtConfig
from py_p2pstack.errors import LookupFailure, StorageError
from py_p2pstack.protocols.dht import LookupStarted, QueryEvent
from py_p2pstack.protocols.dht.provider_config import ProviderConfig
from py_p2pstack.storage.memory import MemoryDatastore
from tests.protocols.dht.nodes import Node, in_virtual_time, settle, wall_clock, world
from tests.protocols.dht.test_providers import KEY, SMALL, found, multihash, nearest


@in_virtual_time
async def test_many_keys_are_told_by_region_in_the_background_with_a_few_lookups() -> None:
    async with world() as w:
        nodes = await w.join(8, lookup=SMALL)
        keys = [multihash(number) for number in range(200)]
        told: list[QueryEvent] = []
        async with nodes[3].dht.watch(buffer=10_000) as events:
            assert await nodes[3].dht.provide_many(keys) == 200
            await anyio.sleep(60)
            while len(events):
                told.append(await events.receive())
        assert sum(isinstance(each, LookupStarted) for each in told) < 30
        for key in keys:
            for node in nearest([node for node in nodes if node is not nodes[3]], key, 3):
                assert node.dht._providers is not None
                assert [info.peer_id for info in await node.dht._providers.store.get(key)] == [nodes[3].id]


@in_virtual_time
async def test_what_is_provided_is_provided_again_before_it_expires_and_expires_when_that_ends() -> None:
    ages = ProviderConfig(reprovide_interval=220.0, max_age=480.0, address_age=240.0, gc_interval=10.0)
    async with world() as w:
        nodes = await w.join(4, providers=ages)
        await nodes[1].dht.provide(KEY)
        assert nodes[2].dht._providers is not None
        store = nodes[2].dht._providers.store
        for _ in range(9):
            await anyio.sleep(100)
            assert [each.addresses for each in await store.get(KEY)] == [tuple(nodes[1].host.addrs)]
        await nodes[1].dht.stop_providing(KEY)
        await anyio.sleep(500)
        assert await store.get(KEY) == []
        assert await store._datastore.scan(b"p/") == []


@in_virtual_time
async def test_what_could_not_be_provided_is_provided_as_soon_as_somebody_is_there() -> None:
    async with world() as w:
        alice, bob = await w.start(2)
        with pytest.raises(LookupFailure):
            await alice.dht.provide(KEY)
        await alice.meet(bob)
        await anyio.sleep(300)
        assert [each.peer_id for each in await found(bob)] == [alice.id]


@in_virtual_time
async def test_our_keys_survive_a_restart_and_are_provided_again() -> None:
    datastore = MemoryDatastore()
    async with world() as w:
        hub, host = (await w.start(1))[0], await w.start_host()
        await host.connect(hub.host.peer_info)
        for announce in (True, False):
            async with Dht(host, DhtConfig(auto_refresh=False), datastore=datastore, wall_clock=wall_clock) as dht:
                await settle()
                if announce:
                    await dht.provide(KEY)
                    assert dht._providers is not None
                    await dht._providers.store.own_provided([KEY], 1.0)  # long ago
                    assert hub.dht._providers is not None
                    await hub.dht._providers.store._datastore.write([(key, None) for key, _ in await everything(hub)])
                else:
                    await anyio.sleep(60)
        assert [each.peer_id for each in await found(hub)] == [host.id]


async def everything(node: Node) -> list[tuple[bytes, bytes]]:
    """The rows of a node's datastore."""
    assert node.dht._providers is not None
    return await node.dht._providers.store._datastore.scan(b"")


@in_virtual_time
async def test_a_node_may_be_told_never_to_provide_again() -> None:
    async with world() as w:
        nodes = await w.join(3, providers=ProviderConfig(reprovide_interval=0.0))
        await nodes[1].dht.provide(KEY)
        await nodes[1].dht.provide_many([multihash(1)])
        await anyio.sleep(600)
        assert nodes[2].dht._providers is not None
        assert await nodes[2].dht._providers.store.get(multihash(1)) == []
        assert [each.peer_id for each in await found(nodes[2])] == [nodes[1].id]


@in_virtual_time
async def test_a_node_nobody_can_reach_looks_nobody_up_until_it_can_be_reached() -> None:
    async with world() as w:
        nodes = await w.join(3)
        addresses = nodes[1].dht._node.addresses
        nodes[1].dht._node.addresses = lambda peer: []  # type: ignore[method-assign]
        async with nodes[1].dht.watch() as events:
            await nodes[1].dht.provide_many([KEY])
            await anyio.sleep(60)
            assert len(events) == 0
        nodes[1].dht._node.addresses = addresses  # type: ignore[method-assign]
        await anyio.sleep(60)
        assert nodes[2].dht._providers is not None
        assert [info.peer_id for info in await nodes[2].dht._providers.store.get(KEY)] == [nodes[1].id]


@in_virtual_time
async def test_a_store_that_fails_ends_no_task_of_ours() -> None:
    async with world() as w:
        nodes = await w.join(3, providers=ProviderConfig(gc_interval=10.0))
        assert nodes[1].dht._providers is not None
        store, failures = nodes[1].dht._providers.store, 0
        collect = store.collect_garbage

        async def fail() -> int:
            nonlocal failures
            failures += 1
            raise StorageError("the disk is gone")

        store.collect_garbage = fail  # type: ignore[method-assign]
        await anyio.sleep(35)
        assert failures == 3
        store.collect_garbage = collect  # type: ignore[method-assign]
        assert len((await nodes[1].dht.provide(KEY)).told) == 2


@in_virtual_time
async def test_a_sweep_dials_who_is_not_connected_any_more() -> None:
    async with world() as w:
        nodes = await w.join(4)
        ground = nodes[1].dht._providers.sweeper._ground  # type: ignore[union-attr]
        await nodes[1].host.network.close_peer(nodes[3].id)
        await ground.tell(nodes[3].id, [KEY, multihash(1)])
        for key in (KEY, multihash(1)):
            assert nodes[3].dht._providers is not None
            assert [info.peer_id for info in await nodes[3].dht._providers.store.get(key)] == [nodes[1].id]

"""Keys that are surrounded: what lies under them is put and found all the same."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256

import pytest

from py_p2pstack.errors import ValueNotFound
from py_p2pstack.protocols.dht.optimistic import OptimisticConfig
from py_p2pstack.testing.light_network import LightNetwork
from tests.protocols.dht.crowd import K, Town
from tests.protocols.dht.nodes import in_virtual_time

SYBILS = 25


@asynccontextmanager
async def town(size: int = 150) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(LightNetwork(random.Random(1)))
        built = Town(stack, network)
        await built.settle(size)
        yield built


@in_virtual_time
async def test_values_and_providers_are_found_around_a_crowd_and_put_there() -> None:
    async with town() as here:
        # Alice puts her value and provides her content while all is well.
        key = here.usual(b"/v/wanted gone %d" % number for number in range(40))
        content = here.usual(b"\x12\x20" + sha256(b"%d" % number).digest() for number in range(40))
        alice = await here.newcomer()
        assert len((await alice.put_value(key, b"here I am")).asked) == K
        assert len((await alice.provide(content)).told) == K

        # Crowds settle around both; the nearest peers are all of them.
        crowd = await here.surround(key, SYBILS) | await here.surround(content, SYBILS)
        bob = await here.newcomer(sybil_check=False)
        for each in (key, content):
            assert set(await bob.get_closest_peers(each)) <= crowd

        # Who asks the nearest only finds nothing; who looks at how near they are asks the region and does.
        with pytest.raises(ValueNotFound):
            await bob.get_value(key)
        async with bob.find_providers(content) as providers:
            assert [each async for each in providers] == []
        carol = await here.newcomer()
        assert await carol.get_value(key) == b"here I am"
        async with carol.find_providers(content) as providers:
            assert [each.peer_id async for each in providers] == [alice.host.id]

        # What she puts and provides reaches honest peers too.
        put, provided = await carol.put_value(key, b"here I am still"), await carol.provide(content)
        assert len(set(put.replicas) - crowd) >= 3
        assert len(set(provided.told) - crowd) >= 3
        assert len(put.asked) > K

        # So does what is provided in a hurry.
        dave = await here.newcomer(OptimisticConfig())
        provided = await dave.provide(content)
        assert len({*provided.told, *provided.pending} - crowd) >= 3

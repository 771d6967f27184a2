"""A node of the public and of a private DHT: who hears of what, and whose word counts."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from py_p2pstack import Host
from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.errors import DhtClosed, InvalidRecord, LookupFailure, ValueNotFound
from py_p2pstack.identity import PrivateKey
from py_p2pstack.protocols.dht import DhtConfig, QueryEvent
from py_p2pstack.protocols.dht.dual import DualDht
from py_p2pstack.testing import virtual_time
from py_p2pstack.testing.light_host import LightHost
from py_p2pstack.testing.light_network import LightNetwork

CONTENT = bytes.fromhex("1220") + bytes(32)


@dataclass
class World:
    """Two hosts on the internet, two in a private network, and one of the latter that knows the former."""

    public: list[DualDht]
    private: list[DualDht]

    @property
    def middle(self) -> DualDht:
        """The private one that is connected to all others."""
        return self.private[0]


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Everybody knows everybody of their own network; the first private one knows all."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(LightNetwork(random.Random(1)))
        made: list[tuple[LightHost, DualDht]] = []
        for index, ip in enumerate(("10.0.0.1", "10.0.0.2", "11.1.0.1", "12.1.0.1")):
            key = PrivateKey.from_seed(bytes([index + 1]) * 32).public_key
            address = Multiaddr.parse(f"/ip4/{ip}/tcp/4001")
            host = await stack.enter_async_context(LightHost(network, ip, key, address, random.Random(index)))
            config = DhtConfig(auto_refresh=False)
            dual = DualDht(host, config, rng=random.Random(index), wall_clock=lambda: 1e9 + anyio.current_time())
            made.append((host, await stack.enter_async_context(dual)))
        middle, lan, one, other = (host for host, _ in made)
        for a, b in ((middle, lan), (middle, one), (middle, other), (one, other)):
            await a.connect(PeerInfo(b.id, (b.address,)))
        await anyio.sleep(20)
        (_, dual_middle), (_, dual_lan), (_, dual_one), (_, dual_other) = made
        yield World(public=[dual_one, dual_other], private=[dual_middle, dual_lan])


def in_world(test: Callable[[World], Awaitable[None]]) -> Callable[[str], None]:
    """Run a test in a world of its own, on both backends."""

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def run(backend: str) -> None:
        async def main() -> None:
            async with world() as everybody:
                await test(everybody)

        virtual_time.run(main, backend=backend)

    run.__name__ = test.__name__
    return run


def ids(dht: DualDht) -> tuple[set[object], set[object]]:
    """Who is in the public and in the private routing table."""
    return set(dht.wan.routing_table), set(dht.lan.routing_table)


@in_world
async def test_public_servers_are_in_the_one_table_and_private_ones_in_the_other(w: World) -> None:
    public = {dht.wan.host.id for dht in w.public}
    assert ids(w.middle) == (public, {w.private[1].lan.host.id})
    assert ids(w.private[1]) == (set(), {w.middle.lan.host.id})


@in_world
async def test_what_is_put_goes_to_the_public_dht_once_it_has_peers(w: World) -> None:
    result = await w.middle.put_value("/v/key", b"from the middle")
    assert set(result.replicas) == {dht.wan.host.id for dht in w.public}
    assert await w.public[0].get_value("/v/key") == b"from the middle"
    with pytest.raises(ValueNotFound):
        await w.private[1].get_value("/v/key")


@in_world
async def test_without_public_peers_what_is_put_goes_to_the_private_dht(w: World) -> None:
    result = await w.private[1].put_value("/v/key", b"from the lan")
    assert result.replicas == (w.middle.lan.host.id,)
    assert await w.middle.get_value("/v/key") == b"from the lan"


@in_world
async def test_the_value_of_the_public_dht_is_preferred(w: World) -> None:
    await w.private[1].put_value("/v/key", b"private")
    await w.public[0].put_value("/v/key", b"public")
    assert await w.middle.get_value("/v/key") == b"public"


@in_world
async def test_a_search_gives_out_what_either_dht_has(w: World) -> None:
    await w.private[1].put_value("/v/key", b"private")
    async with w.middle.search_value("/v/key") as values:
        assert [value async for value in values] == [b"private"]


@in_world
async def test_providers_of_both_are_found_once_each(w: World) -> None:
    await w.private[1].provide(CONTENT)
    await w.public[0].provide(CONTENT)
    async with w.middle.find_providers(CONTENT) as providers:
        found = [each.peer_id async for each in providers]
    assert sorted(map(str, found)) == sorted(map(str, (w.private[1].lan.host.id, w.public[0].wan.host.id)))


@in_world
async def test_an_operation_has_a_number_of_its_own_in_either_dht(w: World) -> None:
    events: list[QueryEvent] = []
    with pytest.raises(ValueNotFound):
        await w.middle.get_value("/v/key", on_event=events.append)
    with pytest.raises(ValueNotFound):
        await w.middle.get_value("/v/key", on_event=events.append)
    assert len({event.query_id for event in events}) == 4


@in_world
async def test_content_that_is_none_is_refused_at_once_and_both_go_on(w: World) -> None:
    for content, count in ((b"no multihash", 1), (CONTENT, -1)):
        with pytest.raises(ValueError):
            w.middle.find_providers(content, count=count)
    with pytest.raises(InvalidRecord):
        w.middle.search_value(b"")
    await w.middle.put_value("/v/key", b"value")


@in_world
async def test_no_more_providers_are_found_than_asked_for(w: World) -> None:
    await w.private[1].provide(CONTENT)
    await w.public[0].provide(CONTENT)
    async with w.middle.find_providers(CONTENT, count=1) as providers:
        assert len([each async for each in providers]) == 1


@in_world
async def test_a_peer_is_found_in_whichever_dht_knows_it(w: World) -> None:
    for sought in (w.public[0].wan.host, w.private[1].lan.host):
        found = await w.middle.find_peer(sought.id)
        assert found.addresses == tuple(sought.addrs)


@in_world
async def test_private_addresses_are_not_told_in_the_public_dht(w: World) -> None:
    told = await w.public[0].wan.find_node(w.middle.wan.host.id, w.private[1].lan.host.id.to_bytes())
    assert w.private[1].lan.host.id not in {each.peer_id for each in told}
    told = await w.private[1].lan.find_node(w.middle.lan.host.id, w.middle.lan.host.id.to_bytes())
    assert [each.peer_id for each in told] == [w.middle.lan.host.id]


@in_world
async def test_with_nobody_to_ask_anywhere_that_is_the_error(w: World) -> None:
    loner = LightHost(
        w.middle.wan.host.light_network,  # type: ignore[attr-defined]
        "loner",
        PrivateKey.from_seed(b"l" * 32).public_key,
        Multiaddr.parse("/ip4/10.0.0.9/tcp/4001"),
        random.Random(9),
    )
    async with loner, DualDht(loner, DhtConfig(auto_refresh=False)) as dht:
        with pytest.raises(LookupFailure):
            await dht.get_value("/v/key")
        with pytest.raises(LookupFailure):
            await dht.find_peer(w.public[0].wan.host.id)
        assert await dht.bootstrap() == 0


def test_both_go_by_the_rules_of_the_network_and_each_bootstraps_from_peers_it_would_take() -> None:
    public, private = (
        PeerInfo.parse(f"/ip4/{ip}/tcp/1/p2p/12D3KooWHFrmLWTTDD4NodngtRMEVYgxrsDMp4F9iSwYntZ9WjHa")
        for ip in ("8.8.8.8", "192.168.1.1")
    )
    dual = DualDht(Host(), DhtConfig(prefix="/ipfs", bootstrap_peers=(public, private)))
    for dht in (dual.wan, dual.lan):
        with pytest.raises(InvalidRecord):  # nobody else in that network would keep it
            dht.config.rules.validate(b"/v/key", b"value", 0.0)
    assert dual.wan.config.bootstrap_peers == (public,)
    assert dual.lan.config.bootstrap_peers == (private,)


def test_before_it_is_entered_a_dht_says_so() -> None:
    dual = DualDht(Host())
    with pytest.raises(DhtClosed):
        dual.search_value("/v/key")
    with pytest.raises(DhtClosed):
        dual.find_providers(CONTENT)

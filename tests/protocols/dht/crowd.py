"""A network of light hosts, and a crowd of peers that settle around one key and say nothing true."""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count
from typing import Any, cast

import anyio

from py_p2pstack import Dht, DhtConfig, PeerInfo
from py_p2pstack.core.stream import Stream
from py_p2pstack.identity import PeerId, PrivateKey
from py_p2pstack.kademlia import LookupConfig, key_of
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import KadPeer, MessageType
from py_p2pstack.protocols.dht.optimistic import OptimisticConfig
from py_p2pstack.protocols.dht.provider_config import ProviderConfig
from py_p2pstack.protocols.dht.security_config import SecurityConfig
from py_p2pstack.testing.light_host import LightHost
from py_p2pstack.testing.light_network import LightNetwork
from py_p2pstack.testing.light_simulation import public_address

K = 10
LOOKUP = LookupConfig(k=K, alpha=5, beta=3)


def position(peer: PeerId) -> int:
    """Where a peer is in the key space."""
    return key_of(peer.to_bytes())


class Town:
    """Honest nodes that know each other, each in an IP group of its own."""

    def __init__(self, stack: AsyncExitStack, network: LightNetwork) -> None:
        self.nodes: list[Dht] = []
        self.crowd: list[LightHost] = []
        self._stack = stack
        self._network = network
        self._seeds = count(1)

    async def settle(self, size: int) -> None:
        """Everybody is there, and knows its neighbours and some others."""
        rng = random.Random(size)
        for _ in range(size):
            self.nodes.append(await self.start())
        ordered = sorted(self.nodes, key=lambda node: position(node.host.id))
        for place, node in enumerate(ordered):
            for other in (*ordered[max(place - K, 0) : place + K], *rng.sample(ordered, 5 * K)):
                if other is not node:
                    node.host.peerstore.add_addresses(other.host.id, tuple(other.host.addrs), float("inf"))
                    node.routing_table.add(other.host.id, 0.0)

    async def start(self, optimistic: OptimisticConfig | None = None, **security: Any) -> Dht:
        """One more node, which knows nobody yet."""
        config = DhtConfig(
            auto_refresh=False,
            lookup=LOOKUP,
            providers=ProviderConfig(optimistic=optimistic),
            security=SecurityConfig(**security),
        )
        seed = next(self._seeds)
        host = await self._host(_key(seed), seed)
        return await self._stack.enter_async_context(Dht(cast(Any, host), config, rng=random.Random(seed)))

    async def newcomer(self, optimistic: OptimisticConfig | None = None, **security: Any) -> Dht:
        """A node that has joined by one of the first, and looked around."""
        node = await self.start(optimistic, **security)
        first = self.nodes[0].host
        await node.host.connect(PeerInfo(first.id, tuple(first.addrs)))
        await anyio.sleep(0.5)
        await node.bootstrap()
        return node

    async def _host(self, key: PrivateKey, index: int) -> LightHost:
        rng = random.Random(index)
        host = LightHost(self._network, f"n{index}", key.public_key, public_address(index), rng)
        return await self._stack.enter_async_context(host)

    def nearest(self, key: bytes) -> list[Dht]:
        """The honest nodes, nearest to a key first."""
        return sorted(self.nodes, key=lambda node: position(node.host.id) ^ key_of(key))

    def usual(self, keys: Iterable[bytes]) -> bytes:
        """The key whose nearest honest node is about as far away as is usual: peers nearer than it are soon made."""
        usual = (1 << 256) // len(self.nodes)
        return min(keys, key=lambda key: abs((position(self.nearest(key)[0].host.id) ^ key_of(key)) - usual))

    async def surround(self, key: bytes, size: int) -> set[PeerId]:
        """Put peers around a key that are nearer than any honest one, and make them known there."""
        crowd: list[LightHost] = []
        target = key_of(key)
        nearest = self.nearest(key)
        bound = position(nearest[0].host.id) ^ target
        for seed in count(1_000_000 * (1 + len(self.crowd))):
            private_key = _key(seed)
            if position(private_key.public_key.peer_id()) ^ target < bound:
                host = await self._host(private_key, 10_000 + len(self.crowd))
                host.set_stream_handler(self.nodes[0].config.protocol, self._lie)
                self.crowd.append(host)
                crowd.append(host)
                if len(crowd) == size:
                    break
        for host in crowd:
            for node in nearest[: 2 * K]:
                await host.connect(PeerInfo(node.host.id, tuple(node.host.addrs)))
        await anyio.sleep(5)
        return {host.id for host in crowd}

    async def _lie(self, stream: Stream) -> None:
        """Tell of the crowd only, have nothing, and confirm every put."""
        while True:
            request = codec.decode(await stream.receive_message(1 << 16), max_peers=K)
            near = sorted(self.crowd, key=lambda host: position(host.id) ^ key_of(request.key))[:K]
            peers = tuple(KadPeer(PeerInfo(host.id, (host.address,))) for host in near)
            record = request.record if request.type is MessageType.PUT_VALUE else None
            answer = replace(request, record=record, closer_peers=peers, provider_peers=())
            if request.type is not MessageType.ADD_PROVIDER:
                await stream.send_message(codec.encode(answer))


def _key(seed: int) -> PrivateKey:
    return PrivateKey.from_seed(seed.to_bytes(32, "big"))

"""A network of peers that answer after their own time or never, and one node of ours: lookups and stores alone."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from heapq import nsmallest
from random import Random
from typing import Any, cast

import anyio

from py_p2pstack import DhtConfig, PeerInfo
from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import OperationTimeout
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import RoutingTable, cached_keys, key_of
from py_p2pstack.lifetime import OwnTasks
from py_p2pstack.protocols.dht.codec import KadPeer, Message, MessageType
from py_p2pstack.protocols.dht.lookups import Lookups
from py_p2pstack.protocols.dht.optimistic import OptimisticConfig
from py_p2pstack.protocols.dht.provider_config import ProviderConfig
from py_p2pstack.protocols.dht.providers import Providers
from py_p2pstack.storage.memory import MemoryDatastore
from tests.peer_ids import peer

WHERE = (Multiaddr.parse("/ip4/127.0.0.1/tcp/1"),)


class SlowNetwork:
    """`size` peers, each answering with the k nearest that it knows; `slow` of them slowly, `dead` of them never.

    Stands in for the LocalNode of one node, which is peer 0, and for its messenger.
    """

    def __init__(self, config: DhtConfig, *, size: int, slow: float, dead: float, seed: int = 1) -> None:
        rng = Random(seed)
        self.config = config
        self.local_peer = peer(0)
        self.key_of = cached_keys(PeerId.to_bytes, 8192)
        self.peers = {self.key_of(peer(number)): peer(number) for number in range(1, size + 1)}
        kinds = {each: rng.random() for each in self.peers.values()}
        self.dead = {each for each, kind in kinds.items() if kind < dead}
        self.slow = {each for each, kind in kinds.items() if dead <= kind < dead + slow}
        self.table = RoutingTable(self.key_of(self.local_peer), self.key_of)
        for each in rng.sample(list(self.peers.values()), 200):
            self.table.add(each, 0.0)
        self.connected: set[PeerId] = set()
        self.told: list[PeerId] = []
        self.messenger = self

    def latency(self, whom: PeerId) -> float:
        """Of one round trip, in seconds."""
        return 2.5 if whom in self.slow else 0.08

    def truly_nearest(self, key: bytes) -> list[PeerId]:
        """The k nearest of those that live."""
        living = (each for each, who in self.peers.items() if who not in self.dead)
        return [self.peers[each] for each in nsmallest(self.config.lookup.k, living, key=key_of(key).__xor__)]

    # --- what a LocalNode does --------------------------------------------------------------------

    def addresses(self, whom: PeerId) -> tuple[Multiaddr, ...]:
        return WHERE

    def is_connected(self, whom: PeerId) -> bool:
        return whom in self.connected

    def admits(self, whom: PeerInfo) -> bool:
        return True

    def take_addresses(self, whom: PeerInfo) -> bool:
        return True

    def answered(self, whom: PeerId) -> None:
        pass

    def failed(self, whom: PeerId) -> None:
        pass

    async def dial(self, whom: PeerId) -> None:
        if whom in self.dead:
            await anyio.sleep(self.config.dial_timeout)
            raise OperationTimeout("nobody there")
        await anyio.sleep(3 * self.latency(whom))
        self.connected.add(whom)

    async def request(self, whom: PeerId, message: Message) -> Message:
        await anyio.sleep(self.latency(whom))
        target = key_of(message.key)
        chance = Random(whom.to_bytes())  # what it happens to know, for it is always the same
        known = chance.sample(list(self.peers), 20)
        if self.key_of(whom) ^ target < 1 << 250:  # its own corner it knows well, and half of those who died there
            near = nsmallest(2 * self.config.lookup.k, self.peers, key=target.__xor__)
            known += [each for each in near if self.peers[each] not in self.dead or chance.random() < 0.5]
        told = nsmallest(self.config.lookup.k, known, key=target.__xor__)
        return Message(
            type=MessageType.FIND_NODE,
            closer_peers=tuple(KadPeer(PeerInfo(self.peers[each], WHERE)) for each in dict.fromkeys(told)),
        )

    async def tell(self, whom: PeerId, messages: Iterable[Message]) -> None:
        # Written is written; but a slow peer's window may be full.
        await anyio.sleep(self.latency(whom) if whom in self.slow else 0.0)
        self.told.append(whom)


@asynccontextmanager
async def slow_network(
    optimistic: OptimisticConfig | None,
    *,
    estimate: bool = True,
    size: int = 1000,
    slow: float = 0.1,
    dead: float = 0.1,
) -> AsyncIterator[tuple[SlowNetwork, Providers]]:
    """The network, and the providers of our node, which has looked around if `estimate`."""
    network = SlowNetwork(DhtConfig(providers=ProviderConfig(optimistic=optimistic)), size=size, slow=0.1, dead=dead)
    node = cast(Any, network)

    async def gather() -> None:
        pass

    async with OwnTasks() as tasks, MemoryDatastore() as datastore:
        lookups = Lookups(node, gather, Random(1), itertools.count(1))
        if estimate:
            for number in range(12):
                await lookups.nearest(b"look around %d" % number)
            network.connected.clear()
        yield network, Providers(node, lookups, datastore, rng=Random(1), wall_clock=anyio.current_time, tasks=tasks)

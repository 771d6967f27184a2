"""A crowd of DHT nodes on light hosts: how they are made, how they join, and what an all-knowing judge knows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import cast

import anyio

from py_p2pstack import Dht, DhtConfig
from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.peerstore import RECENTLY_CONNECTED_TTL
from py_p2pstack.errors import P2PError
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import key_of
from py_p2pstack.protocols.dht.local_node import DhtHost
from py_p2pstack.testing.light_host import LightHost
from py_p2pstack.testing.light_simulation import LightSimulation
from py_p2pstack.testing.simulation import Factory, NodeSpec
from tests.simulation.liars import Liar

K = 20
CONFIG = DhtConfig(mode="server")
BOOTSTRAPPERS = 2  # members that a newcomer is told of


@dataclass(slots=True)
class Node:
    """A member: its host, and its DHT unless it lies."""

    name: str
    host: LightHost
    key: int
    dht: Dht | None
    joined: anyio.Event = field(default_factory=anyio.Event)
    """Set once it has bootstrapped."""

    @property
    def service(self) -> Dht:
        """The DHT of an honest node."""
        assert self.dht is not None, f"{self.name} lies"
        return self.dht


Crowd = LightSimulation[Node]


def members(
    config: DhtConfig | None = None, *, liars: Callable[[NodeSpec], Liar | None] | None = None
) -> Callable[[Crowd], Factory[Node]]:
    """A factory of nodes; `liars` says who lies, and how."""

    def factory(crowd: Crowd) -> Factory[Node]:
        def make(spec: NodeSpec) -> AbstractAsyncContextManager[Node]:
            return _member(crowd, spec, config or CONFIG, None if liars is None else liars(spec))

        return make

    return factory


@asynccontextmanager
async def _member(crowd: Crowd, spec: NodeSpec, config: DhtConfig, liar: Liar | None) -> AsyncIterator[Node]:
    async with crowd.light_host(spec) as host:
        key = key_of(host.id.to_bytes())
        if liar is not None:
            liar.join(host)
            host.set_stream_handler(config.protocol, liar.serve)
            yield Node(spec.name, host, key, None)
            return
        async with Dht(cast("DhtHost", host), config, rng=spec.rng, wall_clock=spec.wall_clock) as dht:
            yield Node(spec.name, host, key, dht)


# --- how they meet --------------------------------------------------------------------------------


def settle(nodes: Iterable[Node]) -> None:
    """Fill every table as it is in a settled network: of each prefix length as many as a bucket holds, at random.

    So a scenario need not begin with the minutes of computing that a thousand bootstraps take; that these lead here is
    what the scenario of a quiet network shows. Nobody is connected to anybody yet.
    """
    everybody = sorted(nodes, key=lambda node: node.key)
    keys = [node.key for node in everybody]
    for node in everybody:
        if node.dht is None:
            continue
        rng = Random(node.key)
        low, high = 0, len(everybody)
        for cpl in range(256):
            # Within low..high all share `cpl` bits with the node; one half of them shares no more.
            bit = 1 << 255 - cpl
            middle = bisect_left(keys, (node.key | bit) >> 255 - cpl << 255 - cpl, low, high)
            nearer, farther = ((middle, high), (low, middle)) if node.key & bit else ((low, middle), (middle, high))
            for index in rng.sample(range(*farther), min(K, farther[1] - farther[0])):
                _introduce(node, everybody[index])
            low, high = nearer
            if high - low <= 1:
                break


def _introduce(node: Node, other: Node) -> None:
    host = node.host
    host.peerstore.add_addresses(other.host.id, other.host.addrs, RECENTLY_CONNECTED_TTL)
    host.peerstore.set_protocols(other.host.id, other.host.handlers)
    node.service.routing_table.add(other.host.id, anyio.current_time())


async def enter(crowd: Crowd, node: Node, bootstrappers: Iterable[PeerInfo]) -> None:
    """Join as a user's node does: connect to members it was told of, and bootstrap."""
    for info in bootstrappers:
        try:
            await node.host.connect(info)
        except P2PError as fault:
            crowd.log(node.name, f"cannot reach a bootstrapper: {type(fault).__name__}")
    size = await node.service.bootstrap()
    crowd.log(node.name, f"bootstrapped: {size}")
    node.joined.set()


def honest(crowd: Crowd) -> list[Node]:
    """Those who do not lie."""
    return [node for node in crowd.nodes.values() if node.dht is not None]


# --- what the judge knows -------------------------------------------------------------------------


def closest(nodes: Iterable[Node], key: bytes, *, seen_by: Node, count: int = K) -> list[PeerId]:
    """Who truly is nearest to a key, but for whoever asks."""
    target = key_of(key)
    others = (node for node in nodes if node is not seen_by)
    ranked = sorted(others, key=lambda node: node.key ^ target)
    return [node.host.id for node in ranked[:count]]

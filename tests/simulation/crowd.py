"""A crowd of DHT nodes on light hosts: how they are made, how they join, and what an all-knowing judge knows."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from random import Random

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack import Dht, DhtConfig
from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.peerstore import RECENTLY_CONNECTED_TTL
from py_p2pstack.errors import P2PError
from py_p2pstack.identity import PeerId, PrivateKey
from py_p2pstack.kademlia import key_of
from py_p2pstack.testing.light_host import LightHost
from py_p2pstack.testing.light_simulation import LightSimulation
from py_p2pstack.testing.simulation import NodeSpec
from tests.simulation.liars import Liar

K = 20
CONFIG = DhtConfig(mode="server")
BOOTSTRAPPERS = 3  # members that a newcomer is told of


@dataclass(slots=True)
class Node:
    """A member: its host, and its DHT unless it lies."""

    name: str
    host: LightHost
    key: int
    dht: Dht | None
    joined: anyio.Event = field(default_factory=anyio.Event)
    """Set once it has bootstrapped."""
    _calls: dict[anyio.CancelScope, None] = field(default_factory=dict)
    _gone: bool = False

    @property
    def service(self) -> Dht:
        """The DHT of an honest node."""
        assert self.dht is not None, f"{self.name} lies"
        return self.dht

    @contextmanager
    def call(self) -> Iterator[anyio.CancelScope]:
        """Surrounds what is asked of the node: it is cancelled when the node goes, and at once if it has gone."""
        with anyio.CancelScope() as scope:
            if self._gone:
                scope.cancel()
            self._calls[scope] = None
            try:
                yield scope
            finally:
                del self._calls[scope]

    def hang_up(self) -> None:
        """Cancel all calls."""
        self._gone = True
        for scope in list(self._calls):
            scope.cancel()


Role = Callable[[Random], Liar | None]
"""Says of a node to come whether, and how, it lies."""


class Crowd(LightSimulation[Node]):
    """The simulation; `size` is how many there are to be, `roles` says who of them lies."""

    def __init__(
        self, *, size: int, seed: int, config: DhtConfig = CONFIG, roles: Role | None = None, loss: float = 0.0
    ) -> None:
        super().__init__(self._member, nodes=0, seed=seed, loss=loss)
        self.size = size
        self.commissioned: deque[tuple[PrivateKey, Liar]] = deque()
        """Liars that join next, under identities of their choice."""
        self._config = config
        self._roles = roles

    def honest(self) -> list[Node]:
        """Those who do not lie."""
        return [node for node in self.nodes.values() if node.dht is not None]

    def anybody(self) -> Node:
        """A random honest node that has joined."""
        return self.rng.choice([node for node in self.honest() if node.joined.is_set()])

    @asynccontextmanager
    async def _member(self, spec: NodeSpec) -> AsyncIterator[Node]:
        liar = None
        if self.commissioned:
            identity, liar = self.commissioned.popleft()
            spec = replace(spec, identity=identity)
        elif self._roles is not None:
            liar = self._roles(self.rng)
        async with self.light_host(spec) as host:
            key = key_of(host.id.to_bytes())
            if liar is not None:
                liar.join(host)
                host.set_stream_handler(self._config.protocol, liar.serve)
                yield Node(spec.name, host, key, None)
                return
            dht = Dht(host, self._config, rng=spec.rng, wall_clock=spec.wall_clock)
            async with dht:
                node = Node(spec.name, host, key, dht)
                try:
                    yield node
                finally:
                    node.hang_up()


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
        node.joined.set()
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


async def newcomer(crowd: Crowd, start_soon: Callable[..., object]) -> None:
    """Let a node join as a user's does: it is told of a few members, connects to them, and bootstraps."""
    members = [node for node in crowd.honest() if node.joined.is_set()]
    known = [node.host.peer_info for node in crowd.rng.sample(members, min(BOOTSTRAPPERS, len(members)))]
    (name,) = await crowd.join()
    start_soon(_enter, crowd, crowd.nodes[name], known)


async def _enter(crowd: Crowd, node: Node, known: Iterable[PeerInfo]) -> None:
    with node.call():
        for info in known:
            try:
                await node.host.connect(info)
            except P2PError as fault:
                crowd.log(node.name, f"cannot reach a bootstrapper: {type(fault).__name__}")
        await checkpoint()  # it may be gone by now
        size = await node.service.bootstrap()
        crowd.log(node.name, f"bootstrapped: {size}")
        node.joined.set()


# --- what the judge knows -------------------------------------------------------------------------


def closest(nodes: Iterable[Node], key: bytes, *, seen_by: Node, count: int = K) -> list[PeerId]:
    """Who truly is nearest to a key, but for whoever asks."""
    target = key_of(key)
    others = (node for node in nodes if node is not seen_by)
    ranked = sorted(others, key=lambda node: node.key ^ target)
    return [node.host.id for node in ranked[:count]]

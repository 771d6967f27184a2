"""Whole hosts with a DHT each, over the memory transport, in virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from py_p2pstack import Dht, DhtConfig, Host
from py_p2pstack.core.datastore import Datastore
from py_p2pstack.testing import virtual_time
from py_p2pstack.transports.memory import MemoryNetwork
from py_p2pstack.transports.memory_network import Latency
from tests.hosts import memory_host

QUIET = {"auto_refresh": False}


class Node:
    """A host and its DHT."""

    def __init__(self, host: Host, dht: Dht) -> None:
        self.host = host
        self.dht = dht
        self.id = host.id

    async def meet(self, other: Node) -> None:
        """Connect, and wait until each knows whether the other belongs into its table."""
        await self.host.connect(other.host.peer_info)
        await settle()


class World:
    """A memory network on which nodes are started; `nodes` are those that still run."""

    def __init__(self, network: MemoryNetwork, stack: AsyncExitStack) -> None:
        self.network = network
        self.nodes: list[Node] = []
        self._stack = stack
        self._born = 0

    async def start(self, count: int = 1, datastore: Datastore | None = None, **config: Any) -> list[Node]:
        """Start nodes; they do nothing of their own accord unless `auto_refresh` says so."""
        fresh = []
        for _ in range(count):
            host = await self._stack.enter_async_context(memory_host(self.network, self._born))
            settings = DhtConfig(**{**QUIET, **config})
            rng = random.Random(self._born)
            made = Dht(host, settings, datastore=datastore, rng=rng, wall_clock=wall_clock)
            dht = await self._stack.enter_async_context(made)
            self._born += 1
            fresh.append(Node(host, dht))
        self.nodes += fresh
        return fresh

    async def start_host(self) -> Host:
        """Start a host without a DHT."""
        host = await self._stack.enter_async_context(memory_host(self.network, self._born))
        self._born += 1
        return host

    async def join(self, count: int, **config: Any) -> list[Node]:
        """Start nodes, each bootstrapping from the first of all."""
        fresh = await self.start(count, **config)
        for node in fresh:
            if node is not self.nodes[0]:
                await node.meet(self.nodes[0])
                await node.dht.bootstrap()
        return fresh


def wall_clock() -> float:
    """The time of day, which passes as the virtual time does."""
    return 1.7e9 + anyio.current_time()


@asynccontextmanager
async def world(latency: Latency = 0.01) -> AsyncIterator[World]:
    """A network and, at the end, the end of all its nodes."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(MemoryNetwork(random.Random(1), latency=latency))
        yield World(network, stack)


async def settle() -> None:
    """Give everybody half a (virtual) second."""
    await anyio.sleep(0.5)


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[str], None]:
    """Make an async test one that runs on both backends, in virtual time."""

    def run(backend: str) -> None:
        virtual_time.run(test, backend=backend)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    parametrized: Callable[[str], None] = pytest.mark.parametrize("backend", ["asyncio", "trio"])(run)
    return parametrized

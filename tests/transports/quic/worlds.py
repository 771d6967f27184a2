"""Alice and bob on a simulated network, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from py_p2pstack.core.muxer import MuxedConnection
from py_p2pstack.testing import virtual_time
from py_p2pstack.testing.datagrams import DatagramNetwork
from py_p2pstack.transports.quic import QuicConfig, QuicTransport
from py_p2pstack.transports.quic.listener import QuicListener
from tests.transports.quic.pairs import Gate, identity, listening

LATENCY = 0.025  # seconds one way: a round trip of 50 ms
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@dataclass
class World:
    """A network, and bob listening on it."""

    network: DatagramNetwork
    alice: QuicTransport
    listener: QuicListener
    gate: Gate

    async def dial(self) -> tuple[MuxedConnection, MuxedConnection]:
        """Both ends of a new connection."""
        connection = await self.alice.dial(self.listener.address, None)
        await self.gate.came.wait()
        return connection, self.gate.connections[-1]


@asynccontextmanager
async def world(config: QuicConfig | None = None, **network: Any) -> AsyncGenerator[World]:
    async with anyio.create_task_group() as tasks:
        net = DatagramNetwork(tasks, **network)
        ours, gate = identity(), Gate()
        alice, bob = (QuicTransport(lambda who=who: who, config, net.bind) for who in (ours, identity()))  # type: ignore[misc]
        async with listening(bob, gate) as listener:
            yield World(net, alice, listener, gate)
        tasks.cancel_scope.cancel()


def run(test: Callable[[], Awaitable[None]], backend: str) -> None:
    virtual_time.run(test, backend=backend)

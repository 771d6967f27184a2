"""QUIC transports of alice's and bob's, and connections between them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import MuxedConnection, MuxedStream
from py_p2pstack.identity import KeyType, PrivateKey
from py_p2pstack.security.tls import certificate
from py_p2pstack.transports.quic import QuicConfig, QuicIdentity, QuicTransport
from py_p2pstack.transports.quic.listener import QuicListener

LOOPBACK = "/ip4/127.0.0.1/udp/0/quic-v1"


def identity(key: PrivateKey | None = None) -> QuicIdentity:
    """An identity with an honest certificate."""
    key = key or PrivateKey.generate(KeyType.ED25519)
    ours = certificate.make(key, now=time.time())
    return QuicIdentity(
        peer=key.public_key.peer_id(),
        certificate=ours.der,
        key=ours.key_der,
        verify=lambda chain, *, expected: certificate.verify_chain(chain, now=time.time(), expected=expected),
        reset_key=hashlib.sha256(key.encode()).digest(),
    )


def transport(config: QuicConfig | None = None, key: PrivateKey | None = None) -> QuicTransport:
    """A transport of a peer of its own."""
    return QuicTransport(lambda: identity(key), config)


@dataclass
class Place:
    """A place in a gate's books."""

    given_back: int = 0

    def done(self) -> None:
        """See `Admission`."""
        self.given_back += 1


@dataclass
class Gate:
    """Takes in everybody; hands connections to whoever waits for `arrived`."""

    places: list[Place] = field(default_factory=list)
    connections: list[MuxedConnection] = field(default_factory=list)
    came: anyio.Event = field(default_factory=anyio.Event)
    leave: anyio.Event = field(default_factory=anyio.Event)

    def admit(self, local: Multiaddr, remote: Multiaddr) -> Place:
        """See `InboundGate`."""
        self.places.append(Place())
        return self.places[-1]

    async def serve(self, connection: MuxedConnection, admission: Place) -> None:
        """See `InboundGate`; whoever was given the connection serves it."""
        self.connections.append(connection)
        self.came.set()
        await self.leave.wait()
        admission.done()


@asynccontextmanager
async def listening(server: QuicTransport, gate: Gate, address: str = LOOPBACK) -> AsyncGenerator[QuicListener]:
    """A listener at work."""
    listener = await server.listen(Multiaddr.parse(address))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, gate)
        try:
            yield listener
        finally:
            gate.leave.set()
            listener.close()


@asynccontextmanager
async def connected(
    config: QuicConfig | None = None,
) -> AsyncGenerator[tuple[MuxedConnection, MuxedConnection]]:
    """Two ends of a connection that nobody serves yet: alice, who dialled, and bob."""
    gate = Gate()
    async with listening(transport(config), gate) as listener:
        alice = await transport(config).dial(listener.address, None)
        await gate.came.wait()
        yield alice, gate.connections[0]


def into(arrived: list[MuxedStream]) -> Callable[[MuxedStream], bool]:
    """Takes every stream, and notes it."""

    def take(stream: MuxedStream) -> bool:
        arrived.append(stream)
        return True

    return take


def served_by(
    tasks: TaskGroup, handler: Callable[[MuxedStream], Coroutine[Any, Any, None]]
) -> Callable[[MuxedStream], bool]:
    """Takes every stream, and serves it in a task of its own."""

    def take(stream: MuxedStream) -> bool:
        tasks.start_soon(handler, stream)
        return True

    return take

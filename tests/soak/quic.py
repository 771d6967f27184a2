"""Datagrams of a liar, at an endpoint that others use: random, bent, cut, repeated, of other versions, under any name.

The endpoint runs as it does on a socket, over a simulated network in virtual time. Mallory hears everything that is
said, and may claim any sender's address. Whatever comes, honest connections go on and new ones can be made.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import MuxedConnection, MuxedStream
from py_p2pstack.testing import virtual_time
from py_p2pstack.testing.datagrams import DatagramNetwork
from py_p2pstack.transports.quic import QuicConfig, QuicTransport
from py_p2pstack.transports.quic.address import SocketAddress, quic_endpoint
from tests.transports.quic.pairs import Gate, identity

_HEARD = 400  # datagrams remembered
_BURST = 100  # sent between two steps of the clock
_NAMES = 64
LOOPBACK = "/ip4/127.0.0.1/udp/0/quic-v1"


@dataclass
class Outcome:
    """What was sent, and what came of it."""

    sent: Counter[str] = field(default_factory=Counter)
    echoes: int = 0
    """Words that honest peers got back meanwhile."""
    dials: int = 0
    """Connections made meanwhile."""
    arrived: int = 0
    """Handshakes begun, honest or not."""


def run(count: int, seed: int, backend: str = "asyncio") -> Outcome:
    """Send `count` datagrams. Raises whatever the endpoint let out, and AssertionError for honest peers unserved."""
    return virtual_time.run(_run, count, seed, backend=backend)


async def _run(count: int, seed: int) -> Outcome:
    rng = random.Random(seed)
    outcome = Outcome()
    heard: list[tuple[bytes, SocketAddress]] = []
    async with anyio.create_task_group() as tasks:
        network = DatagramNetwork(tasks, latency=0.001, seed=seed, capacity=10_000)

        def remember(data: bytes, to: SocketAddress) -> None:
            if len(heard) < _HEARD:
                heard.append((data, to))
            else:
                heard[rng.randrange(_HEARD)] = data, to

        network.tap = remember
        ours, theirs = identity(), identity()
        config = QuicConfig(handshake_timeout=0.1)  # who is half made is soon given up: there is room again
        bob = QuicTransport(lambda: theirs, config, network.bind)
        gate = Gate()
        listener = await bob.listen(Multiaddr.parse(LOOPBACK))
        tasks.start_soon(listener.serve, gate)
        alice = QuicTransport(lambda: ours, config, network.bind)

        async def dial() -> MuxedConnection:
            before = len(gate.connections)
            connection = await alice.dial(listener.address, theirs.peer)
            while len(gate.connections) == before:
                await anyio.sleep(0.001)
            tasks.start_soon(connection.serve, lambda stream: False)
            tasks.start_soon(gate.connections[before].serve, serve)
            return connection

        def serve(stream: MuxedStream) -> bool:
            tasks.start_soon(_echo, stream)
            return True

        connection = await dial()
        end = quic_endpoint(listener.address)
        assert end is not None
        targets = [end.sockaddr(), *(name for _, name in heard)]
        number = 0
        while number < count:
            network.tap = None
            for _ in range(_BURST):
                kind, data, to = _lie(rng, heard, targets)
                sender = rng.choice(targets) if rng.random() < 0.5 else ("127.0.0.1", 1 + rng.randrange(_NAMES))
                network.send(data, sender, to)
                outcome.sent[kind] += 1
            number += _BURST
            network.tap = remember
            await anyio.sleep(0.005)
            if number % 1000 == 0:
                network.carried.clear()
                await _ask(connection, number)
                outcome.echoes += 1
            if number % 5000 == 0:
                connection.close()
                await anyio.sleep(0.2)
                connection = await dial()
                outcome.dials += 1
        outcome.arrived = listener.accepted
        connection.close()
        tasks.cancel_scope.cancel()
    return outcome


async def _ask(connection: MuxedConnection, number: int) -> None:
    word = b"%d" % number
    with anyio.fail_after(20):
        stream = await connection.open_stream()
        await stream.send(word)
        await stream.send_eof()
        answer = bytearray()
        try:
            while True:
                answer += await stream.receive()
        except anyio.EndOfStream:
            pass
    assert answer == word


async def _echo(stream: MuxedStream) -> None:
    try:
        while True:
            await stream.send(await stream.receive())
    except anyio.EndOfStream:
        await stream.send_eof()


def _lie(
    rng: random.Random, heard: list[tuple[bytes, SocketAddress]], targets: list[SocketAddress]
) -> tuple[str, bytes, SocketAddress]:
    """A datagram, what kind of lie it is, and whom it is told."""
    data, to = rng.choice(heard)
    kind = rng.choice(("random", "bent", "cut", "again", "version", "short", "joined", "initial", "long"))
    if kind == "random":
        return kind, rng.randbytes(rng.choice((0, 1, 7, 20, 100, 1200, 1500))), rng.choice(targets)
    bent = bytearray(data)
    if kind == "bent":
        for _ in range(rng.randrange(1, 5)):
            bent[rng.randrange(len(bent))] = rng.randrange(256)
    elif kind == "cut":
        del bent[rng.randrange(len(bent)) :]
    elif kind == "version" and len(bent) > 5:
        bent[0] |= 0x80
        bent[1:5] = rng.choice((bytes(4), b"\x6b\x33\x43\xcf", b"\xff\x00\x00\x1d", rng.randbytes(4)))
    elif kind == "short":
        bent[0] = 0x40 | rng.randrange(64)
        bent[9:] = rng.randbytes(rng.randrange(60))
    elif kind == "joined":
        bent += rng.choice(heard)[0]
    elif kind == "initial":
        return kind, _initial(rng), targets[0]
    elif kind == "long":
        bent[0] = 0xC0 | rng.randrange(64)
    return kind, bytes(bent[:65000]), to


def _initial(rng: random.Random) -> bytes:
    """A first packet with a good head and garbage behind it."""
    destination, source = rng.randbytes(rng.choice((8, 8, 18, 20, 21, 0))), rng.randbytes(rng.choice((0, 4, 8, 20)))
    token = rng.randbytes(rng.choice((0, 0, 41, 60)))
    head = b"\xc0\x00\x00\x00\x01" + bytes((len(destination),)) + destination + bytes((len(source),)) + source
    head += bytes((len(token),)) + token
    rest = max(1200 - len(head) - 2, 4)
    return head + (0x4000 | rest).to_bytes(2, "big") + rng.randbytes(rest)

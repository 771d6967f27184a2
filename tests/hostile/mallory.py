"""Mallory: a peer that holds its end of a pipe in its own hands and sends whatever it likes.

Her set-up is honest as far as a test wants it to be: `connect` ends in a raw pipe, `secure` in noise records, and from
there she writes yamux frames by hand.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import pytest

from py_p2pstack import Host, PrivateKey
from py_p2pstack.core.security import Secured
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.errors import ConnectionClosed
from py_p2pstack.security.noise import NoiseTransport
from py_p2pstack.testing import virtual_time
from py_p2pstack.testing.contracts.security_case import open_records
from py_p2pstack.transports.memory import MemoryNetwork, MemoryTransport
from py_p2pstack.transports.tcp import TcpTransport
from py_p2pstack.upgrade.multistream import lazy_proposal
from py_p2pstack.upgrade.negotiate import RawPipe, secure
from tests.hosts import exchange, key, memory_host

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
YAMUX = "/yamux/1.0.0"

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


class Frame(NamedTuple):
    """A yamux frame as it came."""

    kind: int
    flags: int
    stream: int
    length: int
    body: bytes = b""


def frame(kind: int, flags: int, stream: int, length: int, body: bytes = b"", *, version: int = 0) -> bytes:
    """A yamux frame, sensible or not."""
    return struct.pack(">BBHII", version, kind, flags, stream, length) + body


def data(stream: int, body: bytes, flags: int = 0) -> bytes:
    """A data frame that tells the truth about its length."""
    return frame(DATA, flags, stream, len(body), body)


def opening(stream: int, protocol: str, body: bytes = b"") -> bytes:
    """Open a stream for a protocol, with bytes for its handler behind."""
    return data(stream, lazy_proposal(protocol) + body, SYN)


class Mallory:
    """The secured end of a connection, yamux by hand."""

    def __init__(self, raw: RawConnection, secured: Secured) -> None:
        self.raw = raw
        self.peer = secured.remote_peer
        self.records = secured.records
        self._pipe = RawPipe(raw)
        self._sealed = bytearray(secured.unread)
        self._plain = bytearray()

    def seal(self, plaintext: bytes) -> bytes:
        """Records that hold `plaintext`."""
        out = bytearray()
        step = self.records.max_plaintext
        for start in range(0, max(len(plaintext), 1), step):
            piece = plaintext[start : start + step]
            room = memoryview(bytearray(len(piece) + self.records.overhead))
            out += room[: self.records.seal_into(piece, room)]
        return bytes(out)

    async def send(self, plaintext: bytes) -> None:
        """Send it sealed. Raises OSError once the other end has hung up."""
        await self._pipe.send(self.seal(plaintext))

    async def send_raw(self, sealed: bytes) -> None:
        """Send bytes as they are, behind the channel's back."""
        await self._pipe.send(sealed)

    async def receive(self) -> Frame:
        """The next frame. Raises ConnectionClosed at the end."""
        while True:
            if len(self._plain) >= 12:
                _, kind, flags, stream, length = struct.unpack_from(">BBHII", self._plain)
                end = 12 + (length if kind == DATA else 0)
                if len(self._plain) >= end:
                    body = bytes(self._plain[12:end])
                    del self._plain[:end]
                    return Frame(kind, flags, stream, length, body)
            while True:
                plaintexts, used = open_records(self.records, self._sealed)
                del self._sealed[:used]
                if plaintexts:
                    break
                self._sealed += await self._pipe.receive()
            for plaintext in plaintexts:
                self._plain += plaintext

    async def frames(self) -> AsyncGenerator[Frame]:
        """Every frame until the other end hangs up."""
        try:
            while True:
                yield await self.receive()
        except (ConnectionClosed, OSError):
            return

    async def until(self, wanted: Callable[[Frame], bool]) -> Frame:
        """The next frame of a kind; frames before it are dropped. Raises ConnectionClosed, OSError."""
        while not wanted(found := await self.receive()):
            pass
        return found

    async def goodbye(self) -> int:
        """Read until the other end hangs up; returns the code of its go-away (-1: it said none)."""
        code = -1
        async for each in self.frames():
            if each.kind == GO_AWAY:
                code = each.length
        return code

    async def until_hung_up(self) -> None:
        """Wait, without reading a frame, until the other end has closed."""
        try:
            while True:
                await self._pipe.receive()
        except (ConnectionClosed, OSError):
            return

    def close(self) -> None:
        """Hang up."""
        self.raw.close()


class World:
    """One honest listener, `alice`, on a memory network or on TCP, and everything mallory needs to reach her."""

    def __init__(self, alice: Host, network: MemoryNetwork | None) -> None:
        self.alice = alice
        self.network = network

    def honest(self, number: int) -> Host:
        """Another honest host, to be entered."""
        if self.network is not None:
            return memory_host(self.network, number, listen=[])
        return Host(identity=key(number))

    async def connect(self) -> RawConnection:
        """A raw pipe to alice."""
        address = self.alice.network.listen_addresses()[0]
        if self.network is None:
            return await TcpTransport().dial(address)
        return await MemoryTransport(self.network, "mallory").dial(address)

    async def mallory(self, number: int = 66, *, muxers: Sequence[str] = (YAMUX,)) -> Mallory:
        """A secured connection to alice."""
        return await secured_with(await self.connect(), key(number), muxers=muxers)

    def held(self) -> tuple[int, int, int]:
        """What alice has in her books: inbound connections, inbound streams, running handlers."""
        system = self.alice.network.resources.stats().system
        return system.connections_inbound, system.streams_inbound, self.alice.network._workers.running


async def secured_with(raw: RawConnection, identity: PrivateKey, *, muxers: Sequence[str] = (YAMUX,)) -> Mallory:
    """Run an honest noise handshake as the dialer; hangs up if it fails."""
    noise = NoiseTransport(identity)
    try:
        pipe = RawPipe(raw)
        _, secured = await secure(pipe, {noise.protocol: noise}, initiator=True, peer=None, muxers=muxers)
        await pipe.send(b"")
    except BaseException:
        raw.close()
        raise
    return Mallory(raw, secured)


@asynccontextmanager
async def memory_world(*, capacity: int = 128 * 1024, **options: Any) -> AsyncGenerator[World]:
    """Alice on a memory network; `options` are her host's."""
    async with MemoryNetwork(capacity=capacity) as network, memory_host(network, 0, **options) as alice:
        yield World(alice, network)


@asynccontextmanager
async def tcp_world(**options: Any) -> AsyncGenerator[World]:
    """Alice on loopback TCP."""
    async with Host(identity=key(0), listen=["/ip4/127.0.0.1/tcp/0"], **options) as alice:
        yield World(alice, None)


async def until(condition: Callable[[], bool], *, within: float = 20.0) -> None:
    """Wait for a condition, looking every few milliseconds. Raises TimeoutError."""
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.002)


async def settle() -> None:
    """Let everybody do what can be done now, in virtual time (where trio never finds all tasks blocked)."""
    await anyio.sleep(0.001)


async def unharmed(world: World) -> None:
    """Mallory's connection is out of the books, and somebody honest is served."""
    alice = world.alice
    await settle()
    assert world.held() == (0, 0, 0)
    async with world.honest(1) as bob:
        await bob.connect(alice.peer_info)
        assert await exchange(bob, alice) == b"hello"


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs an async function in virtual time, on each backend."""
    return lambda function: virtual_time.run(function, backend=request.param)

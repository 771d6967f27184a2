"""A multiplexed connection to try, and what the claims about it are made with.

Whatever ends in a `core.muxer.MuxedConnection` is tried: yamux and mplex over any pipe and security, QUIC by itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from py_p2pstack.core.muxer import MuxedConnection, MuxedStream
from py_p2pstack.errors import P2PError

PATIENCE = 20.0  # seconds: a claim that takes longer has failed
MIB = 1 << 20
ENDS = (P2PError, anyio.EndOfStream)


@dataclass(frozen=True, slots=True, kw_only=True)
class MuxerCase:
    """A muxer to try."""

    connect: Callable[[], AbstractAsyncContextManager[tuple[MuxedConnection, MuxedConnection]]]
    """Makes two ends of a connection that nobody serves yet: the dialler's first."""
    bulk: int = 64 * MIB
    """Bytes of a long transfer; less over a pipe made slow on purpose."""
    streams: int = 1000
    """Streams open at once."""
    budget: int = MIB
    """Bytes that may be under way to an application that does not read."""
    windows: bool = True
    """Whether a stream nobody reads leaves the others alone."""


@dataclass
class Ends:
    """Alice, who dialled, and bob, both served."""

    alice: MuxedConnection
    bob: MuxedConnection
    tasks: TaskGroup
    arrived: list[MuxedStream] = field(default_factory=list)
    """The streams bob was given."""
    ended: list[str] = field(default_factory=list)
    """Whose `serve` has returned."""

    async def stream(self, first: bytes = b"hello") -> tuple[MuxedStream, MuxedStream]:
        """A stream of alice's, `first` sent and read: both ends."""
        count = len(self.arrived)
        mine = await self.alice.open_stream()
        await mine.send(first)
        while len(self.arrived) == count:
            await anyio.lowlevel.checkpoint()
        theirs = self.arrived[count]
        assert await read_exactly(theirs, len(first)) == first
        return mine, theirs


@asynccontextmanager
async def served(case: MuxerCase, *, accept: bool = True) -> AsyncGenerator[Ends]:
    """Two ends at work. Behind the block both have ended, and told so."""
    with anyio.fail_after(PATIENCE):
        async with case.connect() as (alice, bob), anyio.create_task_group() as tasks:
            ends = Ends(alice, bob, tasks)

            def take(stream: MuxedStream) -> bool:
                ends.arrived.append(stream)
                return accept

            async def serve(name: str, connection: MuxedConnection) -> None:
                await connection.serve(take)
                ends.ended.append(name)

            tasks.start_soon(serve, "alice", alice)
            tasks.start_soon(serve, "bob", bob)
            yield ends
            alice.close()
            bob.close()
    assert sorted(ends.ended) == ["alice", "bob"]
    for connection in (alice, bob):
        assert connection.closed
        assert connection.close_reason is not None


async def read_exactly(stream: MuxedStream, count: int) -> bytes:
    """Exactly `count` bytes."""
    data = bytearray()
    while len(data) < count:
        data += await stream.receive(count - len(data))
    return bytes(data)


async def read_all(stream: MuxedStream) -> bytes:
    """Everything up to the end."""
    data = bytearray()
    try:
        while True:
            data += await stream.receive()
    except anyio.EndOfStream:
        return bytes(data)


async def echo(stream: MuxedStream) -> None:
    """Send back what comes, to the end."""
    try:
        while True:
            await stream.send(await stream.receive())
    except anyio.EndOfStream:
        await stream.send_eof()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that has no event."""
    while not condition():  # noqa: ASYNC110 - see above
        await anyio.sleep(0.001)


async def fault_of(awaitable: Awaitable[object]) -> Exception | None:
    """The typed error, or the end of input, that something ended with."""
    try:
        await awaitable
    except ENDS as fault:
        return fault
    return None


async def still(count: Callable[[], int]) -> int:
    """Wait until a number has not changed for a while."""
    before, same = count(), 0
    while same < 10:
        await anyio.sleep(0.01)
        same = same + 1 if count() == before else 0
        before = count()
    return before

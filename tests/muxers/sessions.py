"""Two sessions over a pipe in memory, with records that only frame, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from py_p2pstack.core.muxer import ConnectionInfo, MuxedStream
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import Buffer, Direction
from py_p2pstack.errors import DecryptError
from py_p2pstack.identity import PrivateKey
from py_p2pstack.muxers.session import Session, yamux_factory
from py_p2pstack.muxers.stream import SessionStream
from py_p2pstack.muxers.yamux import YamuxConfig
from py_p2pstack.testing.contracts.muxer_case import read_all as read_all
from py_p2pstack.testing.contracts.muxer_case import read_exactly as read_exactly
from py_p2pstack.testing.pairs import raw_pair
from py_p2pstack.transports.memory_pipe import MemoryConnection

_KEY = PrivateKey.from_seed(b"\x01" * 32).public_key
_PEER = _KEY.peer_id()


class FramedRecords:
    """Records that carry their plaintext as it is; one that begins with 0xff does not authenticate."""

    max_plaintext = 65519
    overhead = 3

    def seal_into(self, plaintext: Buffer, out: memoryview) -> int:
        """See `core.security.RecordLayer`."""
        size = len(plaintext)
        assert size <= self.max_plaintext
        out[:3] = b"\x00" + size.to_bytes(2, "big")
        out[3 : 3 + size] = plaintext
        return 3 + size

    def open_record(self, data: memoryview, start: int) -> tuple[Buffer, int]:
        """See `core.security.RecordLayer`."""
        if len(data) - start < 3:
            return b"", start
        if data[start] == 0xFF:
            raise DecryptError("a forged record")
        end = start + 3 + int.from_bytes(data[start + 1 : start + 3], "big")
        return (data[start + 3 : end], end) if end <= len(data) else (b"", start)


def record(plaintext: bytes) -> bytes:
    """One sealed record."""
    return b"\x00" + len(plaintext).to_bytes(2, "big") + plaintext


class Spy:
    """A pipe that counts the calls which send, and can be made to break for writing."""

    def __init__(self, raw: MemoryConnection) -> None:
        self._raw = raw
        self.sends: list[int] = []
        self.broken = False
        self.closed = False
        self.local_address = raw.local_address
        self.remote_address = raw.remote_address

    def receive_nowait(self, buffer: memoryview) -> int | None:
        """Read."""
        return self._raw.receive_nowait(buffer)

    def send_nowait(self, data: Buffer) -> int:
        """Write, and count."""
        if self.broken:
            raise BrokenPipeError
        sent = self._raw.send_nowait(data)
        self.sends.append(sent)
        return sent

    async def wait_readable(self) -> None:
        """Wait."""
        await self._raw.wait_readable()

    async def wait_writable(self) -> None:
        """Wait."""
        await self._raw.wait_writable()

    def close(self) -> None:
        """Close, and remember it."""
        self.closed = True
        self._raw.close()


def session(
    raw: RawConnection,
    direction: Direction,
    config: YamuxConfig | None = None,
    *,
    unread: bytes = b"",
    early: bytes = b"",
    unsent: bytes = b"",
) -> Session:
    """A yamux session over `raw`."""
    info = ConnectionInfo(
        direction=direction,
        local_peer=_PEER,
        remote_peer=_PEER,
        remote_public_key=_KEY,
        local_address=raw.local_address,
        remote_address=raw.remote_address,
        transport="memory",
        security="/test",
        muxer="/yamux/1.0.0",
    )
    make = yamux_factory(config or YamuxConfig())
    return make(raw=raw, records=FramedRecords(), unread=unread, early_plaintext=early, unsent=unsent, info=info)


@dataclass
class Pair:
    """Alice, who dialled, and bob, both served; bob's inbound streams."""

    alice: Session
    bob: Session
    alice_raw: Spy
    bob_raw: Spy
    tasks: TaskGroup
    arrived: list[SessionStream] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def stream(self, first: bytes = b"hello") -> tuple[SessionStream, SessionStream]:
        """A stream of alice's that bob has seen, `first` read: both ends."""
        mine = await self.alice.open_stream()
        await mine.send(first)
        while not self.arrived or self.arrived[-1].id != mine.id:
            await anyio.lowlevel.checkpoint()
        theirs = self.arrived[-1]
        assert await read_exactly(theirs, len(first)) == first
        return mine, theirs


@asynccontextmanager
async def connected(
    config: YamuxConfig | None = None,
    *,
    handler: Callable[[MuxedStream], bool] | None = None,
    capacity: int = 128 * 1024,
    max_read: int | None = None,
) -> AsyncIterator[Pair]:
    """Two sessions at work; both have ended, with nothing left, behind the block."""
    one, other = raw_pair(capacity=capacity, max_read=max_read)
    alice_raw, bob_raw = Spy(one), Spy(other)
    alice = session(alice_raw, Direction.OUTBOUND, config)
    bob = session(bob_raw, Direction.INBOUND, config)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            pair = Pair(alice, bob, alice_raw, bob_raw, tasks)

            def accept(stream: MuxedStream) -> bool:
                assert isinstance(stream, SessionStream)
                pair.arrived.append(stream)
                return True

            async def serve(name: str, each: Session) -> None:
                await each.serve(handler or accept)
                pair.ended.append(name)

            tasks.start_soon(serve, "alice", alice)
            tasks.start_soon(serve, "bob", bob)
            await quiet()
            yield pair
            alice.close()
    assert sorted(pair.ended) == ["alice", "bob"]
    for each, raw in ((alice, alice_raw), (bob, bob_raw)):
        assert each.closed
        assert each.close_reason is not None
        assert not each.machine.streams
        assert not each.machine.has_output
        assert raw.closed


async def quiet() -> None:
    """Let everything that can run do so."""
    await anyio.wait_all_tasks_blocked()

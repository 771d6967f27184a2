"""How streams and connections must end: resets, closes, cancellation, in the midst of anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

from py_p2pstack.core.muxer import MuxedStream
from py_p2pstack.errors import ConnectionClosed, StreamReset
from py_p2pstack.testing.contracts.muxer_case import (
    ENDS,
    MIB,
    PATIENCE,
    MuxerCase,
    fault_of,
    read_all,
    read_exactly,
    served,
    until,
)

# --- resets and closes ------------------------------------------------------------------------------


async def a_reset_ends_both_directions_on_both_sides(case: MuxerCase) -> None:
    """Whoever waits wakes; who did it is told."""
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        faults: list[Exception | None] = []

        async def wait() -> None:
            faults.append(await fault_of(theirs.receive()))

        ends.tasks.start_soon(wait)
        await anyio.sleep(0.01)
        mine.reset(7)
        mine.reset(8)
        await until(lambda: bool(faults))
        [fault] = faults
        assert isinstance(fault, StreamReset)
        assert fault.remote
        assert isinstance(await fault_of(theirs.send(b"x")), StreamReset)
        for attempt in (mine.receive(), mine.send(b"x")):
            fault = await fault_of(attempt)
            assert isinstance(fault, StreamReset)
            assert not fault.remote


async def a_reset_wakes_a_waiting_sender(case: MuxerCase) -> None:
    """Whose bytes find no room."""
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        faults: list[Exception | None] = []

        async def send() -> None:
            faults.append(await fault_of(mine.send(bytes(4 * MIB))))

        ends.tasks.start_soon(send)
        await anyio.sleep(0.02)
        theirs.reset()
        await until(lambda: bool(faults))
        assert isinstance(faults[0], StreamReset)


async def a_refused_stream_is_reset(case: MuxerCase) -> None:
    """And the next one too; the connection lives on."""
    async with served(case, accept=False) as ends:
        for _ in range(3):
            mine = await ends.alice.open_stream()
            await mine.send(b"hello")
            assert isinstance(await fault_of(mine.receive()), StreamReset)
        assert not ends.alice.closed


async def a_closed_stream_still_delivers_and_drops_what_comes(case: MuxerCase) -> None:
    """`aclose` does not wait, loses nothing that was sent, and what the peer still sends harms nobody."""
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        await mine.send(b"goodbye")
        await mine.aclose()
        assert await read_all(theirs) == b"goodbye"
        for _ in range(20):
            if await fault_of(theirs.send(bytes(10_000))) is not None:
                break
        await theirs.aclose()
        again, other = await ends.stream()
        await again.send(b"alive")
        assert await read_exactly(other, 5) == b"alive"


# --- ends of connections ----------------------------------------------------------------------------


async def every_waiter_wakes_when_the_connection_ends(case: MuxerCase) -> None:
    """On both sides, with ConnectionClosed; each stream's end is told once; nothing opens any more."""
    async with served(case) as ends:
        faults: list[Exception | None] = []
        told: list[MuxedStream] = []

        async def wait(what: Callable[[], Awaitable[object]]) -> None:
            faults.append(await fault_of(what()))

        for _ in range(2):
            mine, theirs = await ends.stream()
            for stream in (mine, theirs):
                stream.on_end = lambda stream=stream: told.append(stream)
                ends.tasks.start_soon(wait, stream.receive)
        mine, _ = await ends.stream()
        ends.tasks.start_soon(wait, lambda: mine.send(bytes(4 * MIB)))
        await anyio.sleep(0.02)
        ends.alice.close(0x1005)
        await until(lambda: len(faults) == 5 and len(ends.ended) == 2)
        assert all(isinstance(fault, ConnectionClosed) for fault in faults), faults
        assert len(told) == len(set(told)) == 4
        for connection in (ends.alice, ends.bob):
            assert isinstance(await fault_of(connection.open_stream()), ConnectionClosed)


async def what_was_sent_before_a_close_arrives(case: MuxerCase) -> None:
    """To its end, and can be read behind the connection's end."""
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        payload = bytes(100_000)
        await mine.send(payload)
        await mine.send_eof()
        ends.alice.close()
        assert await read_all(theirs) == payload


async def a_close_in_the_midst_of_everything_ends_everything(case: MuxerCase) -> None:
    """Transfers, openings, resets: all end with a typed error, at whatever moment it comes."""
    for moment in range(8):
        await _close_at(moment, case)


async def _close_at(moment: int, case: MuxerCase) -> None:
    async with served(case) as ends:
        working = 0

        async def work(kind: int) -> None:
            nonlocal working
            working += 1
            side = (ends.alice, ends.bob)[kind % 2]
            try:
                while True:
                    stream = await side.open_stream()
                    if kind < 2:
                        await stream.send(bytes(200_000))
                        await stream.aclose()
                    elif kind < 4:
                        stream.reset(1)
                    else:
                        await stream.send(b"x")
                        await stream.receive()
                    await anyio.lowlevel.checkpoint()
            except ENDS:
                pass
            working -= 1

        async def read() -> None:
            handed = 0
            while len(ends.ended) < 2:
                for stream in ends.arrived[handed:]:
                    ends.tasks.start_soon(fault_of, read_all(stream))
                handed = len(ends.arrived)
                await anyio.sleep(0.001)

        for kind in range(6):
            ends.tasks.start_soon(work, kind)
        ends.tasks.start_soon(read)
        for _ in range(moment * 5):
            await anyio.lowlevel.checkpoint()
        (ends.alice, ends.bob)[moment % 2].close(moment)
        await until(lambda: not working and len(ends.ended) == 2)


async def a_cancelled_serve_ends_the_connection(case: MuxerCase) -> None:
    """On both sides; the streams end too."""
    with anyio.fail_after(PATIENCE):
        async with case.connect() as (alice, bob), anyio.create_task_group() as tasks:
            arrived: list[MuxedStream] = []

            def take(stream: MuxedStream) -> bool:
                arrived.append(stream)
                return True

            tasks.start_soon(bob.serve, take)
            async with anyio.create_task_group() as hers:
                hers.start_soon(alice.serve, take)
                mine = await alice.open_stream()
                await mine.send(b"hello")
                await until(lambda: bool(arrived))
                hers.cancel_scope.cancel()
            assert alice.closed
            assert isinstance(await fault_of(mine.receive()), ConnectionClosed)
            await until(lambda: bob.closed)
            await read_exactly(arrived[0], 5)
            assert isinstance(await fault_of(arrived[0].receive()), ConnectionClosed)


MUXER_ENDS: tuple[Callable[[MuxerCase], Awaitable[None]], ...] = (
    a_reset_ends_both_directions_on_both_sides,
    a_reset_wakes_a_waiting_sender,
    a_refused_stream_is_reset,
    a_closed_stream_still_delivers_and_drops_what_comes,
    every_waiter_wakes_when_the_connection_ends,
    what_was_sent_before_a_close_arrives,
    a_close_in_the_midst_of_everything_ends_everything,
    a_cancelled_serve_ends_the_connection,
)

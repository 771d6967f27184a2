"""What every multiplexed connection must do, as async functions that assert it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256

import anyio
import anyio.lowlevel

from py_p2pstack.core.muxer import MuxedConnection, MuxedStream
from py_p2pstack.errors import StreamClosed, StreamReset
from py_p2pstack.testing.contracts.muxer_case import (
    MIB,
    PATIENCE,
    MuxerCase,
    echo,
    fault_of,
    read_all,
    read_exactly,
    served,
    still,
    until,
)
from py_p2pstack.testing.contracts.muxer_ends import MUXER_ENDS

# --- bytes ------------------------------------------------------------------------------------------


async def both_ends_know_each_other(case: MuxerCase) -> None:
    """What is told of a connection fits together."""
    async with served(case) as ends:
        alice, bob = ends.alice.info, ends.bob.info
        assert (alice.local_peer, alice.remote_peer) == (bob.remote_peer, bob.local_peer)
        assert (alice.security, alice.muxer, alice.transport) == (bob.security, bob.muxer, bob.transport)
        assert alice.direction is not bob.direction


async def a_megabyte_comes_back_and_both_sides_end(case: MuxerCase) -> None:
    """Echo, half-close, and the end of both directions is told."""
    payload = bytes(range(256)) * 4096
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        told: list[str] = []
        mine.on_end = lambda: told.append("mine")
        theirs.on_end = lambda: told.append("theirs")

        async def send() -> None:
            await mine.send(payload)
            await mine.send_eof()

        ends.tasks.start_soon(echo, theirs)
        ends.tasks.start_soon(send)
        assert await read_all(mine) == payload
        await until(lambda: len(told) == 2)
        assert sorted(told) == ["mine", "theirs"]


async def a_long_transfer_arrives_whole(case: MuxerCase) -> None:
    """Tens of mebibytes, in pieces of all sizes."""
    pieces = [sha256(bytes((number,))).digest() * size for number, size in enumerate((1, 40, 2048, 5000))]
    rounds = case.bulk // sum(map(len, pieces))
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        sent, received = sha256(), sha256()

        async def send() -> None:
            for _ in range(rounds):
                for piece in pieces:
                    await mine.send(piece)
                    sent.update(piece)
            await mine.send_eof()

        ends.tasks.start_soon(send)
        try:
            while True:
                received.update(await theirs.receive())
        except anyio.EndOfStream:
            pass
        assert received.digest() == sent.digest()


async def bytes_and_both_ends_go_their_own_ways(case: MuxerCase) -> None:
    """Whoever has ended its side still receives; an end comes behind the last byte, again and again."""
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        await mine.send(b"last")
        await mine.send_eof()
        await mine.send_eof()
        assert await read_all(theirs) == b"last"
        assert isinstance(await fault_of(theirs.receive()), anyio.EndOfStream)
        assert isinstance(await fault_of(mine.send(b"more")), StreamClosed)
        for _ in range(3):
            await theirs.send(b"still here")
            assert await read_exactly(mine, 10) == b"still here"
        await theirs.send_eof()
        assert await read_all(mine) == b""


async def receive_gives_no_more_than_asked_for(case: MuxerCase) -> None:
    """And keeps the rest."""
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        await mine.send(b"abcdef")
        await mine.send_eof()
        pieces: list[bytes] = []
        while len(b"".join(pieces)) < 6:
            pieces.append(await theirs.receive(2))
        assert max(map(len, pieces)) <= 2
        assert b"".join(pieces) == b"abcdef"


async def what_is_sent_soon_keeps_its_place(case: MuxerCase) -> None:
    """`send_soon` and `send` in order."""
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        mine.send_soon(b"one ")
        await mine.send(b"two ")
        mine.send_soon(b"three")
        await mine.send_eof()
        assert await read_all(theirs) == b"one two three"


# --- waiting and cancelling ---------------------------------------------------------------------------


async def a_cancelled_receive_loses_no_byte(case: MuxerCase) -> None:
    """However often."""
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        for number in range(5):
            with anyio.move_on_after(0.002):
                await theirs.receive()
            await mine.send(bytes((number,)))
            assert await read_exactly(theirs, 1) == bytes((number,))


async def a_cancelled_send_goes_out_whole_or_not_at_all(case: MuxerCase) -> None:
    """Never a part of it: the next message is not out of step."""
    item = bytes(range(256)) * 8192
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        with anyio.move_on_after(0.01):
            await mine.send(item)
        if await fault_of(mine.send_eof()) is None:
            try:
                received = await read_all(theirs)
            except StreamReset:
                return
            assert received in (b"", item)


async def a_sender_waits_for_its_reader(case: MuxerCase) -> None:
    """What is under way to an application that does not read is bounded, and flows on when it does."""
    async with served(case) as ends:
        mine, theirs = await ends.stream()
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sent < 3 * case.budget:
                await mine.send(bytes(16384))
                sent += 16384
            await mine.send_eof()

        ends.tasks.start_soon(send)
        assert await still(lambda: sent) <= case.budget
        received = 0
        try:
            while True:
                received += len(await theirs.receive())
        except anyio.EndOfStream:
            pass
        assert received == sent


async def a_stream_nobody_reads_holds_up_no_other(case: MuxerCase) -> None:
    """Unless the muxer has no windows: then the stream is reset in the end, and the others go on."""
    async with served(case) as ends:
        stuck, _ = await ends.stream()

        async def send() -> None:
            await fault_of(stuck.send(bytes(4 * MIB)))

        ends.tasks.start_soon(send)
        await anyio.sleep(0.05)
        mine, theirs = await ends.stream()
        for _ in range(20):
            await mine.send(bytes(20_000))
            await read_exactly(theirs, 20_000)
        if not case.windows:
            assert isinstance(await fault_of(stuck.receive()), StreamReset)
        stuck.reset()


# --- many streams ---------------------------------------------------------------------------------


async def a_thousand_streams_are_open_at_once(case: MuxerCase) -> None:
    """Each with its own bytes; none is left behind."""
    async with served(case) as ends:
        told = 0

        def tell() -> None:
            nonlocal told
            told += 1

        async def answer() -> None:
            handed = 0
            while handed < case.streams:
                while handed < len(ends.arrived):
                    ends.tasks.start_soon(echo, ends.arrived[handed])
                    handed += 1
                await anyio.sleep(0.001)

        ends.tasks.start_soon(answer)
        streams = []
        for number in range(case.streams):
            stream = await ends.alice.open_stream()
            stream.on_end = tell
            await stream.send(b"%05d" % number)
            streams.append(stream)
        for number, stream in enumerate(streams):
            assert await read_exactly(stream, 5) == b"%05d" % number
        for stream in streams:
            await stream.send_eof()
        for stream in streams:
            assert await read_all(stream) == b""
        await until(lambda: told == case.streams)


async def both_sides_open_streams_at_once(case: MuxerCase) -> None:
    """Numbers do not collide."""
    async with case.connect() as (alice, bob), anyio.create_task_group() as tasks:
        served_streams = 0

        def take(stream: MuxedStream) -> bool:
            nonlocal served_streams
            served_streams += 1
            tasks.start_soon(echo, stream)
            return True

        async def ask(connection: MuxedConnection, name: bytes) -> None:
            for number in range(50):
                stream = await connection.open_stream()
                word = b"%s %d" % (name, number)
                await stream.send(word)
                await stream.send_eof()
                assert await read_all(stream) == word

        with anyio.fail_after(PATIENCE):
            tasks.start_soon(alice.serve, take)
            tasks.start_soon(bob.serve, take)
            async with anyio.create_task_group() as asking:
                asking.start_soon(ask, alice, b"alice")
                asking.start_soon(ask, bob, b"bob")
            alice.close()
            bob.close()
    assert served_streams == 100


MUXER: tuple[Callable[[MuxerCase], Awaitable[None]], ...] = (
    both_ends_know_each_other,
    a_megabyte_comes_back_and_both_sides_end,
    a_long_transfer_arrives_whole,
    bytes_and_both_ends_go_their_own_ways,
    receive_gives_no_more_than_asked_for,
    what_is_sent_soon_keeps_its_place,
    a_cancelled_receive_loses_no_byte,
    a_cancelled_send_goes_out_whole_or_not_at_all,
    a_sender_waits_for_its_reader,
    a_stream_nobody_reads_holds_up_no_other,
    a_thousand_streams_are_open_at_once,
    both_sides_open_streams_at_once,
    *MUXER_ENDS,
)

"""Streams of a live session: bytes, waiting, cancelling."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from py_p2pstack.errors import StreamClosed, StreamReset
from py_p2pstack.muxers.stream import SessionStream
from tests.muxers.sessions import connected, quiet, read_all

pytestmark = pytest.mark.anyio


async def test_a_message_is_echoed() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream(b"ping")
        await theirs.send(b"pong")
        assert await mine.receive() == b"pong"


@pytest.mark.parametrize("max_read", [None, 1000])
async def test_a_megabyte_goes_there_and_back_and_both_ends_close(max_read: int | None) -> None:
    payload = bytes(range(256)) * 4096
    async with connected(max_read=max_read) as pair:
        mine, theirs = await pair.stream()

        async def echo() -> None:
            try:
                while True:
                    await theirs.send(await theirs.receive())
            except anyio.EndOfStream:
                await theirs.send_eof()

        async def send() -> None:
            await mine.send(payload)
            await mine.send_eof()

        pair.tasks.start_soon(echo)
        pair.tasks.start_soon(send)
        assert await read_all(mine) == payload
        await quiet()
        assert not pair.alice.machine.streams
        assert not pair.bob.machine.streams


async def test_receive_gives_no_more_than_asked_for() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        await mine.send(b"abcdef")
        assert [await theirs.receive(2) for _ in range(3)] == [b"ab", b"cd", b"ef"]


async def test_receive_does_not_yield_when_bytes_are_there() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        await mine.send(b"ab")
        await quiet()
        ran: list[bool] = []
        pair.tasks.start_soon(checkpoint)
        pair.tasks.start_soon(_note, ran)
        await theirs.receive(1)
        assert ran == []


async def _note(ran: list[bool]) -> None:
    ran.append(True)


# --- waiting and cancelling ---------------------------------------------------------------------------


async def test_a_cancelled_receive_loses_no_byte() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        with anyio.CancelScope() as scope:
            pair.tasks.start_soon(_cancel_when_quiet, scope)
            await theirs.receive()
        assert scope.cancelled_caught
        await mine.send(b"kept")
        assert await theirs.receive() == b"kept"


async def _cancel_when_quiet(scope: anyio.CancelScope) -> None:
    await quiet()
    scope.cancel()


async def test_two_tasks_cannot_receive_on_one_stream() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()

        async def first() -> None:
            assert await theirs.receive() == b"for the first"

        pair.tasks.start_soon(first)
        await quiet()
        with pytest.raises(anyio.BusyResourceError):
            await theirs.receive()
        await mine.send(b"for the first")
        await quiet()


async def test_a_cancelled_send_is_sent_whole() -> None:
    payload = bytes(2 * 1024 * 1024)
    async with connected() as pair:
        mine, theirs = await pair.stream()
        with anyio.CancelScope() as scope:
            pair.tasks.start_soon(_cancel_when_quiet, scope)
            await mine.send(payload)
        assert scope.cancelled_caught
        await mine.send_eof()
        assert await read_all(theirs) == payload


async def test_sends_cancelled_again_and_again_do_not_pile_up() -> None:
    item = bytes(400_000)
    async with connected() as pair:
        mine, theirs = await pair.stream()
        for _ in range(2):
            with anyio.CancelScope() as scope:
                pair.tasks.start_soon(_cancel_when_quiet, scope)
                await mine.send(item)
        with anyio.CancelScope() as scope:
            pair.tasks.start_soon(_cancel_when_quiet, scope)
            await mine.send(item)
        assert mine.queued < 2 * len(item)
        with pytest.raises(StreamReset):
            await mine.send(b"more")
        with pytest.raises(StreamReset):
            await read_all(theirs)


async def test_a_waiting_sender_wakes_when_the_peer_resets() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        caught: list[StreamReset] = []

        async def send() -> None:
            try:
                await mine.send(bytes(2 * 1024 * 1024))
            except StreamReset as fault:
                caught.append(fault)

        pair.tasks.start_soon(send)
        await quiet()
        theirs.reset(0x1003)
        await quiet()
        assert [(fault.code, fault.remote) for fault in caught] == [(0x1003, True)]


async def test_a_waiting_receiver_wakes_on_reset_and_on_close() -> None:
    async with connected() as pair:
        caught: list[Exception] = []

        async def receive(stream: SessionStream) -> None:
            try:
                await stream.receive()
            except (StreamReset, StreamClosed) as fault:
                caught.append(fault)

        _, reset = await pair.stream()
        _, closed = await pair.stream()
        pair.tasks.start_soon(receive, reset)
        pair.tasks.start_soon(receive, closed)
        await quiet()
        reset.reset(5)
        await quiet()
        await closed.aclose()
        await quiet()
        assert [type(fault) for fault in caught] == [StreamReset, StreamClosed]


async def test_every_call_raises_an_exception_of_its_own() -> None:
    async with connected() as pair:
        mine, _ = await pair.stream()
        mine.reset(9)
        faults = []
        for _ in range(2):
            with pytest.raises(StreamReset) as caught:
                await mine.receive()
            faults.append(caught.value)
            with pytest.raises(StreamReset) as caught:
                await mine.send(b"x")
            faults.append(caught.value)
        assert len({id(fault) for fault in faults}) == 4
        assert {(fault.code, fault.remote) for fault in faults} == {(9, False)}


async def test_nothing_is_sent_behind_the_end() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        await mine.send_eof()
        with pytest.raises(StreamClosed):
            await mine.send(b"late")
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()


async def test_bytes_in_flight_when_a_stream_is_closed_are_dropped() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        await mine.aclose()
        await theirs.send(bytes(100_000))
        await theirs.send_eof()
        await quiet()
        assert pair.alice.machine.buffered == 0
        assert not pair.alice.machine.streams
        with pytest.raises(StreamClosed):
            await mine.receive()

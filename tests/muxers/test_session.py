"""Streams of a live session: bytes, waiting, cancelling, and how much is held."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from py_p2pstack.core.types import Direction
from py_p2pstack.errors import ConnectionClosed, ResourceLimitExceeded, StreamClosed, StreamReset
from py_p2pstack.muxers.stream import SessionStream
from py_p2pstack.muxers.yamux import YamuxConfig, YamuxMachine
from py_p2pstack.testing.pairs import raw_pair
from tests.muxers.sessions import Spy, connected, quiet, read_all, read_exactly, record, session
from tests.muxers.yamux.wire import DATA, SYN, WINDOW, frame

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


# --- opening ------------------------------------------------------------------------------------------


async def test_a_refused_stream_is_reset_with_the_reason() -> None:
    async with connected(handler=lambda _: False) as pair:
        stream = await pair.alice.open_stream()
        await stream.send(b"let me in")
        with pytest.raises(StreamReset) as caught:
            await stream.receive()
        assert (caught.value.code, caught.value.remote) == (0x1002, True)


async def test_opening_waits_for_acknowledgements_in_order() -> None:
    one, other = raw_pair()
    alice = session(one, Direction.OUTBOUND, YamuxConfig(max_unacknowledged=1))
    order: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, lambda _: True)
        await alice.open_stream()

        async def open_next(index: int) -> None:
            await alice.open_stream()
            order.append(index)

        for index in range(3):
            tasks.start_soon(open_next, index)
            await quiet()
        assert order == []
        for stream_id in (1, 3, 5):
            other.send_nowait(record(frame(WINDOW, 2, stream_id, 0)))
            await quiet()
        assert order == [0, 1, 2]
        alice.close()


async def test_an_opener_that_gives_up_leaves_its_turn_to_the_next() -> None:
    one, other = raw_pair()
    alice = session(one, Direction.OUTBOUND, YamuxConfig(max_unacknowledged=1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, lambda _: True)
        await alice.open_stream()
        opened: list[str] = []

        async def open_next(name: str, scope: anyio.CancelScope) -> None:
            with scope:
                await alice.open_stream()
                opened.append(name)

        scopes = [anyio.CancelScope(), anyio.CancelScope()]
        for name, scope in zip("ab", scopes, strict=True):
            tasks.start_soon(open_next, name, scope)
            await quiet()
        scopes[0].cancel()
        await quiet()
        other.send_nowait(record(frame(WINDOW, 2, 1, 0)))
        await quiet()
        assert opened == ["b"]
        alice.close()


async def test_opening_does_not_wait_for_ever() -> None:
    one, _ = raw_pair()
    alice = session(one, Direction.OUTBOUND, YamuxConfig(max_unacknowledged=1, open_timeout=0.0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, lambda _: True)
        await alice.open_stream()
        with pytest.raises(ResourceLimitExceeded):
            await alice.open_stream()
        assert not alice._openers
        alice.close()


async def test_a_waiting_opener_wakes_when_the_connection_closes() -> None:
    one, _ = raw_pair()
    alice = session(one, Direction.OUTBOUND, YamuxConfig(max_unacknowledged=1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, lambda _: True)
        await alice.open_stream()
        closed: list[bool] = []

        async def open_next() -> None:
            try:
                await alice.open_stream()
            except ConnectionClosed:
                closed.append(True)

        tasks.start_soon(open_next)
        await quiet()
        alice.close()
        await quiet()
        assert closed == [True]


async def test_a_stream_reset_before_anyone_saw_it_reaches_no_handler() -> None:
    one, other = raw_pair()
    bob = session(one, Direction.INBOUND)
    seen: list[object] = []

    def accept(stream: object) -> bool:
        seen.append(stream)
        return True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bob.serve, accept)
        other.send_nowait(record(frame(DATA, SYN, 1, body=b"x") + frame(WINDOW, 8, 1, 0)))
        await quiet()
        assert seen == []
        bob.close()


# --- how bytes leave ----------------------------------------------------------------------------------


async def test_a_lone_small_send_leaves_at_once() -> None:
    async with connected() as pair:
        mine, _ = await pair.stream()
        await quiet()
        before = len(pair.alice_raw.sends)
        await mine.send(b"now")
        assert len(pair.alice_raw.sends) == before + 1


async def test_a_burst_of_small_sends_leaves_in_few_calls() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        await quiet()
        before = len(pair.alice_raw.sends)
        for _ in range(200):
            await mine.send(b"x" * 100)
        assert await read_exactly(theirs, 20_000) == b"x" * 20_000
        assert len(pair.alice_raw.sends) - before <= 3


async def test_the_answers_of_one_turn_leave_together(anyio_backend_name: str) -> None:
    async with connected() as pair:
        pairs = [await pair.stream() for _ in range(10)]

        async def answer(stream: SessionStream) -> None:
            await stream.send(await stream.receive())
            await stream.send_eof()

        for _, theirs in pairs:
            pair.tasks.start_soon(answer, theirs)
        await quiet()
        before = len(pair.bob_raw.sends)
        # all ten questions in one record
        for mine, _ in pairs:
            pair.alice.machine.send_data(mine, b"?")
        pair.alice.outbox.flush_later()
        await quiet()
        # asyncio runs whom we woke before the reader goes on; trio may run some of them after it
        assert len(pair.bob_raw.sends) - before <= (1 if anyio_backend_name == "asyncio" else 3)
        for mine, _ in pairs:
            assert await read_all(mine) == b"?"


async def test_a_small_stream_passes_a_bulk_transfer() -> None:
    async with connected(capacity=64 * 1024) as pair:
        bulk, bulk_end = await pair.stream()
        quick, quick_end = await pair.stream()
        received = 0

        async def drain() -> None:
            nonlocal received
            try:
                while True:
                    received += len(await bulk_end.receive())
            except ConnectionClosed:
                pass

        async def send() -> None:
            try:
                while True:
                    await bulk.send(bytes(65536))
            except ConnectionClosed:
                pass

        pair.tasks.start_soon(send)
        pair.tasks.start_soon(drain)
        while received < 2**20:
            await checkpoint()
        await quick.send(b"ping")
        before = received
        assert await quick_end.receive() == b"ping"
        assert received - before <= 2**20


async def test_a_stream_nobody_reads_holds_up_no_other() -> None:
    async with connected() as pair:
        stuck, _ = await pair.stream()
        pair.tasks.start_soon(_send_and_forget, stuck, bytes(10**6))
        await quiet()
        mine, theirs = await pair.stream()
        for _ in range(20):
            await mine.send(bytes(100_000))
            await read_exactly(theirs, 100_000)


async def _send_and_forget(stream: SessionStream, data: bytes) -> None:
    try:
        await stream.send(data)
    except ConnectionClosed:
        pass


async def test_a_peer_that_reads_nothing_makes_us_hold_little() -> None:
    one, other = raw_pair(capacity=16 * 1024)
    raw = Spy(one)
    alice = session(raw, Direction.OUTBOUND)
    item = bytes(1000)
    sends = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, lambda _: True)

        async def send() -> None:
            nonlocal sends
            stream = await alice.open_stream()
            try:
                while True:
                    await stream.send(item)
                    sends += 1
            except ConnectionClosed:
                pass

        for _ in range(100):
            tasks.start_soon(send)
        await quiet()
        assert sends * len(item) < 1024 * 1024
        assert alice.machine.queued + len(alice.outbox.unsent) < 1024 * 1024
        other.close()
        await quiet()
        alice.close()


async def test_thousands_of_streams_leave_nothing() -> None:
    async with connected() as pair:
        ended = 0

        def count() -> None:
            nonlocal ended
            ended += 1

        for index in range(1500):
            mine = await pair.alice.open_stream()
            mine.on_end = count
            await mine.send(b"x")
            while not pair.arrived:
                await checkpoint()
            theirs = pair.arrived.pop()
            if index % 3 == 0:
                theirs.reset(1)
            else:
                await theirs.receive()
                await theirs.aclose()
                await mine.aclose()
            await checkpoint()
        await quiet()
        assert ended == 1500
        for machine in (pair.alice.machine, pair.bob.machine):
            assert isinstance(machine, YamuxMachine)
            assert (len(machine.streams), machine.buffered, machine.queued) == (0, 0, 0)
            assert (machine._inbound, machine._unacknowledged, len(machine._closing)) == (0, 0, 0)


async def test_of_very_many_records_half_are_opened_before_others_have_a_turn() -> None:
    one, other = raw_pair(capacity=1 << 20)
    alice = session(one, Direction.INBOUND)
    flood = record(b"") * (400 * 1024 // len(record(b""))) + record(frame(WINDOW, SYN, 1, 0))
    assert other.send_nowait(flood) == len(flood)
    turns = 0
    async with anyio.create_task_group() as tasks:

        def opened(_: object) -> bool:
            tasks.cancel_scope.cancel()
            return True

        async def others() -> None:
            nonlocal turns
            while True:
                await checkpoint()
                turns += 1

        tasks.start_soon(others)
        await checkpoint()
        turns = 0
        await alice.serve(opened)  # nothing more comes: what was kept is opened all the same
    assert turns >= 1
    other.close()

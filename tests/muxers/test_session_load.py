"""A live session under load: how bytes leave, who passes whom, how much is held."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from py_p2pstack.core.types import Direction
from py_p2pstack.errors import ConnectionClosed
from py_p2pstack.muxers.stream import SessionStream
from py_p2pstack.muxers.yamux import YamuxMachine
from py_p2pstack.testing.pairs import raw_pair
from tests.muxers.sessions import Spy, connected, quiet, read_all, read_exactly, record, session
from tests.muxers.yamux.wire import SYN, WINDOW, frame

pytestmark = pytest.mark.anyio


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


async def test_of_very_many_records_some_are_opened_before_others_have_a_turn() -> None:
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
    assert turns > 100_000 // 256
    other.close()

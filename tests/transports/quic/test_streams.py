"""Streams of a connection and the peer: who is told to stop, what a batch holds back, and what is left in the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.abc import TaskGroup

from py_p2pstack.core.muxer import MuxedStream
from py_p2pstack.errors import StreamReset
from py_p2pstack.transports.quic import QuicConfig
from py_p2pstack.transports.quic.connection import QuicConnection
from tests.transports.quic.pairs import into
from tests.transports.quic.worlds import BACKENDS, LATENCY, World, run, world

RTT = 2 * LATENCY
WINDOW = 50_000


@dataclass
class Pair:
    """Alice, who dialled, and bob, both at work."""

    alice: QuicConnection
    bob: QuicConnection
    here: World
    tasks: TaskGroup
    arrived: list[MuxedStream] = field(default_factory=list)
    """Bob's streams."""

    async def stream(self) -> tuple[MuxedStream, MuxedStream]:
        """Both ends of a stream of alice's."""
        mine = await self.alice.open_stream()
        await mine.send(b"x")
        await anyio.sleep(RTT)
        assert await self.arrived[-1].receive() == b"x"
        return mine, self.arrived[-1]


@asynccontextmanager
async def at_work(config: QuicConfig | None = None) -> AsyncGenerator[Pair]:
    async with (
        world(config or QuicConfig(stream_window=WINDOW), latency=LATENCY) as here,
        anyio.create_task_group() as tasks,
    ):
        alice, bob = await here.dial()
        assert isinstance(alice, QuicConnection)
        assert isinstance(bob, QuicConnection)
        pair = Pair(alice, bob, here, tasks)
        tasks.start_soon(alice.serve, lambda stream: False)
        tasks.start_soon(bob.serve, into(pair.arrived))
        yield pair
        tasks.cancel_scope.cancel()


@BACKENDS
def test_a_peer_that_goes_on_writing_to_a_closed_stream_is_told_to_stop(backend: str) -> None:
    async def test() -> None:
        async with at_work() as pair:
            mine, theirs = await pair.stream()
            await mine.aclose()
            await anyio.sleep(RTT)
            await theirs.send(b"is anybody there?")  # as far as bob knows
            await anyio.sleep(2 * RTT)
            with pytest.raises(StreamReset):
                await theirs.send(b"nobody")

    run(test, backend)


@BACKENDS
def test_a_peer_that_waits_for_credit_of_a_closed_stream_is_told_to_stop(backend: str) -> None:
    async def test() -> None:
        async with at_work() as pair:
            mine, theirs = await pair.stream()
            await theirs.send(bytes(2 * WINDOW))
            await anyio.sleep(10 * RTT)
            await mine.aclose()
            await anyio.sleep(2 * RTT)
            with pytest.raises(StreamReset):
                await theirs.send(b"nobody")

    run(test, backend)


@BACKENDS
def test_resets_that_we_asked_for_are_not_held_against_the_peer(backend: str) -> None:
    async def test() -> None:
        async with at_work(QuicConfig(max_resets=0, resets_per_second=0.0)) as pair:
            for _ in range(3):
                mine, theirs = await pair.stream()
                await mine.aclose()
                await theirs.send(b"is anybody there?")
                await anyio.sleep(2 * RTT)
            assert not pair.alice.closed

    run(test, backend)


@BACKENDS
def test_nothing_is_kept_of_streams_that_are_over(backend: str) -> None:
    async def test() -> None:
        async with at_work() as pair:
            both_end, mine_reset, theirs_reset, closed_early, stopped = [await pair.stream() for _ in range(5)]
            assert len(pair.alice.streams) == len(pair.bob.streams) == 5
            for stream in both_end:
                await stream.send_eof()
            mine_reset[0].reset(1)
            theirs_reset[1].reset(2)
            await closed_early[0].aclose()
            await closed_early[1].aclose()
            await stopped[0].aclose()
            await stopped[1].send(bytes(WINDOW))
            refused = await pair.bob.open_stream()
            await refused.send(b"x")
            await anyio.sleep(4 * RTT)
            assert len(pair.alice.streams) == len(pair.bob.streams) == 0

    run(test, backend)


@BACKENDS
def test_what_fills_a_packet_leaves_in_the_midst_of_a_batch(backend: str) -> None:
    """The peer has work then, while we go on with ours; what is less waits for company."""

    async def test() -> None:
        async with at_work() as pair:
            stream, _ = await pair.stream()
            carried = pair.here.network.carried
            pair.alice.cork()
            before = len(carried)
            await stream.send(bytes(600))
            assert len(carried) == before
            await stream.send(bytes(600))
            assert len(carried) == before + 1
            await stream.send(bytes(600))
            assert len(carried) == before + 1
            pair.alice.uncork()
            assert len(carried) == before + 2

    run(test, backend)


@BACKENDS
def test_a_reader_that_catches_up_in_the_midst_of_a_batch_is_given_the_rest(backend: str) -> None:
    async def test() -> None:
        async with at_work(QuicConfig(max_unread=50_000, stream_window=200_000)) as pair:
            mine, theirs = await pair.stream()
            await mine.send(bytes(150_000))
            await anyio.sleep(10 * RTT)
            streams = pair.bob.streams
            received = 0
            while received < 150_000:
                assert 0 < streams.unread < 50_000 + 65_536
                pair.bob.cork()
                while streams.unread:
                    received += len(await theirs.receive())
                pair.bob.uncork()

    run(test, backend)


@BACKENDS
def test_a_batch_is_sent_although_its_driver_is_cancelled_in_its_midst(backend: str) -> None:
    async def test() -> None:
        async with world(latency=LATENCY) as here, anyio.create_task_group() as tasks:
            first, _ = await here.dial()
            second, _ = await here.dial()
            await anyio.sleep(RTT)
            driver = anyio.CancelScope()

            async def drive() -> None:
                with driver:
                    await first.serve(lambda stream: False)

            def answer(stream: MuxedStream) -> bool:
                stream.send_soon(b"pong")
                driver.cancel()
                return True

            tasks.start_soon(drive)
            await anyio.sleep(RTT)
            tasks.start_soon(second.serve, answer)
            tasks.start_soon(here.gate.connections[1].serve, lambda stream: False)
            await anyio.sleep(RTT)
            stream = await here.gate.connections[1].open_stream()
            start = anyio.current_time()
            await stream.send(b"ping")
            assert await stream.receive() == b"pong"
            assert anyio.current_time() - start == pytest.approx(RTT, abs=0.005)
            assert first.closed
            tasks.cancel_scope.cancel()

    run(test, backend)

"""Peers that do not read: what they make us hold is bounded, whatever they ask for meanwhile."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import anyio
import pytest

from py_p2pstack import Host, Stream, StreamReset
from py_p2pstack.errors import ConnectionClosed
from py_p2pstack.muxers.session import Session
from tests.hostile.mallory import (
    FIN,
    PING,
    RST,
    SYN,
    WINDOW,
    Mallory,
    Run,
    data,
    frame,
    memory_world,
    opening,
    settle,
    unharmed,
)
from tests.hosts import ECHO, echo

MIB = 1024 * 1024
IDENTIFY, PING_PROTOCOL = "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"


def session_of(host: Host) -> Session:
    """The session of a host's only connection."""
    session = host.network.conns()[0]._muxed
    assert isinstance(session, Session)
    return session


async def cost(mallory: Mallory, session: Session, frames: Callable[[int], bytes], *, count: int) -> tuple[int, int]:
    """Let mallory send `frames(0)` … `frames(count - 1)` and read nothing.

    Returns the most bytes the process came to hold more than before (her own reused buffer aside), and the most bytes
    the session held queued to send.
    """
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        most = queued = 0
        batch = bytearray()
        for index in range(count):
            batch += frames(index)
            if len(batch) > 4_000 or index == count - 1:
                sealed = mallory.seal(bytes(batch))
                batch.clear()
                with anyio.move_on_after(5):
                    try:
                        await mallory.send_raw(sealed)
                    except OSError:
                        break  # she was cut off
                del sealed
                await settle()
                most = max(most, tracemalloc.get_traced_memory()[0] - before)
                queued = max(queued, session.machine.queued + len(session.outbox.unsent))
        return most, queued
    finally:
        tracemalloc.stop()


PIPE = 128 * 1024  # what the memory pipe holds each way; on TCP the kernel does


@pytest.mark.parametrize(
    ("frames", "count"),
    [
        pytest.param(lambda i: frame(PING, SYN, 0, i), 20_000, id="pings"),
        pytest.param(lambda i: data(2 * i + 1, b"\xff" * 12, SYN), 6_000, id="streams with nonsense"),
        pytest.param(
            lambda i: opening(2 * i + 1, IDENTIFY) + frame(WINDOW, FIN, 2 * i + 1, 0),
            6_000,
            id="questions",
        ),
        pytest.param(
            lambda i: frame(WINDOW, SYN, 2 * i + 1, 0) + frame(WINDOW, RST, 2 * i + 1, 0), 6_000, id="rapid reset"
        ),
        pytest.param(lambda i: frame(WINDOW, SYN | RST, 2 * i + 1, 0), 20_000, id="streams reset as they open"),
        pytest.param(lambda i: frame(WINDOW, 0, 77, 5), 20_000, id="frames of no stream"),
        pytest.param(
            lambda i: opening(2 * i + 1, IDENTIFY) + frame(WINDOW, RST, 2 * i + 1, 0), 6_000, id="questions taken back"
        ),
        pytest.param(lambda i: data(1, bytes(8000)) if i else opening(1, ECHO), 500, id="an echo"),
        pytest.param(lambda i: data(1, bytes(8000)) if i else opening(1, PING_PROTOCOL), 500, id="a ping stream"),
        pytest.param(lambda i: data(1, bytes(8000)) if i else opening(1, IDENTIFY), 2_000, id="bytes nobody wants"),
    ],
)
def test_a_peer_that_does_not_read_costs_less_than_a_mebibyte(
    run: Run, frames: Callable[[int], bytes], count: int
) -> None:
    async def main() -> None:
        async with memory_world(capacity=PIPE) as world:
            world.alice.set_stream_handler(ECHO, echo)
            mallory = await world.mallory()
            await settle()
            most, queued = await cost(mallory, session_of(world.alice), frames, count=count)
            assert most <= MIB + PIPE
            assert queued <= MIB
            mallory.close()
            await unharmed(world)

    run(main)


def test_a_stream_that_is_sent_to_a_peer_that_does_not_read_holds_three_quarters_of_a_mebibyte(run: Run) -> None:
    sent = 0

    async def pour(stream: Stream) -> None:
        nonlocal sent
        while True:
            await stream.send(bytes(65536))
            sent += 65536

    async def main() -> None:
        async with memory_world(capacity=PIPE) as world:
            world.alice.set_stream_handler("/pour/1.0.0", pour)
            world.alice.set_stream_handler(ECHO, echo)
            mallory = await world.mallory()
            await settle()
            session = session_of(world.alice)
            gc.collect()
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                # a window of 4 GiB: she could take it all, if she only read
                await mallory.send(opening(1, "/pour/1.0.0") + frame(WINDOW, 0, 1, 2**31))
                for _ in range(5):
                    await anyio.sleep(1)
                assert tracemalloc.get_traced_memory()[0] - before <= MIB
            finally:
                tracemalloc.stop()
            assert session.machine.queued + len(session.outbox.unsent) <= MIB * 3 // 4
            assert sent <= MIB
            mallory.close()
            await unharmed(world)

    run(main)


def test_many_senders_to_a_peer_that_does_not_read_hold_a_mebibyte_together(run: Run) -> None:
    async def main() -> None:
        go = anyio.Event()

        async def pour(stream: Stream) -> None:
            await stream.send(b"ready")
            await go.wait()
            while True:
                await stream.send(bytes(65536))

        async with memory_world(capacity=PIPE) as world:
            world.alice.set_stream_handler("/pour/1.0.0", pour)
            mallory = await world.mallory()
            await mallory.send(b"".join(opening(i, "/pour/1.0.0") for i in range(1, 100, 2)))
            await settle()
            session = session_of(world.alice)
            go.set()
            await anyio.sleep(1)
            assert session.machine.queued + len(session.outbox.unsent) <= MIB
            mallory.close()

    run(main)


def test_a_sender_to_a_peer_that_does_not_read_is_set_free_when_the_connection_ends(run: Run) -> None:
    ended: list[Exception] = []

    async def pour(stream: Stream) -> None:
        try:
            while True:
                await stream.send(bytes(65536))
        except (ConnectionClosed, StreamReset) as fault:
            ended.append(fault)
            raise

    async def main() -> None:
        async with memory_world(capacity=PIPE) as world:
            world.alice.set_stream_handler("/pour/1.0.0", pour)
            world.alice.set_stream_handler(ECHO, echo)
            mallory = await world.mallory()
            await mallory.send(opening(1, "/pour/1.0.0"))
            await anyio.sleep(60)  # no pong, no byte: keepalive ends it
            assert len(ended) == 1
            mallory.close()
            await unharmed(world)

    run(main)

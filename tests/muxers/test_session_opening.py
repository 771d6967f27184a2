"""Who opens streams of a live session, who waits to, and who is refused."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack.core.types import Direction
from py_p2pstack.errors import ConnectionClosed, ResourceLimitExceeded, StreamReset
from py_p2pstack.muxers.yamux import YamuxConfig
from py_p2pstack.testing.pairs import raw_pair
from tests.muxers.sessions import connected, quiet, record, session
from tests.muxers.yamux.wire import DATA, SYN, WINDOW, frame

pytestmark = pytest.mark.anyio


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

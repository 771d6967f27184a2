"""The writing task of a session: there only while something needs it."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack.muxers.session import Session
from tests.muxers.sessions import connected, quiet, read_exactly

pytestmark = pytest.mark.anyio

BULK = bytes(300_000)


def has_writer(session: Session) -> bool:
    """Whether the writing task runs or waits for work."""
    return session._writer_busy or session._wake is not None


async def test_a_session_that_only_sends_small_messages_needs_no_writer() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream(b"ping")
        await theirs.send(b"pong")
        assert await mine.receive() == b"pong"
        assert not has_writer(pair.alice)


async def test_an_idle_writer_retires_and_another_begins_when_it_is_needed() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        for _ in range(2):
            pair.tasks.start_soon(mine.send, BULK)
            assert await read_exactly(theirs, len(BULK)) == BULK
            await quiet()
            assert has_writer(pair.alice)
            now = anyio.current_time()
            pair.alice.tick(now)
            await quiet()
            assert has_writer(pair.alice)  # it may have worked a moment ago
            pair.alice.tick(now)
            await quiet()
            assert not has_writer(pair.alice)


async def test_what_is_queued_while_the_writer_retires_is_sent() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        pair.tasks.start_soon(mine.send, BULK)
        await read_exactly(theirs, len(BULK))
        await quiet()
        now = anyio.current_time()
        pair.alice.tick(now)
        pair.alice.tick(now)
        pair.tasks.start_soon(mine.send, BULK)  # before the writer had its turn
        assert await read_exactly(theirs, len(BULK)) == BULK


async def test_a_close_with_nothing_left_to_send_ends_the_session_without_a_writer() -> None:
    async with connected() as pair:
        pair.alice.close(7)
        assert not has_writer(pair.alice)
        await quiet()
        assert sorted(pair.ended) == ["alice", "bob"]
        assert pair.bob.machine.went_away == 7

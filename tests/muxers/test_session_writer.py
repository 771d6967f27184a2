"""The writing task of a session: there only while something needs it."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.core.muxer import MuxedStream
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import Direction
from py_p2pstack.muxers.session import Session
from py_p2pstack.testing.contracts.security_case import open_records
from py_p2pstack.testing.pairs import raw_pair
from tests.muxers.sessions import FramedRecords, Spy, connected, quiet, read_exactly, session
from tests.muxers.yamux.wire import DATA, GO_AWAY, PING, SYN, Frame, frame, frames

pytestmark = pytest.mark.anyio

BULK = bytes(300_000)


def has_writer(session: Session) -> bool:
    """Whether the writing task runs or waits for work."""
    return session.outbox.has_writer


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


def arrived(raw: RawConnection) -> tuple[bytes, list[Frame]]:
    """What came in one write: the end of a handshake of 13 bytes, and the muxer's frames."""
    buffer = memoryview(bytearray(1000))
    count = raw.receive_nowait(buffer)
    assert count is not None
    plaintexts, _ = open_records(FramedRecords(), buffer[13:count])
    return bytes(buffer[:13]), frames(b"".join(plaintexts))


async def test_the_end_of_the_handshake_goes_out_with_the_first_bytes_of_the_muxer() -> None:
    alice_raw, bob_raw = raw_pair()
    alice = session(spy := Spy(alice_raw), Direction.OUTBOUND, unsent=b"the last word")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, lambda stream: True)
        await quiet()
        assert len(spy.sends) == 1
        word, [ping] = arrived(bob_raw)
        assert word == b"the last word"
        assert ping.kind == PING
        alice.close()


async def test_what_is_answered_as_the_session_begins_goes_out_with_one_call() -> None:
    alice_raw, bob_raw = raw_pair()
    early = frame(DATA, SYN, 2, 5, b"hello")
    alice = session(spy := Spy(alice_raw), Direction.OUTBOUND, early=early, unsent=b"the last word")

    def answer(stream: MuxedStream) -> bool:
        stream.send_soon(b"welcome")
        return True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, answer)
        await quiet()
        assert len(spy.sends) == 1
        assert [each.kind for each in arrived(bob_raw)[1]] == [PING, DATA]
        alice.close()


async def test_a_session_closed_as_it_begins_says_all_with_one_call() -> None:
    alice_raw, bob_raw = raw_pair()
    alice = session(spy := Spy(alice_raw), Direction.OUTBOUND, unsent=b"the last word")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, lambda stream: True)
        await anyio.lowlevel.checkpoint()
        alice.close(3)
    assert len(spy.sends) == 1
    assert arrived(bob_raw)[1][-1] == Frame(GO_AWAY, 0, 0, 3)


async def test_a_session_closed_before_it_is_served_still_ends_the_handshake() -> None:
    alice_raw, bob_raw = raw_pair()
    session(alice_raw, Direction.OUTBOUND, unsent=b"the last word").close(3)
    assert arrived(bob_raw) == (b"the last word", [Frame(GO_AWAY, 0, 0, 3)])

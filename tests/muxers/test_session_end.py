"""How a session ends: whoever ends it, every waiter wakes, the reason is told, and nothing is left."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.core.types import Direction
from py_p2pstack.errors import ConnectionClosed, DecryptError, P2PError, RemoteProtocolError, StreamReset
from py_p2pstack.muxers.session import Session
from py_p2pstack.muxers.stream import SessionStream
from py_p2pstack.muxers.yamux import YamuxConfig
from py_p2pstack.testing.pairs import raw_pair
from tests.muxers.sessions import Spy, connected, quiet, read_all, record, session
from tests.muxers.yamux.wire import DATA, FIN, GO_AWAY, SYN, WINDOW, Frame, frame, frames

pytestmark = pytest.mark.anyio


def reason(closed: Session) -> tuple[int | None, bool]:
    """Code and side of a connection's end."""
    fault = closed.close_reason
    assert isinstance(fault, ConnectionClosed)
    return fault.code, fault.remote


async def test_a_close_tells_both_sides_its_code() -> None:
    async with connected() as pair:
        pair.alice.close(0x1005)
        pair.alice.close(0x1006)
    assert reason(pair.alice) == (0x1005, False)
    assert reason(pair.bob) == (0x1005, True)


async def test_every_waiter_wakes_when_the_connection_ends() -> None:
    faults: list[tuple[str, int | None, bool]] = []

    async def note(name: str, stream: SessionStream, sending: bool) -> None:
        try:
            if sending:
                await stream.send(bytes(10**6))
            else:
                await stream.receive()
        except ConnectionClosed as fault:
            faults.append((name, fault.code, fault.remote))

    async with connected() as pair:
        mine, theirs = await pair.stream()
        for name, stream in (("mine", mine), ("theirs", theirs)):
            pair.tasks.start_soon(note, f"{name} sends", stream, True)
        quiet_mine, quiet_theirs = await pair.stream()
        for name, stream in (("mine", quiet_mine), ("theirs", quiet_theirs)):
            pair.tasks.start_soon(note, f"{name} receives", stream, False)
        await quiet()
        pair.alice.close(0x1007)
    assert sorted(faults) == [
        ("mine receives", 0x1007, False),
        ("mine sends", 0x1007, False),
        ("theirs receives", 0x1007, True),
        ("theirs sends", 0x1007, True),
    ]


async def test_streams_are_of_no_use_once_the_connection_is_closed() -> None:
    async with connected() as pair:
        mine, _ = await pair.stream()
        pair.alice.close(3)
        for attempt in (mine.receive, lambda: mine.send(b"x"), pair.alice.open_stream):
            with pytest.raises(ConnectionClosed):
                await attempt()


async def test_what_was_sent_before_a_close_still_arrives() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        payload = bytes(200_000)
        await mine.send(payload)
        await mine.send_eof()
        pair.alice.close(0x1006)
        assert await read_all(theirs) == payload


async def test_what_arrived_to_its_end_can_be_read_after_the_connection() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        await mine.send(b"complete")
        await mine.send_eof()
        await quiet()
        pair.alice.close()
        while not pair.bob.closed:
            await anyio.lowlevel.checkpoint()
        assert await read_all(theirs) == b"complete"


async def test_a_close_does_not_wait_for_a_peer_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("py_p2pstack.muxers.outbox._FLUSH_TIMEOUT", 0.0)
    one, _ = raw_pair(capacity=1000)
    raw = Spy(one)
    alice = session(raw, Direction.OUTBOUND)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.serve, lambda _: True)
            stream = await alice.open_stream()
            await stream.send(bytes(100_000))
            await quiet()
            alice.close()
    assert raw.closed


async def test_a_pipe_that_ends_ends_the_session() -> None:
    async with connected() as pair:
        mine, _ = await pair.stream()
        pair.bob_raw.close()
        with pytest.raises(ConnectionClosed) as caught:
            await mine.receive()
        assert caught.value.remote


async def test_a_cancelled_serve_closes_the_pipe_and_ends_the_streams() -> None:
    one, other = raw_pair()
    raw = Spy(one)
    alice = session(raw, Direction.OUTBOUND)
    ended: list[bool] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, lambda _: True)
        stream = await alice.open_stream()
        stream.on_end = lambda: ended.append(True)
        await quiet()
        tasks.cancel_scope.cancel()
    assert raw.closed
    assert ended == [True]
    assert isinstance(alice.close_reason, ConnectionClosed)
    other.close()


async def test_the_end_of_a_stream_is_told_once() -> None:
    async with connected() as pair:
        ends: list[str] = []
        streams = {}
        for name in ("both closed", "reset", "reset by peer", "connection"):
            mine, theirs = await pair.stream()
            mine.on_end = lambda name=name: ends.append(name)
            streams[name] = mine, theirs
        for stream in streams["both closed"]:
            await stream.aclose()
        streams["reset"][0].reset(1)
        streams["reset"][0].reset(2)
        streams["reset by peer"][1].reset(1)
        await quiet()
        assert sorted(ends) == ["both closed", "reset", "reset by peer"]
        with pytest.raises(StreamReset):
            await streams["reset by peer"][0].receive()
    assert sorted(ends) == ["both closed", "connection", "reset", "reset by peer"]


# --- faults of the peer -------------------------------------------------------------------------------


async def run_against(data: bytes) -> tuple[Session, list[Frame]]:
    """Serve bob while `data` comes in, up to his end; what he said."""
    one, other = raw_pair()
    bob = session(one, Direction.INBOUND)
    other.send_nowait(data)
    with anyio.fail_after(5):
        await bob.serve(lambda _: True)
    buffer = bytearray(100_000)
    size = other.receive_nowait(memoryview(buffer)) or 0
    said: list[Frame] = []
    position = 0
    while position < size:
        length = int.from_bytes(buffer[position + 1 : position + 3], "big")
        said += frames(bytes(buffer[position + 3 : position + 3 + length]))
        position += 3 + length
    return bob, said


async def test_a_violation_is_answered_with_a_go_away() -> None:
    bob, said = await run_against(record(frame(DATA, SYN, 2, body=b"x")))
    assert isinstance(bob.close_reason, RemoteProtocolError)
    assert said[-1] == Frame(GO_AWAY, 0, 0, 1)


async def serve_one(bob: Session) -> SessionStream:
    """Serve bob to his end; the one stream he was given."""
    seen: list[object] = []

    def accept(stream: object) -> bool:
        seen.append(stream)
        return True

    await bob.serve(accept)
    (stream,) = seen
    assert isinstance(stream, SessionStream)
    return stream


async def test_what_came_before_a_violation_counts() -> None:
    one, other = raw_pair()
    bob = session(one, Direction.INBOUND)
    other.send_nowait(record(frame(WINDOW, SYN, 1, 0) + bytes([9]) * 12))
    stream = await serve_one(bob)
    with pytest.raises(ConnectionClosed) as caught:
        await stream.receive()
    assert isinstance(caught.value.__cause__, RemoteProtocolError)


async def test_a_forged_record_ends_the_connection() -> None:
    bob, _ = await run_against(b"\xff" * 20)
    assert isinstance(bob.close_reason, DecryptError)


async def test_what_came_before_a_forged_record_can_be_read() -> None:
    one, other = raw_pair()
    bob = session(one, Direction.INBOUND)
    other.send_nowait(record(frame(DATA, SYN, 1, body=b"hello")) + b"\xff" * 20)
    stream = await serve_one(bob)
    assert await stream.receive() == b"hello"
    with pytest.raises(ConnectionClosed):
        await stream.receive()


async def test_a_go_away_with_a_code_ends_the_connection() -> None:
    bob, _ = await run_against(record(frame(GO_AWAY, 0, 0, 0x1001)))
    assert reason(bob) == (0x1001, True)


async def test_a_go_away_without_a_code_lets_streams_finish() -> None:
    async with connected() as pair:
        mine, theirs = await pair.stream()
        pair.bob.machine.go_away(0)
        pair.bob.outbox.flush_later()
        await quiet()
        assert pair.alice.closed
        with pytest.raises(ConnectionClosed):
            await pair.alice.open_stream()
        await mine.send(b"last")
        assert await theirs.receive() == b"last"
        await mine.aclose()
        await theirs.aclose()
        await quiet()
        pair.alice.tick(anyio.current_time())
        await quiet()
        assert sorted(pair.ended) == ["alice", "bob"]


async def test_a_broken_pipe_leaves_time_to_find_the_peers_reason() -> None:
    one, other = raw_pair()
    raw = Spy(one)
    alice = session(raw, Direction.OUTBOUND)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, lambda _: True)
        await quiet()
        raw.broken = True
        stream = await alice.open_stream()
        await stream.send(b"into the void")
        other.send_nowait(record(frame(GO_AWAY, 0, 0, 0x1001)))
    assert reason(alice) == (0x1001, True)


async def test_a_broken_pipe_ends_the_session_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("py_p2pstack.muxers.outbox._LAST_WORDS", 0.0)
    one, other = raw_pair()
    raw = Spy(one)
    alice = session(raw, Direction.OUTBOUND)
    raw.broken = True
    with anyio.fail_after(5):
        await alice.serve(lambda _: True)
    assert isinstance(alice.close_reason, ConnectionClosed)
    other.close()


async def test_a_stream_whose_last_frame_breaks_the_pipe_has_ended_too() -> None:
    one, other = raw_pair()
    raw = Spy(one)
    alice = session(raw, Direction.OUTBOUND)
    ends: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, lambda _: True)
        stream = await alice.open_stream()
        stream.on_end = lambda: ends.append("stream")
        await stream.send(b"hello")
        other.send_nowait(record(frame(WINDOW, FIN, stream.id, 0)))
        await quiet()
        raw.broken = True
        await stream.send_eof()
        await quiet()
        other.close()
    assert ends == ["stream"]


async def test_a_peer_that_answers_no_ping_is_given_up() -> None:
    one, other = raw_pair()
    alice = session(one, Direction.OUTBOUND, YamuxConfig(keepalive_timeout=20.0))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.serve, lambda _: True)
            await quiet()
            alice.tick(anyio.current_time() + 19.0)
            assert not alice.closed
            alice.tick(anyio.current_time() + 21.0)
    assert alice.closed
    assert isinstance(alice.close_reason, P2PError)
    other.close()


async def test_the_round_trip_is_measured_from_the_start() -> None:
    async with connected() as pair:
        await quiet()
        assert pair.alice.rtt is not None
        assert pair.alice.rtt >= 0


# --- before it is served ------------------------------------------------------------------------------


async def test_a_session_closed_before_it_is_served_says_goodbye() -> None:
    one, other = raw_pair()
    raw = Spy(one)
    alice = session(raw, Direction.OUTBOUND)
    alice.close(0x1007)
    assert raw.closed
    buffer = bytearray(100)
    size = other.receive_nowait(memoryview(buffer))
    assert bytes(buffer[3:size]) == frame(GO_AWAY, 0, 0, 0x1007)
    await alice.serve(lambda _: True)
    assert reason(alice) == (0x1007, False)


async def test_bytes_that_came_with_the_handshake_are_not_lost() -> None:
    one, other = raw_pair()
    early = frame(DATA, SYN, 1, body=b"early, ")
    unread = record(frame(DATA, 0, 1, body=b"unread, "))
    rest = record(frame(DATA, 4, 1, body=b"late"))
    bob = session(one, Direction.INBOUND, early=early, unread=unread + rest[:5])
    received: list[bytes] = []

    async with anyio.create_task_group() as tasks:

        async def take(stream: SessionStream) -> None:
            received.append(await read_all(stream))
            bob.close()

        def accept(stream: object) -> bool:
            assert isinstance(stream, SessionStream)
            tasks.start_soon(take, stream)
            return True

        tasks.start_soon(bob.serve, accept)
        other.send_nowait(rest[5:])
    assert received == [b"early, unread, late"]

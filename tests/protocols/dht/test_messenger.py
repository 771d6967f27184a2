"""Requests: a stream per peer that is reused, one retry, timeouts, and nothing left open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from py_p2pstack.core.stream import Stream
from py_p2pstack.errors import (
    ConnectionClosed,
    DialError,
    OperationTimeout,
    P2PError,
    RemoteProtocolError,
    StreamReset,
)
from py_p2pstack.identity import PeerId
from py_p2pstack.peerstore import MemoryPeerstore
from py_p2pstack.protocols.dht import DhtConfig, codec
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.messenger import MAX_REUSE_FAILURES, Messenger
from tests.peer_ids import peer

pytestmark = pytest.mark.anyio

PING = Message(type=MessageType.PING)
ALICE = peer(1)

Answer = bytes | Exception | None
"""What a fake stream does with a request: answer these bytes, fail so, or say nothing."""


class FakeStream:
    """Answers each message by the next of its answers, then with pings."""

    def __init__(self, answers: Sequence[Answer] = ()) -> None:
        self.answers = list(answers)
        self.sent = 0
        self.told = bytearray()
        self.writes = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.was_reset = False
        self.was_closed = False

    async def send_message(self, message: bytes) -> None:
        self.sent += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await checkpoint()

    async def send(self, data: bytes) -> None:
        await checkpoint()
        answer = self.answers.pop(0) if self.answers else b""
        if answer is None:
            await anyio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        self.told += data
        self.writes += 1

    async def receive_message(self, max_size: int) -> bytes:
        await checkpoint()
        answer = self.answers.pop(0) if self.answers else codec.encode(PING)
        if answer is None:
            await anyio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        self.in_flight -= 1
        return cast(bytes, answer)

    def reset(self, code: int = 0) -> None:
        self.was_reset = True

    async def aclose(self) -> None:
        self.was_closed = True


class FakeHost:
    """Hands out the streams it was given, then fresh ones."""

    def __init__(self, *streams: FakeStream | Exception) -> None:
        self.peerstore = MemoryPeerstore(clock=lambda: 0.0)
        self.prepared = list(streams)
        self.opened: list[FakeStream] = []

    async def new_stream(self, peer: PeerId, protocols: Sequence[str]) -> Stream:
        assert protocols == ("/p2pstack/kad/1.0.0",)
        await checkpoint()
        stream = self.prepared.pop(0) if self.prepared else FakeStream()
        if isinstance(stream, Exception):
            raise stream
        self.opened.append(stream)
        return cast(Stream, stream)


def make(*streams: FakeStream | Exception, **config: Any) -> tuple[Messenger, FakeHost]:
    host = FakeHost(*streams)
    return Messenger(host, DhtConfig(**config)), host


async def test_requests_to_one_peer_share_a_stream_and_take_turns() -> None:
    messenger, host = make()
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(messenger.request, ALICE, PING)
    (stream,) = host.opened
    assert stream.sent == 10
    assert stream.most_in_flight == 1
    assert host.peerstore.latency(ALICE) is not None
    assert len(messenger) == 1


async def test_a_reused_stream_that_died_is_replaced_once() -> None:
    messenger, host = make(FakeStream([codec.encode(PING), StreamReset()]))
    assert await messenger.request(ALICE, PING) == PING
    assert await messenger.request(ALICE, PING) == PING
    assert [stream.was_reset for stream in host.opened] == [True, False]


@pytest.mark.parametrize("fault", [StreamReset(), ConnectionClosed(), anyio.EndOfStream()], ids=lambda each: repr(each))
async def test_a_fresh_stream_that_fails_is_not_retried(fault: Exception) -> None:
    messenger, host = make(FakeStream([fault]))
    with pytest.raises(P2PError):
        await messenger.request(ALICE, PING)
    assert len(host.opened) == 1
    assert host.opened[0].was_reset


async def test_a_peer_that_closes_instead_of_answering_twice_breaks_the_rules() -> None:
    messenger, host = make(FakeStream([codec.encode(PING), anyio.EndOfStream()]), FakeStream([anyio.EndOfStream()]))
    await messenger.request(ALICE, PING)
    with pytest.raises(RemoteProtocolError, match="instead of answering"):
        await messenger.request(ALICE, PING)
    assert len(host.opened) == 2


async def test_streams_that_keep_dying_between_requests_are_no_longer_reused() -> None:
    dying = [FakeStream([codec.encode(PING), StreamReset()]) for _ in range(MAX_REUSE_FAILURES + 2)]
    messenger, host = make(*dying)
    for _ in range(MAX_REUSE_FAILURES + 2):
        await messenger.request(ALICE, PING)
    before = len(host.opened)
    assert host.opened[-1].was_closed
    await messenger.request(ALICE, PING)
    assert len(host.opened) == before + 1
    assert host.opened[-1].was_closed


async def test_a_silent_peer_times_out_and_is_asked_only_once() -> None:
    messenger, host = make(FakeStream([codec.encode(PING), None]), request_timeout=0.01)
    await messenger.request(ALICE, PING)
    with pytest.raises(OperationTimeout, match="no answer"):
        await messenger.request(ALICE, PING)
    assert len(host.opened) == 1
    assert host.opened[0].was_reset


@pytest.mark.parametrize("answer", [b"\xff", b"\x08\x09", codec.encode(Message(type=MessageType.FIND_NODE))])
async def test_a_malformed_or_foreign_answer_hangs_up(answer: bytes) -> None:
    messenger, host = make(FakeStream([answer]))
    with pytest.raises(RemoteProtocolError):
        await messenger.request(ALICE, PING)
    assert host.opened[0].was_reset


async def test_a_failed_dial_is_told_as_it_is() -> None:
    messenger, _ = make(DialError(ALICE, []))
    with pytest.raises(DialError):
        await messenger.request(ALICE, PING)
    assert await messenger.request(ALICE, PING) == PING


@pytest.mark.parametrize("answers", [[None], [codec.encode(PING), None]], ids=["fresh", "reused"])
async def test_cancelling_hangs_up_and_the_next_request_has_a_stream_in_step(answers: list[Answer]) -> None:
    messenger, host = make(FakeStream(answers))
    for _ in answers[1:]:
        await messenger.request(ALICE, PING)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messenger.request, ALICE, PING)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert host.opened[0].was_reset
    assert await messenger.request(ALICE, PING) == PING
    assert len(host.opened) == 2


async def test_cancelling_who_waits_for_a_turn_disturbs_nobody() -> None:
    messenger, host = make(FakeStream([None]))
    impatient = anyio.CancelScope()

    async def wait_in_vain() -> None:
        with impatient:
            await messenger.request(ALICE, PING)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messenger.request, ALICE, PING)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(wait_in_vain)
        await anyio.wait_all_tasks_blocked()
        impatient.cancel()
        await anyio.wait_all_tasks_blocked()
        assert not host.opened[0].was_reset
        tasks.cancel_scope.cancel()


async def test_the_streams_kept_are_bounded_and_the_longest_unused_goes() -> None:
    messenger, host = make(max_client_streams=3)
    for number in (1, 2, 3, 1, 4):
        await messenger.request(peer(number), PING)
    assert len(messenger) == 3
    assert [stream.was_reset for stream in host.opened] == [False, True, False, False]


async def test_a_request_beyond_the_bound_while_all_are_in_use_keeps_no_stream() -> None:
    messenger, host = make(FakeStream([None]), max_client_streams=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messenger.request, ALICE, PING)
        await anyio.wait_all_tasks_blocked()
        assert await messenger.request(peer(2), PING) == PING
        assert len(messenger) == 1
        assert host.opened[1].was_reset
        tasks.cancel_scope.cancel()


async def test_forgetting_a_peer_hangs_up() -> None:
    messenger, host = make()
    await messenger.request(ALICE, PING)
    messenger.forget(ALICE)
    messenger.forget(peer(77))
    assert host.opened[0].was_reset
    assert len(messenger) == 0


async def test_forgetting_a_peer_that_is_being_asked_keeps_the_turns() -> None:
    messenger, host = make(FakeStream([None]))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messenger.request, ALICE, PING)
        await anyio.wait_all_tasks_blocked()
        messenger.forget(ALICE)
        assert host.opened[0].was_reset
        assert len(messenger) == 1
        tasks.cancel_scope.cancel()


async def test_closing_hangs_up_everybody() -> None:
    messenger, host = make(FakeStream([None]))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messenger.request, ALICE, PING)
        await anyio.wait_all_tasks_blocked()
        await messenger.request(peer(2), PING)
        messenger.close()
        tasks.cancel_scope.cancel()
    assert all(stream.was_reset for stream in host.opened)
    assert len(messenger) == 0


# --- messages that nobody answers ---------------------------------------------------------------------

FIND = Message(type=MessageType.FIND_NODE, key=b"k" * 100)


def messages_in(told: bytearray) -> int:
    """How many times FIND is in there, whole and framed."""
    framed = bytes([len(codec.encode(FIND))]) + codec.encode(FIND)
    assert told == framed * (len(told) // len(framed))
    return len(told) // len(framed)


async def test_many_messages_go_over_the_one_stream_in_few_writes() -> None:
    messenger, host = make()
    await messenger.request(ALICE, PING)
    await messenger.tell(ALICE, [FIND] * 1000)
    await messenger.tell(ALICE, [])
    (stream,) = host.opened
    assert messages_in(stream.told) == 1000
    assert stream.writes == 7
    assert await messenger.request(ALICE, PING) == PING


async def test_telling_over_a_stream_that_died_unnoticed_tells_everything_again() -> None:
    messenger, host = make(FakeStream([codec.encode(PING), b"", StreamReset()]))
    await messenger.request(ALICE, PING)
    await messenger.tell(ALICE, [FIND] * 400)
    assert host.opened[0].was_reset
    assert messages_in(host.opened[1].told) == 400


async def test_a_fresh_stream_that_fails_or_takes_nothing_is_an_error() -> None:
    messenger, host = make(FakeStream([StreamReset()]), FakeStream([None]), DialError(ALICE, []), request_timeout=0.01)
    for fault in (StreamReset, OperationTimeout, DialError):
        with pytest.raises(fault):
            await messenger.tell(ALICE, [FIND])
    assert [stream.was_reset for stream in host.opened] == [True, True]


async def test_a_stream_that_is_not_kept_is_closed_and_not_reset_behind_what_was_told() -> None:
    messenger, host = make(FakeStream([None]), max_client_streams=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messenger.request, ALICE, PING)
        await anyio.wait_all_tasks_blocked()
        await messenger.tell(peer(2), [FIND])
        assert (host.opened[1].was_closed, host.opened[1].was_reset) == (True, False)
        tasks.cancel_scope.cancel()


async def test_cancelling_what_is_told_hangs_up() -> None:
    messenger, host = make(FakeStream([None]))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messenger.tell, ALICE, [FIND])
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert host.opened[0].was_reset
    assert len(messenger) == 1

"""Requests: a stream per peer that is reused, one retry, timeouts, and nothing left open."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack.errors import (
    ConnectionClosed,
    DhtClosed,
    DialError,
    OperationTimeout,
    P2PError,
    RemoteProtocolError,
    StreamReset,
)
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.messenger import MAX_OWED, MAX_REUSE_FAILURES, MAX_UNDER_WAY, PROVED, Messenger
from tests.peer_ids import peer
from tests.protocols.dht.fake_streams import ALICE, PING, FakeStream, make, numbered
from tests.protocols.dht.nodes import in_virtual_time

pytestmark = pytest.mark.anyio


async def test_requests_share_a_stream_and_once_it_has_proved_good_do_not_wait_for_each_other() -> None:
    messenger, host = make()
    got: dict[int, Message] = {}

    async def ask(number: int) -> None:
        got[number] = await messenger.request(ALICE, numbered(number))

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(ask, number)
    assert got == {number: numbered(number) for number in range(40)}
    (stream,) = host.opened
    assert stream.sent == 40
    assert stream.before_first_answer == 1
    assert 1 < stream.most_in_flight <= MAX_UNDER_WAY
    assert host.peerstore.latency(ALICE) is not None
    assert len(messenger) == 1


async def test_a_peer_that_answers_once_per_stream_is_asked_by_as_many_as_like() -> None:
    messenger, host = make(*(FakeStream([codec.encode(PING), anyio.EndOfStream()]) for _ in range(20)))
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(messenger.request, ALICE, PING)
    assert all(stream.most_in_flight <= 2 for stream in host.opened)


async def test_when_a_stream_breaks_all_requests_on_it_are_sent_again_and_it_counts_once() -> None:
    messenger, host = make(FakeStream([codec.encode(PING), codec.encode(PING), None]))
    for _ in range(PROVED):
        await messenger.request(ALICE, PING)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(messenger.request, ALICE, PING)
        await anyio.wait_all_tasks_blocked()
        messenger.forget(ALICE)
    assert len(host.opened) == 2
    assert host.opened[1].sent == 5
    assert messenger._lines[ALICE].reuse_failures == 1


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
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messenger.watch_deadlines)
        with pytest.raises(OperationTimeout, match="no answer"):
            await messenger.request(ALICE, PING)
        tasks.cancel_scope.cancel()
    assert len(host.opened) == 1
    assert host.opened[0].was_reset


async def test_a_peer_that_takes_no_request_times_out() -> None:
    stream = FakeStream()
    stream.takes_nothing = True
    messenger, _ = make(stream, request_timeout=0.01)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messenger.watch_deadlines)
        with pytest.raises(OperationTimeout, match="no answer"):
            await messenger.request(ALICE, PING)
        tasks.cancel_scope.cancel()
    assert stream.was_reset


@in_virtual_time
async def test_a_request_behind_one_that_is_not_answered_in_time_is_sent_again() -> None:
    messenger, host = make(FakeStream([codec.encode(PING)] * PROVED + [None]))
    for _ in range(PROVED):
        await messenger.request(ALICE, PING)

    async def ask_in_vain() -> None:
        with pytest.raises(OperationTimeout):
            await messenger.request(ALICE, numbered(1))

    async with anyio.create_task_group() as watching:
        watching.start_soon(messenger.watch_deadlines)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_in_vain)
            await anyio.sleep(1)
            assert await messenger.request(ALICE, numbered(2)) == numbered(2)
        watching.cancel_scope.cancel()
    assert len(host.opened) == 2


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


@pytest.mark.parametrize("before", [0, 1, PROVED], ids=["fresh", "reused", "proved"])
async def test_a_cancelled_request_keeps_the_stream_and_its_answer_is_dropped(before: int) -> None:
    stream = FakeStream()
    messenger, host = make(stream)
    for _ in range(before):
        await messenger.request(ALICE, PING)
    stream.holds = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(messenger.request, ALICE, numbered(number))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    stream.holds.set()
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(messenger.request, ALICE, PING)
    assert await messenger.request(ALICE, numbered(9)) == numbered(9)
    assert host.opened == [stream]
    assert not stream.was_reset


async def test_cancelling_the_one_whose_turn_it_is_lets_the_next_read() -> None:
    stream = FakeStream()
    messenger, _ = make(stream)
    for _ in range(PROVED):
        await messenger.request(ALICE, PING)
    stream.holds = anyio.Event()
    impatient, got = anyio.CancelScope(), []

    async def ask_in_vain() -> None:
        with impatient:
            await messenger.request(ALICE, numbered(1))

    async def ask() -> None:
        got.append(await messenger.request(ALICE, numbered(2)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_in_vain)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        impatient.cancel()
        await anyio.wait_all_tasks_blocked()
        stream.holds.set()
    assert got == [numbered(2)]


async def ask_and_give_up(messenger: Messenger) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messenger.request, ALICE, PING)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


async def test_a_stream_that_owes_too_many_answers_is_given_up() -> None:
    messenger, host = make(FakeStream([None]))
    for number in range(MAX_OWED + 1):
        assert not host.opened or not host.opened[0].was_reset, number
        await ask_and_give_up(messenger)
    assert host.opened[0].was_reset
    assert await messenger.request(ALICE, PING) == PING


async def test_cancelling_in_the_middle_of_sending_hangs_up() -> None:
    stream = FakeStream()
    messenger, host = make(stream)
    await messenger.request(ALICE, PING)
    stream.takes_nothing = True
    await ask_and_give_up(messenger)
    assert stream.was_reset
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


async def fail(messenger: Messenger) -> None:
    with pytest.raises(StreamReset):
        await messenger.request(ALICE, PING)


async def test_forgetting_a_peer_that_is_being_asked_keeps_the_turns() -> None:
    messenger, host = make(FakeStream([None]))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail, messenger)
        await anyio.wait_all_tasks_blocked()
        messenger.forget(ALICE)
        assert host.opened[0].was_reset
        assert len(messenger) == 1


async def test_closing_hangs_up_everybody() -> None:
    messenger, host = make(FakeStream([None]))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail, messenger)
        await anyio.wait_all_tasks_blocked()
        await messenger.request(peer(2), PING)
        messenger.close()
    assert all(stream.was_reset for stream in host.opened)
    with pytest.raises(DhtClosed):
        await messenger.request(peer(2), PING)
    assert len(messenger) == 0


async def test_of_peers_that_are_gone_or_were_never_reached_nothing_is_kept() -> None:
    gone = StreamReset()
    messenger, host = make(FakeStream([codec.encode(PING), None]), gone, gone)
    await messenger.request(ALICE, PING)
    assert len(messenger) == 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail, messenger)
        await anyio.wait_all_tasks_blocked()
        messenger.forget(ALICE)  # with a request under way
    assert len(host.opened) == 1
    with pytest.raises(StreamReset):
        await messenger.request(peer(2), PING)
    assert len(messenger) == 0

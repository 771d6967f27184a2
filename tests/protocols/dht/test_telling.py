"""Messages that nobody answers: all of them in few writes, and a receipt behind."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack.errors import DialError, OperationTimeout, StreamReset
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import Message, MessageType
from tests.peer_ids import peer
from tests.protocols.dht.fake_streams import ALICE, PING, FakeStream, make

pytestmark = pytest.mark.anyio


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


async def test_a_receipt_is_asked_behind_what_is_told_and_waited_for() -> None:
    messenger, host = make(FakeStream([b"", b"", None]), request_timeout=0.01)
    await messenger.tell(ALICE, [FIND] * 10)
    with pytest.raises(OperationTimeout):
        await messenger.tell(ALICE, [FIND] * 10, receipt=PING)
    await messenger.tell(ALICE, [FIND] * 10, receipt=PING)
    assert [messages_in(stream.told) for stream in host.opened] == [20, 10]
    assert [stream.sent for stream in host.opened] == [1, 1]
    assert await messenger.request(ALICE, PING) == PING


@pytest.mark.parametrize("offence", [StreamReset(), anyio.EndOfStream()], ids=["reset", "end"])
async def test_without_a_receipt_on_a_second_stream_either_nothing_counts_as_told(offence: Exception) -> None:
    messenger, host = make(FakeStream([codec.encode(PING), b"", offence]), FakeStream([b"", offence]))
    await messenger.request(ALICE, PING)
    with pytest.raises(StreamReset):
        await messenger.tell(ALICE, [FIND] * 10, receipt=PING)
    assert [stream.was_reset for stream in host.opened] == [True, True]

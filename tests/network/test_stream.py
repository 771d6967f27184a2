"""Messages on a stream: whole or not at all, and none lost by whoever stops waiting for it."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import Stream
from py_p2pstack.wire import varint
from tests.hosts import memory_hosts, until_quiet

pytestmark = pytest.mark.anyio


async def test_a_message_whose_receiver_was_cancelled_in_the_middle_is_received_by_the_next() -> None:
    arrived: list[Stream] = []

    async def accept(stream: Stream) -> None:
        arrived.append(stream)
        await anyio.sleep_forever()

    async with memory_hosts(2) as (alice, bob):
        bob.set_stream_handler("/x", accept)
        await alice.connect(bob.peer_info)
        stream = await alice.new_stream(bob.id, "/x")
        message = bytes(range(256)) * 2
        framed = varint.encode(len(message)) + message
        sent = 0
        for end in (1, 2, 100, 300):
            await stream.send(framed[sent:end])
            sent = end
            await until_quiet()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(arrived[0].receive_message, 1024)
                await until_quiet()
                tasks.cancel_scope.cancel()
        await stream.send(framed[sent:] + b"\x01x")
        assert await arrived[0].receive_message(1024) == message
        assert await arrived[0].receive_message(1024) == b"x"
        stream.reset()

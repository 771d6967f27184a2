"""The serving half: bounded in streams, in time and in size; malformed requests end their stream and nothing else."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from py_p2pstack import Host, Stream, StreamReset
from py_p2pstack.core.error_codes import StreamCode
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import Message, MessageType
from tests.protocols.dht.nodes import Node, World, in_virtual_time, settle, world

PROTOCOL = "/p2pstack/kad/1.0.0"
PING = codec.encode(Message(type=MessageType.PING))


async def server_and_stranger(w: World, **config: Any) -> tuple[Node, Host]:
    (node,) = await w.start(1, **config)
    stranger = await w.start_host()
    await stranger.connect(node.host.peer_info)
    return node, stranger


async def ended(stream: Stream) -> int:
    """Wait for the reset; returns its code."""
    with pytest.raises(StreamReset) as caught:
        await stream.receive()
    return caught.value.code


@in_virtual_time
async def test_many_requests_are_answered_on_one_stream_which_then_ends_in_good_order() -> None:
    async with world() as w:
        node, stranger = await server_and_stranger(w)
        async with await stranger.new_stream(node.id, PROTOCOL) as stream:
            for _ in range(20):
                await stream.send_message(PING)
                assert await stream.receive_message(1024) == PING
            await stream.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        await settle()
        assert len(node.dht._server) == 0


@in_virtual_time
async def test_pipelined_requests_are_answered_in_order() -> None:
    async with world() as w:
        node, stranger = await server_and_stranger(w)
        async with await stranger.new_stream(node.id, PROTOCOL) as stream:
            for number in range(10):
                await stream.send_message(codec.encode(Message(type=MessageType.PING, key=bytes([number]))))
            answers = [codec.decode(await stream.receive_message(1024), max_peers=1) for _ in range(10)]
            assert [answer.key for answer in answers] == [bytes([number]) for number in range(10)]


MALFORMED = {
    "no protobuf": b"\x42\x7f\x00",
    "unknown type": b"\x08\x09",
    "find nobody": codec.encode(Message(type=MessageType.FIND_NODE)),
    "get nothing": codec.encode(Message(type=MessageType.GET_VALUE)),
}


@in_virtual_time
async def test_a_malformed_request_resets_its_stream_and_touches_no_other() -> None:
    async with world() as w:
        node, stranger = await server_and_stranger(w)
        healthy = await stranger.new_stream(node.id, PROTOCOL)
        for number, request in enumerate(MALFORMED.values(), start=1):
            stream = await stranger.new_stream(node.id, PROTOCOL)
            await stream.send_message(request)
            assert await ended(stream) == StreamCode.PROTOCOL_VIOLATION
            assert node.dht._server.malformed == number
        await healthy.send_message(PING)
        assert await healthy.receive_message(1024) == PING


@in_virtual_time
async def test_a_request_above_the_limit_is_refused_by_its_length_alone() -> None:
    async with world() as w:
        node, stranger = await server_and_stranger(w, max_request_size=5000, max_value_size=900)
        stream = await stranger.new_stream(node.id, PROTOCOL)
        await stream.send(b"\x89\x27")  # 5001 bytes to come
        assert await ended(stream) == StreamCode.PROTOCOL_VIOLATION


@in_virtual_time
async def test_a_silent_stream_dies_when_its_time_is_over_and_each_request_gives_it_new_time() -> None:
    async with world() as w:
        node, stranger = await server_and_stranger(w, idle_timeout=60)
        stream = await stranger.new_stream(node.id, PROTOCOL)
        for _ in range(3):
            await stream.send_message(PING)
            assert await stream.receive_message(1024) == PING
            await anyio.sleep(50)
        await stream.send_message(PING)
        assert await stream.receive_message(1024) == PING
        start = anyio.current_time()
        await ended(stream)
        assert anyio.current_time() - start == pytest.approx(60, abs=1)
        await settle()
        assert len(node.dht._server) == 0


@in_virtual_time
async def test_a_peer_that_sends_its_request_byte_by_byte_gains_no_time() -> None:
    async with world() as w:
        node, stranger = await server_and_stranger(w, idle_timeout=30)
        stream = await stranger.new_stream(node.id, PROTOCOL)
        start = anyio.current_time()
        with pytest.raises(StreamReset):
            for byte in b"\x7f" + bytes(100):
                await stream.send(bytes([byte]))
                with anyio.move_on_after(5):
                    await stream.receive()
        assert anyio.current_time() - start < 40


@in_virtual_time
async def test_a_peer_that_never_reads_its_answers_is_cut_off() -> None:
    async with world() as w:
        node, stranger = await server_and_stranger(w, idle_timeout=10)
        stream = await stranger.new_stream(node.id, PROTOCOL)
        ping = codec.encode(Message(type=MessageType.PING, key=bytes(1024)))
        with pytest.raises(StreamReset):
            while True:
                await stream.send_message(ping)
                await anyio.sleep(0.001)
        await settle()
        assert len(node.dht._server) == 0


@in_virtual_time
async def test_streams_per_peer_and_in_all_are_bounded_and_places_come_back() -> None:
    async with world() as w:
        node, alice = await server_and_stranger(w, max_inbound_streams=5, max_inbound_streams_per_peer=3)
        bob = await w.start_host()
        await bob.connect(node.host.peer_info)

        async def open_stream(host: Host) -> Stream:
            stream = await host.new_stream(node.id, PROTOCOL)
            await stream.send_message(PING)
            await settle()
            return stream

        held = [await open_stream(alice) for _ in range(3)]
        assert await ended(await open_stream(alice)) == StreamCode.RESOURCE_LIMIT_EXCEEDED
        held += [await open_stream(bob) for _ in range(2)]
        assert await ended(await open_stream(bob)) == StreamCode.RESOURCE_LIMIT_EXCEEDED
        for stream in held:
            assert await stream.receive_message(1024) == PING
        assert node.dht._server.refused == 2
        assert len(node.dht._server) == 5
        held[0].reset()
        await settle()
        replacement = await open_stream(alice)
        assert await replacement.receive_message(1024) == PING


@in_virtual_time
async def test_a_server_that_ends_resets_the_streams_it_serves() -> None:
    async with world() as w:
        node, stranger = await server_and_stranger(w)
        stream = await stranger.new_stream(node.id, PROTOCOL)
        await stream.send_message(PING)
        await stream.receive_message(1024)
        node.dht._server.close()
        assert await ended(stream) == StreamCode.SHUTDOWN

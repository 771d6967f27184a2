"""Claims about the streams of hosts: which protocol is chosen, what it costs to be told late, and many at once."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import Host, NegotiationError, Stream
from py_p2pstack.protocols.identify.service import PROTOCOL as IDENTIFY
from tests.hosts import ECHO, echo, exchange, memory_hosts, until_quiet

NEWER = "/echo/2.0.0"

pytestmark = pytest.mark.anyio


async def test_a_protocol_nobody_serves_is_refused_and_the_connection_lives() -> None:
    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(ECHO, echo)
        await bob.connect(alice.peer_info)
        with pytest.raises(NegotiationError, match="speaks none of"):
            await bob.new_stream(alice.id, ["/nothing/1.0.0", "/nowhere/1.0.0"])
        assert await exchange(bob, alice) == b"hello"


async def test_the_first_protocol_in_common_is_chosen() -> None:
    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(ECHO, echo)
        await bob.connect(alice.peer_info)
        async with await bob.new_stream(alice.id, ["/echo/2.0.0", ECHO]) as stream:
            assert stream.protocol == ECHO


async def test_a_match_serves_every_id_it_accepts() -> None:
    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler_match(ECHO, lambda protocol: protocol.startswith("/echo/1."), echo)
        await bob.connect(alice.peer_info)
        async with await bob.new_stream(alice.id, "/echo/1.7.0") as stream:
            await stream.send(b"x")
            assert await stream.receive_exactly(1) == b"x"
        with pytest.raises(NegotiationError):
            await bob.new_stream(alice.id, "/echo/2.0.0")


async def test_a_protocol_removed_unheard_of_is_told_at_the_first_receive() -> None:
    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(ECHO, echo)
        await bob.connect(alice.peer_info)
        alice.mux._exact.pop(ECHO)  # without the push that would tell bob
        stream = await bob.new_stream(alice.id, [ECHO])
        await stream.send(b"x")
        with pytest.raises(NegotiationError, match="does not speak"):
            await stream.receive()
        assert ECHO not in bob.peerstore.protocols(alice.id)


async def test_a_new_handler_is_pushed_to_connected_peers() -> None:
    async with memory_hosts(2) as (alice, bob):
        await bob.connect(alice.peer_info)
        alice.set_stream_handler(ECHO, echo)
        await until_quiet()
        assert ECHO in bob.peerstore.protocols(alice.id)
        alice.remove_stream_handler(ECHO)
        await until_quiet()
        assert ECHO not in bob.peerstore.protocols(alice.id)


async def test_many_streams_at_once_read_and_write_more_than_the_connection_queues() -> None:
    """Optimistic proposals are flushed by readers while writers wait for the connection."""
    sent = bytes(range(256)) * 600

    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(ECHO, echo)
        await bob.connect(alice.peer_info)
        received: list[int] = []

        async def one() -> None:
            async with await bob.new_stream(alice.id, [ECHO]) as stream, anyio.create_task_group() as tasks:

                async def write() -> None:
                    await anyio.wait_all_tasks_blocked()
                    for start in range(0, len(sent), 50_000):
                        await stream.send(sent[start : start + 50_000])
                    await stream.send_eof()

                tasks.start_soon(write)
                received.append(sum([len(piece) async for piece in stream]))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for _ in range(60):
                    tasks.start_soon(one)
        assert received == [len(sent)] * 60


async def test_a_raw_handler_gets_streams_before_negotiation() -> None:
    first = bytearray()

    async def raw(stream: Stream) -> None:
        first.extend(await stream.receive(20))
        await stream.aclose()

    async with memory_hosts(2) as (alice, bob):
        await bob.connect(alice.peer_info)
        alice.network.set_stream_handler(raw)
        with pytest.raises(NegotiationError):
            await bob.new_stream(alice.id, "/any/1.0.0")
        assert first == b"\x13/multistream/1.0.0\n"


# --- peers that come back changed ----------------------------------------------------------------------------------


async def change_unheard(alice: Host, bob: Host, protocols: list[str]) -> None:
    """Let alice serve other protocols from now on, of which bob hears when they meet again."""
    await bob.connect(alice.peer_info)
    await bob.network.close_peer(alice.id)
    await until_quiet()
    for protocol in (ECHO, NEWER):
        alice.remove_stream_handler(protocol)
    for protocol in protocols:
        alice.set_stream_handler(protocol, echo)


@pytest.mark.parametrize("identifies", [True, False])
async def test_what_an_earlier_connection_told_chooses_no_protocol_that_is_gone(identifies: bool) -> None:
    async with memory_hosts(2) as (alice, bob):
        for protocol in (ECHO, NEWER):
            alice.set_stream_handler(protocol, echo)
        await change_unheard(alice, bob, [ECHO])
        if not identifies:
            alice.remove_stream_handler(IDENTIFY)
        for _ in range(2):
            async with await bob.new_stream(alice.id, [NEWER, ECHO]) as stream:
                assert stream.protocol == ECHO
                await stream.send(b"x")
                assert await stream.receive_exactly(1) == b"x"


async def test_what_an_earlier_connection_did_not_tell_is_chosen_if_it_is_preferred() -> None:
    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(ECHO, echo)
        await change_unheard(alice, bob, [ECHO, NEWER])
        async with await bob.new_stream(alice.id, [NEWER, ECHO]) as stream:
            assert stream.protocol == NEWER


async def test_streams_of_the_network_itself_choose_by_no_earlier_connection_either() -> None:
    async with memory_hosts(2) as (alice, bob):
        for protocol in (ECHO, NEWER):
            alice.set_stream_handler(protocol, echo)
        await change_unheard(alice, bob, [ECHO])
        async with await bob.network.new_stream(alice.id, [NEWER, ECHO]) as stream:
            assert stream.protocol == ECHO


async def test_a_single_protocol_that_is_gone_is_told_at_the_first_receive_and_then_at_once() -> None:
    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(ECHO, echo)
        await change_unheard(alice, bob, [])
        async with await bob.new_stream(alice.id, ECHO) as stream:
            with pytest.raises(NegotiationError, match="does not speak"):
                await stream.receive()
        with pytest.raises(NegotiationError, match="speaks none of"):
            await bob.new_stream(alice.id, ECHO)

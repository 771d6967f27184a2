"""Light hosts: they meet, talk, lose messages, fall silent and leave as hosts do."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from py_p2pstack.core.notifications import PeerConnected, PeerDisconnected, PeerIdentified
from py_p2pstack.core.stream import Stream
from py_p2pstack.core.types import Connectedness
from py_p2pstack.errors import (
    ConnectionClosed,
    DialBackoff,
    DialError,
    MessageTooLarge,
    NegotiationError,
    NetworkError,
    OperationTimeout,
    StreamReset,
)
from py_p2pstack.identity import PrivateKey
from py_p2pstack.testing import virtual_time
from py_p2pstack.testing.light_host import LightHost
from py_p2pstack.testing.light_network import LightNetwork
from py_p2pstack.testing.light_simulation import public_address
from py_p2pstack.wire import framing

ECHO = "/echo/1"


async def echo(stream: Stream) -> None:
    while True:
        await stream.send_message(await stream.receive_message(1000))


@asynccontextmanager
async def hosts(count: int = 2, *, loss: float = 0.0) -> AsyncIterator[list[LightHost]]:
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(LightNetwork(random.Random(1), loss=loss))
        made = []
        for index in range(count):
            rng = random.Random(index)
            key = PrivateKey.from_seed(rng.randbytes(32)).public_key
            made.append(LightHost(network, f"n{index}", key, public_address(index), rng))
            made[-1].set_stream_handler(ECHO, echo)
            await stack.enter_async_context(made[-1])
        yield made


@pytest.fixture(params=["asyncio", "trio"])
def play(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    return lambda scenario: virtual_time.run(scenario, backend=request.param)


Play = Callable[[Callable[[], Awaitable[None]]], None]


def test_they_connect_identify_and_talk(play: Play) -> None:
    async def scenario() -> None:
        async with hosts() as (alice, bob):
            with bob.events.subscribe(PeerConnected, PeerIdentified) as events:
                await alice.connect(bob.peer_info)
                assert await events.receive() == PeerConnected(alice.id)
                identified = await events.receive()
                assert isinstance(identified, PeerIdentified)
                assert identified.protocols == {ECHO}
            assert bob.peerstore.addresses(alice.id) == alice.addrs
            start = anyio.current_time()
            async with await alice.new_stream(bob.id, ["/other", ECHO]) as stream:
                await stream.send(framing.encode(b"one") + framing.encode(b"two"))
                assert [await stream.receive_message(3) for _ in range(2)] == [b"one", b"two"]
                await stream.send_message(b"long")
                with pytest.raises(MessageTooLarge):
                    await stream.receive_message(3)
            latency = alice.light_network.latency(alice, bob)
            assert anyio.current_time() - start == pytest.approx(4 * latency, abs=0.05)
            with pytest.raises(NegotiationError):
                await alice.new_stream(bob.id, ["/other"])

    play(scenario)


def test_whoever_leaves_says_goodbye_and_refuses_dials(play: Play) -> None:
    async def scenario() -> None:
        async with hosts() as (alice, bob):
            await alice.connect(bob.peer_info)
            stream = await alice.new_stream(bob.id, [ECHO])
            with alice.events.subscribe(PeerDisconnected) as events:
                await bob.__aexit__(None, None, None)
                with anyio.fail_after(1):
                    assert await events.receive() == PeerDisconnected(bob.id)
            with pytest.raises(ConnectionClosed):
                await stream.receive_message(10)
            with anyio.fail_after(1), pytest.raises(DialError) as caught:
                await alice.connect(bob.peer_info)
            assert isinstance(caught.value.attempts[0][1], NetworkError)
            with pytest.raises(DialError) as caught:
                await alice.connect(bob.peer_info)
            assert isinstance(caught.value.attempts[0][1], DialBackoff)
            await bob.__aenter__()

    play(scenario)


def test_whoever_crashes_is_silent_until_a_keepalive_tells(play: Play) -> None:
    async def scenario() -> None:
        async with hosts() as (alice, bob):
            await alice.connect(bob.peer_info)
            alice.light_network.cut(bob.name)
            await anyio.sleep(29)
            assert alice.network.connectedness(bob.id) is Connectedness.CONNECTED
            await anyio.sleep(22)
            assert alice.network.connectedness(bob.id) is Connectedness.NOT_CONNECTED
            with pytest.raises(DialError) as caught:
                await alice.connect(bob.peer_info)
            assert isinstance(caught.value.attempts[0][1], OperationTimeout)

    play(scenario)


def test_a_partition_ends_connections_across_unless_it_heals_before(play: Play) -> None:
    async def scenario() -> None:
        async with hosts(3) as (alice, bob, carol):
            await alice.connect(bob.peer_info)
            await alice.connect(carol.peer_info)
            alice.light_network.partition([["n0", "n1"], ["n2"]])
            await anyio.sleep(10)
            alice.light_network.partition([])
            await anyio.sleep(60)
            assert alice.network.peers() == [bob.id, carol.id]
            alice.light_network.partition([["n0", "n1"], ["n2"]])
            await anyio.sleep(60)
            assert alice.network.peers() == [bob.id]
            assert carol.network.peers() == []

    play(scenario)


def test_lost_messages_never_come_and_the_rest_does(play: Play) -> None:
    async def scenario() -> None:
        async with hosts(loss=0.3) as (alice, bob):
            got = []

            async def collect(stream: Stream) -> None:
                while True:
                    got.append(await stream.receive_message(10))

            bob.set_stream_handler(ECHO, collect)
            await alice.connect(bob.peer_info)
            stream = await alice.new_stream(bob.id, [ECHO])
            sent = [b"%d" % number for number in range(1000)]
            for message in sent:
                await stream.send_message(message)
            await stream.send_eof()
            await anyio.sleep(1)
            assert got == [message for message in sent if message in set(got)]
            assert 650 < len(got) < 750

    play(scenario)


def test_a_reset_reaches_the_other_side(play: Play) -> None:
    async def scenario() -> None:
        async with hosts() as (alice, bob):

            async def refuse(stream: Stream) -> None:
                await stream.receive_message(10)
                stream.reset(7)

            bob.set_stream_handler(ECHO, refuse)
            await alice.connect(bob.peer_info)
            stream = await alice.new_stream(bob.id, [ECHO])
            await stream.send_message(b"hello")
            with pytest.raises(StreamReset) as caught:
                await stream.receive_message(10)
            assert (caught.value.code, caught.value.remote) == (7, True)
            assert not stream.connection.streams

    play(scenario)


def test_connections_above_the_watermark_are_closed(play: Play) -> None:
    async def scenario() -> None:
        async with hosts(201) as (hub, *others):
            async with anyio.create_task_group() as tasks:
                for other in others:
                    tasks.start_soon(other.connect, hub.peer_info)
            assert len(hub.network.conns()) == 200
            await anyio.sleep(90)
            assert len(hub.network.conns()) == 160

    play(scenario)


def test_addresses_lie_in_groups_of_their_own() -> None:
    addresses = [public_address(index) for index in range(60_000)]
    assert len(set(addresses)) == 60_000
    groups = {str(address).rpartition(".")[0].rpartition(".")[0] for address in addresses[:51_000]}
    assert len(groups) == 51_000

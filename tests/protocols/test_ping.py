"""Claims about ping."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

from py_p2pstack import HostConfig, Stream
from py_p2pstack.errors import OperationTimeout, RemoteProtocolError
from py_p2pstack.protocols.ping import PROTOCOL
from py_p2pstack.testing import virtual_time
from tests.hosts import memory_hosts, until_quiet

pytestmark = pytest.mark.anyio


async def test_a_ping_takes_a_round_trip_and_is_remembered() -> None:
    async with memory_hosts(2) as (alice, bob):
        await bob.connect(alice.peer_info)
        assert 0 < await bob.ping(alice.id) < 5
        assert bob.peerstore.latency(alice.id) is not None


async def test_pings_share_a_stream_that_ends_with_the_iterator() -> None:
    async with memory_hosts(2) as (alice, bob):
        await bob.connect(alice.peer_info)
        async with aclosing(bob.pings(alice.id)) as rounds:
            for _ in range(5):
                await anext(rounds)
            streams = [stream for stream in bob.network.conns()[0].streams if stream.protocol == PROTOCOL]
            assert len(streams) == 1
        await until_quiet()
        assert not bob.network.conns()[0].streams
        assert not alice.network.conns()[0].streams


async def test_another_answer_is_the_peers_fault() -> None:
    async def wrong(stream: Stream) -> None:
        await stream.receive_exactly(32)
        await stream.send(bytes(32))

    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(PROTOCOL, wrong)
        with pytest.raises(RemoteProtocolError, match="other bytes"):
            await bob.connect(alice.peer_info)
            await bob.ping(alice.id)


async def test_a_stream_closed_instead_of_answered_is_the_peers_fault() -> None:
    async def rude(stream: Stream) -> None:
        await stream.receive_exactly(32)

    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(PROTOCOL, rude)
        await bob.connect(alice.peer_info)
        with pytest.raises(RemoteProtocolError, match="instead of answering"):
            await bob.ping(alice.id)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_answer_ends_in_a_timeout(backend: str) -> None:
    async def silent(stream: Stream) -> None:
        await anyio.sleep_forever()

    async def main() -> float:
        options = [{}, {"config": HostConfig(ping_timeout=3)}]
        async with memory_hosts(2, latency=0.01, options=options) as (alice, bob):
            alice.set_stream_handler(PROTOCOL, silent)
            await bob.connect(alice.peer_info)
            start = anyio.current_time()
            with pytest.raises(OperationTimeout, match="within 3 s"):
                await bob.ping(alice.id)
            return anyio.current_time() - start

    assert virtual_time.run(main, backend=backend) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_peer_that_falls_silent_loses_its_stream_after_a_minute(backend: str) -> None:
    async def main() -> int:
        async with memory_hosts(2, latency=0.01) as (alice, bob):
            await bob.connect(alice.peer_info)
            stream = await bob.new_stream(alice.id, PROTOCOL)
            await stream.send(bytes(32))
            await stream.receive_exactly(32)
            await anyio.sleep(59)
            before = len(alice.network.conns()[0].streams)
            await anyio.sleep(3)
            return before - len(alice.network.conns()[0].streams)

    assert virtual_time.run(main, backend=backend) == 1

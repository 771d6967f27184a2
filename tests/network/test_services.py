"""A handler says of which service its streams are; the limits of a service hold for all its protocols together."""

from __future__ import annotations

import pytest

from py_p2pstack import HostConfig, Stream
from py_p2pstack.errors import NegotiationError, StreamReset
from py_p2pstack.network.resources import ResourceLimits, ScopeLimit
from tests.hosts import ECHO, echo, exchange, memory_hosts

pytestmark = pytest.mark.anyio

OLD, NEW = "/word/1.0.0", "/word/2.0.0"


async def word(stream: Stream) -> None:
    stream.set_service("word")
    await stream.send(b"word")
    await stream.receive()


async def test_two_protocols_of_one_service_share_its_limit() -> None:
    limits = ResourceLimits(services={"word": ScopeLimit(streams_inbound=1)})
    async with memory_hosts(2, options=[{"config": HostConfig(resources=limits)}]) as (alice, bob):
        for protocol in (OLD, NEW):
            alice.set_stream_handler(protocol, word)
        alice.set_stream_handler(ECHO, echo)
        await bob.connect(alice.peer_info)
        first = await bob.new_stream(alice.id, OLD)
        assert await first.receive() == b"word"
        second = await bob.new_stream(alice.id, NEW)
        with pytest.raises(StreamReset):
            await second.receive()
        assert alice.network.resources.stats().services["word"].streams_inbound == 1
        assert await exchange(bob, alice) == b"hello"  # other services are none the worse
        await first.aclose()


async def test_our_own_services_have_scopes_of_theirs() -> None:
    limits = ResourceLimits(services={"ping": ScopeLimit(streams=0)})
    async with memory_hosts(2, options=[{"config": HostConfig(resources=limits)}]) as (alice, bob):
        await bob.connect(alice.peer_info)
        with pytest.raises((StreamReset, NegotiationError)):
            await bob.ping(alice.id)
        stats = alice.network.resources.stats()
        assert stats.services["identify"].streams_inbound == 0
        assert stats.refusals == {"service": 1}

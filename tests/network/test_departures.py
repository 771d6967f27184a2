"""Peers that went: kept for a while, then forgotten, and never more of them than the bound."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import HostConfig
from py_p2pstack.network.config import SwarmConfig
from py_p2pstack.network.departures import Departures
from py_p2pstack.testing import virtual_time
from tests.hosts import ECHO, echo, memory_hosts
from tests.peer_ids import peer


def test_who_went_is_due_once_when_the_grace_is_over() -> None:
    departures = Departures(grace=60.0, most=10)
    departures.went(peer(1), 0.0)
    departures.went(peer(2), 10.0)
    assert departures.take_due(59.0) == []
    assert departures.take_due(60.0) == [peer(1)]
    assert departures.take_due(60.0) == []
    assert departures.take_due(1000.0) == [peer(2)]
    assert len(departures) == 0


def test_who_comes_back_is_not_due_and_its_grace_begins_anew_when_it_goes_again() -> None:
    departures = Departures(grace=60.0, most=10)
    departures.went(peer(1), 0.0)
    departures.came(peer(1))
    departures.came(peer(2))
    assert departures.take_due(60.0) == []
    departures.went(peer(1), 50.0)
    departures.went(peer(3), 55.0)
    departures.went(peer(1), 60.0)
    assert departures.take_due(115.0) == [peer(3)]
    assert departures.take_due(120.0) == [peer(1)]


def test_beyond_the_bound_the_longest_gone_are_due_at_once() -> None:
    departures = Departures(grace=60.0, most=3)
    for number in range(5):
        departures.went(peer(number), 0.0)
    assert departures.take_due(1.0) == [peer(0), peer(1)]
    assert len(departures) == 3


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_a_peer_told_is_forgotten_a_while_after_it_went_and_of_those_connected_nothing(backend: str) -> None:
    config = HostConfig(swarm=SwarmConfig(forget_after=60.0))

    async def main() -> None:
        async with memory_hosts(3, options=[{"config": config}]) as (alice, bob, carol):
            bob.set_stream_handler(ECHO, echo)
            for other in (bob, carol):
                await alice.connect(other.peer_info)
            await alice.network.close_peer(bob.id)
            await anyio.sleep(50)
            assert ECHO in alice.peerstore.protocols(bob.id)
            await anyio.sleep(20)
            assert alice.peerstore.protocols(bob.id) == frozenset()
            assert alice.peerstore.get(bob.id, "AgentVersion") is None
            assert alice.peerstore.addresses(bob.id)  # they have a life of their own
            assert alice.peerstore.get(carol.id, "AgentVersion") is not None

    virtual_time.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_peer_that_comes_back_within_the_grace_stays_known(backend: str) -> None:
    config = HostConfig(swarm=SwarmConfig(forget_after=60.0))

    async def main() -> None:
        async with memory_hosts(2, options=[{"config": config}]) as (alice, bob):
            bob.set_stream_handler(ECHO, echo)
            for _ in range(2):
                await alice.connect(bob.peer_info)
                await alice.network.close_peer(bob.id)
                await anyio.sleep(40)
            await alice.connect(bob.peer_info)
            await anyio.sleep(100)
            assert ECHO in alice.peerstore.protocols(bob.id)

    virtual_time.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_of_strangers_that_come_and_go_no_more_are_known_than_the_bound(backend: str) -> None:
    config = HostConfig(swarm=SwarmConfig(max_departures=4))

    async def main() -> None:
        async with memory_hosts(11, options=[{"config": config}]) as (alice, *others):
            for other in others:
                await other.connect(alice.peer_info)
                await other.network.close_peer(alice.id)
            await anyio.sleep(2)
            known = [other for other in others if alice.peerstore.protocols(other.id)]
            assert known == others[-4:]

    virtual_time.run(main, backend=backend)

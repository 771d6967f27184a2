"""Happy eyeballs across transports, in virtual time: the production dialer, ranker and transports on one internet.

A round trip is 50 ms. From its start an attempt takes one over QUIC, two over TCP, three over WebSocket. Public
addresses follow one another 250 ms apart, QUIC first, IPv6 before IPv4, and at once when nothing else is in flight; see
`dial_ranker`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest

from py_p2pstack import Host
from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import DialError, OperationTimeout
from py_p2pstack.network.resolver import StaticResolver
from py_p2pstack.testing import virtual_time
from py_p2pstack.transports.tcp import TcpTransport
from tests.hosts import key
from tests.network.internet import HOME, Internet, internet

V4, V6 = "1.2.3.4", "2a00::2"
QUIC4, QUIC6 = f"/ip4/{V4}/udp/4001/quic-v1", f"/ip6/{V6}/udp/4001/quic-v1"
TCP4, TCP6 = f"/ip4/{V4}/tcp/4001", f"/ip6/{V6}/tcp/4001"
WS4, WS6 = f"/ip4/{V4}/tcp/4002/ws", f"/ip6/{V6}/tcp/4002/ws"
LAN = "/ip4/192.168.1.2/tcp/4001"
ALL = frozenset((QUIC6, QUIC4, TCP6, TCP4, WS6, WS4))
TRIP = 0.050


@dataclass(frozen=True, kw_only=True)
class Ways:
    """The ways to bob, and what is wrong with them."""

    known: Collection[str] = ALL
    """His addresses, as alice knows them."""
    served: Collection[str] = ALL | {LAN}
    """Where he listens: elsewhere a connection is refused."""
    silent: Collection[str] = ()
    """Addresses that swallow what they are sent."""
    unreachable: Collection[str] = ()
    """Hosts without a route."""
    trips: Mapping[str, float] = field(default_factory=dict)
    """Seconds of a round trip, where it is not `TRIP`."""


def _raw(address: str) -> str:
    return address.removesuffix("/ws")


@asynccontextmanager
async def world_of(ways: Ways) -> AsyncIterator[tuple[Internet, Host, Host]]:
    """The internet, alice, and bob, of whom she knows the addresses."""
    trips = {HOME: TRIP, **ways.trips}

    def host(number: int, listen: Collection[str]) -> Host:
        return Host(identity=key(number), listen=sorted(listen), resolver=StaticResolver(), clock=anyio.current_time)

    async with internet(lambda _, other: trips.get(other, TRIP) / 2) as world:
        world.silent |= set(map(_raw, ways.silent))
        world.unreachable |= set(ways.unreachable)
        async with host(1, ways.served) as bob, host(2, ()) as alice:
            alice.peerstore.add_addresses(bob.id, [Multiaddr.parse(known) for known in ways.known], 3600)
            yield world, alice, bob


def held(host: Host) -> tuple[int, int]:
    """Connections and descriptors in a host's books; attempts count as the connections they may become."""
    system = host.network.resources.stats().system
    return system.connections_inbound + system.connections_outbound, system.file_descriptors


BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@BACKENDS
@pytest.mark.parametrize(
    ("ways", "wins", "after", "attempts"),
    [
        pytest.param(Ways(), QUIC6, 0.05, {QUIC6: 0}, id="the first is as good as any"),
        pytest.param(Ways(silent={QUIC6, QUIC4}), TCP6, 0.6, {QUIC6: 0, QUIC4: 0.25, TCP6: 0.5}, id="UDP is swallowed"),
        pytest.param(Ways(silent={QUIC6, TCP6, WS6}), QUIC4, 0.3, {QUIC6: 0, QUIC4: 0.25}, id="IPv6 is swallowed"),
        pytest.param(Ways(unreachable={V6}), QUIC4, 0.05, {QUIC4: 0}, id="no IPv6 here"),
        pytest.param(Ways(known={TCP6, TCP4}, unreachable={V6}), TCP4, 0.1, {TCP6: 0, TCP4: 0}, id="nor for TCP"),
        pytest.param(
            Ways(silent=ALL - {TCP4}),
            TCP4,
            0.85,
            {QUIC6: 0, QUIC4: 0.25, TCP6: 0.5, TCP4: 0.75},
            id="one way alone, silence elsewhere",
        ),
        pytest.param(
            Ways(silent=ALL - {WS4}),
            WS4,
            1.4,
            {QUIC6: 0, QUIC4: 0.25, TCP6: 0.5, TCP4: 0.75, WS6: 1, WS4: 1.25},
            id="the last of them alone",
        ),
        pytest.param(
            Ways(known=ALL - {QUIC6, QUIC4}, served={WS4}),
            WS4,
            0.3,
            {TCP6: 0, TCP4: 0.05, WS6: 0.1, WS4: 0.15},
            id="refused one after the other",
        ),
        pytest.param(
            Ways(known={TCP6, TCP4}, trips={V6: 0.4}), TCP4, 0.35, {TCP6: 0, TCP4: 0.25}, id="the first too slow"
        ),
        pytest.param(
            Ways(known={TCP6, TCP4}, trips={V6: 0.15}), TCP6, 0.3, {TCP6: 0, TCP4: 0.25}, id="the first just in time"
        ),
        pytest.param(
            Ways(known={WS6, TCP4}, trips={V6: 0.11}),
            WS6,
            0.33,
            {WS6: 0, TCP4: 0.25},
            id="the second in the middle of its handshake",
        ),
        pytest.param(
            Ways(known={LAN, QUIC4, TCP4}, trips={"192.168.1.2": 0.002}),
            LAN,
            0.004,
            {LAN: 0, QUIC4: 0},
            id="the same network beside the internet",
        ),
    ],
)
def test_the_best_live_address_wins_at_its_time(
    ways: Ways, wins: str, after: float, attempts: dict[str, float], backend: str
) -> None:
    async def main() -> None:
        async with world_of(ways) as (world, alice, bob):
            start = anyio.current_time()
            connection = await alice.network.dial_peer(bob.id)
            assert anyio.current_time() - start == pytest.approx(after)
            assert str(connection.info.remote_address) == wins
            # Whoever lost has left nothing, on either side, and nobody begins any more.
            await anyio.sleep(30)
            begun = {address: at - start for at, address in world.dialled}
            assert begun == pytest.approx({_raw(address): at for address, at in attempts.items()})
            assert alice.network.conns() == [connection]
            assert len(bob.network.conns()) == 1
            assert world.open == (2 if "tcp" in wins else 1)
            assert held(alice) == held(bob) == (1, "tcp" in wins)
            await connection.aclose()
            await anyio.sleep(1)
            assert (world.open, held(alice), held(bob)) == (0, (0, 0), (0, 0))

    virtual_time.run(main, backend=backend)


@BACKENDS
def test_of_two_that_arrive_at_once_one_is_kept(backend: str) -> None:
    ways = Ways(known={TCP6, TCP4}, trips={V6: 0.3, V4: 0.175})  # 2 × 300 ms, and 250 ms + 2 × 175 ms

    async def main() -> None:
        async with world_of(ways) as (world, alice, bob):
            await alice.network.dial_peer(bob.id)
            assert anyio.current_time() == pytest.approx(0.6)
            await anyio.sleep(30)
            assert (len(alice.network.conns()), len(bob.network.conns()), world.open) == (1, 1, 2)
            assert held(alice) == held(bob) == (1, 1)

    virtual_time.run(main, backend=backend)


@BACKENDS
def test_somebody_else_at_the_first_address_costs_no_more_than_finding_out(backend: str) -> None:
    async def main() -> None:
        async with world_of(Ways(known={TCP6, TCP4}, served={TCP4})) as (world, alice, bob):
            mallory = Host(identity=key(66), listen=[TCP6], transports=[TcpTransport()], clock=anyio.current_time)
            async with mallory:
                connection = await alice.network.dial_peer(bob.id)
                assert anyio.current_time() == pytest.approx(0.2)
                assert str(connection.info.remote_address) == TCP4
                await anyio.sleep(30)
                assert (mallory.network.conns(), world.open) == ([], 2)

    virtual_time.run(main, backend=backend)


@BACKENDS
def test_when_all_is_silent_each_address_is_told_with_its_own_time_out(backend: str) -> None:
    async def main() -> None:
        async with world_of(Ways(silent=ALL)) as (world, alice, bob):
            with pytest.raises(DialError) as caught:
                await alice.network.dial_peer(bob.id)
            assert anyio.current_time() == pytest.approx(1.25 + 15)  # the last began last
            attempts = {str(address): fault for address, fault in caught.value.attempts}
            assert attempts.keys() == ALL
            assert all(isinstance(fault, OperationTimeout) for fault in attempts.values())
            assert (world.open, held(alice)) == (0, (0, 0))

    virtual_time.run(main, backend=backend)


@BACKENDS
@pytest.mark.parametrize("patience", [0.01, 0.26, 0.51, 0.56, 0.59, 0.76])
def test_a_race_that_is_given_up_leaves_nothing(patience: float, backend: str) -> None:
    ways = Ways(silent={QUIC6, QUIC4}, trips={V6: 0.2})  # TCP over IPv6 would have arrived after 0.9 s

    async def main() -> None:
        async with world_of(ways) as (world, alice, bob):
            with anyio.move_on_after(patience) as scope:
                await alice.network.dial_peer(bob.id)
            assert scope.cancelled_caught
            begun = len(world.dialled)
            await anyio.sleep(30)
            assert (len(world.dialled), world.open, held(alice), held(bob)) == (begun, 0, (0, 0), (0, 0))

    virtual_time.run(main, backend=backend)

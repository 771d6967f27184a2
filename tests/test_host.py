"""Claims about whole hosts: connecting, streams, limits, faults that stay where they are, and endings."""

from __future__ import annotations

import contextlib
import logging

import anyio
import pytest

from py_p2pstack import (
    Connection,
    ConnectionClosed,
    DialError,
    Host,
    HostConfig,
    InvalidAddress,
    ListenError,
    Multiaddr,
    PeerConnected,
    PeerDisconnected,
    PeerIdentified,
    PeerInfo,
    Stream,
    StreamReset,
)
from py_p2pstack.core.error_codes import ConnectionCode
from py_p2pstack.core.types import Connectedness
from py_p2pstack.errors import NetworkError, NotConnected, PeerIdMismatch
from py_p2pstack.network.config import SwarmConfig
from py_p2pstack.network.connection_manager import ConnectionManagerConfig
from tests.hosts import ECHO, echo, exchange, key, memory_hosts, until_quiet

pytestmark = pytest.mark.anyio


async def test_bytes_come_back_from_another_host() -> None:
    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(ECHO, echo)
        await bob.connect(alice.peer_info)
        data = bytes(range(256)) * 1000
        assert await exchange(bob, alice, data) == data


async def test_either_side_of_a_connection_opens_streams() -> None:
    async with memory_hosts(2) as (alice, bob):
        bob.set_stream_handler(ECHO, echo)
        await bob.connect(alice.peer_info)
        assert await exchange(alice, bob) == b"hello"


async def test_hosts_speak_over_tcp() -> None:
    async with Host(listen=["/ip4/127.0.0.1/tcp/0"]) as alice, Host() as bob:
        alice.set_stream_handler(ECHO, echo)
        await bob.connect(str(alice.full_addresses[0]))
        assert await exchange(bob, alice) == b"hello"
        assert bob.network.conns()[0].info.transport == "tcp"


async def test_identify_is_done_when_connect_returns() -> None:
    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(ECHO, echo)
        with bob.events.subscribe(PeerIdentified) as identified:
            await bob.connect(alice.peer_info)
            event = await identified.receive()
        assert event.peer == alice.id
        assert ECHO in bob.peerstore.protocols(alice.id)
        assert bob.peerstore.get(alice.id, "AgentVersion") == "py_p2pstack/0.1.0"
        assert alice.addrs[0] in bob.peerstore.addresses(alice.id)
        assert bob.peerstore.peer_record(alice.id) is not None


async def test_a_fault_in_one_handler_touches_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(stream: Stream) -> None:
        raise ZeroDivisionError

    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler("/broken/1.0.0", broken)
        alice.set_stream_handler(ECHO, echo)
        await bob.connect(alice.peer_info)
        healthy = await bob.new_stream(alice.id, [ECHO])
        await healthy.send(b"before")
        with caplog.at_level(logging.CRITICAL, logger="py_p2pstack"):
            doomed = await bob.new_stream(alice.id, ["/broken/1.0.0"])
            await doomed.send(b"x")
            with pytest.raises(StreamReset):
                await doomed.receive()
        assert await healthy.receive_exactly(6) == b"before"
        assert await exchange(bob, alice) == b"hello"
        assert len(bob.network.conns()) == 1


# --- dialling ------------------------------------------------------------------------------------------------------


async def test_another_identity_than_the_one_dialled_is_refused() -> None:
    async with memory_hosts(2) as (alice, bob):
        stranger = key(99).public_key.peer_id()
        with pytest.raises(DialError) as caught:
            await bob.connect(PeerInfo(stranger, tuple(alice.addrs)))
        assert isinstance(caught.value.attempts[0][1], PeerIdMismatch)
        await until_quiet()
        assert not bob.network.conns()
        assert not alice.network.conns()


async def test_a_dial_error_tells_the_cause_of_each_address() -> None:
    async with memory_hosts(2) as (alice, bob):
        addresses = (Multiaddr.parse("/memory/7"), Multiaddr.parse("/ip4/127.0.0.1/udp/1/quic-v1"))
        with pytest.raises(DialError) as caught:
            await bob.connect(PeerInfo(alice.id, addresses))
        assert {str(address) for address, _ in caught.value.attempts} == {str(address) for address in addresses}
        assert "nobody accepts" in str(caught.value)
        assert "no transport" in str(caught.value)


async def test_an_address_that_failed_is_left_alone_for_a_while() -> None:
    async with memory_hosts(2) as (alice, bob):
        nowhere = PeerInfo(alice.id, (Multiaddr.parse("/memory/7"),))
        for expected in ("nobody accepts", "in backoff"):
            with pytest.raises(DialError, match=expected):
                await bob.connect(nowhere)
        await bob.connect(alice.peer_info)


async def test_dialling_oneself_or_an_unknown_peer_fails_at_once() -> None:
    async with memory_hosts(1) as (alice,):
        with pytest.raises(DialError, match="ourselves"):
            await alice.connect(alice.peer_info)
        with pytest.raises(DialError, match="no known addresses"):
            await alice.network.dial_peer(key(99).public_key.peer_id())
        with pytest.raises(NotConnected):
            await alice.network.new_stream(key(99).public_key.peer_id(), [ECHO], dial=False)
        with pytest.raises(InvalidAddress):
            await alice.connect("/memory/1")


async def test_a_dead_first_address_does_not_make_a_peer_unreachable() -> None:
    async with memory_hosts(2) as (alice, bob):
        await bob.connect(PeerInfo(alice.id, (Multiaddr.parse("/memory/7"), *alice.addrs)))
        assert bob.network.connectedness(alice.id) is Connectedness.CONNECTED


async def test_concurrent_dials_share_one_connection() -> None:
    async with memory_hosts(2, latency=0.001) as (alice, bob):
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(bob.connect, alice.peer_info)
        assert len(bob.network.conns()) == 1
        assert len(alice.network.conns()) == 1


async def test_a_cancelled_dial_leaves_nothing_behind() -> None:
    async with memory_hosts(2, latency=0.005) as (alice, bob):
        for delay in (0.0, 0.004, 0.012, 0.021, 0.031):
            with anyio.move_on_after(delay):
                await bob.connect(alice.peer_info)
            for host in (alice, bob):
                await host.network.close_peer(alice.id if host is bob else bob.id)
        with anyio.fail_after(30):
            while (
                alice.network.resources.stats().system.connections_inbound
                or bob.network.resources.stats().system.connections_outbound
            ):
                await anyio.sleep(0.002)
        assert not len(bob.network._dials)
        assert not alice.network.conns()
        assert not bob.network.conns()


# --- what the network tells ----------------------------------------------------------------------------------------


class Recorder:
    """A notifiee that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def connected(self, connection: Connection) -> None:
        self.told.append("connected")

    def disconnected(self, connection: Connection) -> None:
        self.told.append("disconnected")

    def listening(self, address: Multiaddr) -> None:
        self.told.append(f"listening {address}")

    def listen_closed(self, address: Multiaddr) -> None:
        self.told.append(f"closed {address}")


async def test_notifiees_and_events_tell_what_happens() -> None:
    recorder = Recorder()
    async with memory_hosts(2) as (alice, bob):
        bob.network.notify(recorder)
        with bob.events.subscribe(PeerConnected, PeerDisconnected) as events:
            await bob.connect(alice.peer_info)
            await bob.network.listen(Multiaddr.parse("/memory/5"))
            await bob.network.close_peer(alice.id)
            assert await events.receive() == PeerConnected(alice.id)
            assert await events.receive() == PeerDisconnected(alice.id)
        assert recorder.told == ["connected", "listening /memory/5", "disconnected"]
        bob.network.stop_notify(recorder)
    assert len(recorder.told) == 3


async def test_a_raising_notifiee_is_contained(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Recorder):
        def connected(self, connection: Connection) -> None:
            raise ZeroDivisionError

    recorder = Recorder()
    async with memory_hosts(2) as (alice, bob):
        bob.network.notify(Broken())
        bob.network.notify(recorder)
        with caplog.at_level(logging.CRITICAL, logger="py_p2pstack"):
            await bob.connect(alice.peer_info)
        assert recorder.told == ["connected"]


# --- endings -------------------------------------------------------------------------------------------------------


async def test_an_exception_of_the_block_leaves_the_host_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with memory_hosts(1):
            raise ZeroDivisionError


async def test_closing_a_connection_ends_its_streams_on_both_sides_and_tells_the_code() -> None:
    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(ECHO, echo)
        await bob.connect(alice.peer_info)
        stream = await bob.new_stream(alice.id, [ECHO])
        await stream.send(b"x")
        await stream.receive_exactly(1)
        theirs = alice.network.conns()[0]
        await bob.network.conns()[0].aclose(ConnectionCode.SUPPLANTED)
        with pytest.raises(ConnectionClosed):
            await stream.receive()
        with pytest.raises(ConnectionClosed):
            await stream.send(b"x")
        await until_quiet()
        assert isinstance(theirs.close_reason, ConnectionClosed)
        assert theirs.close_reason.remote
        assert theirs.close_reason.code == ConnectionCode.SUPPLANTED
        assert not alice.network.conns()


async def test_bytes_sent_before_the_host_ends_still_arrive() -> None:
    received = bytearray()
    done = anyio.Event()

    async def take(stream: Stream) -> None:
        async for data in stream:
            received.extend(data)
        done.set()

    async with Host(listen=["/ip4/127.0.0.1/tcp/0"]) as alice:
        alice.set_stream_handler("/take/1.0.0", take)
        async with Host() as bob:
            await bob.connect(alice.peer_info)
            async with await bob.new_stream(alice.id, "/take/1.0.0") as stream:
                await stream.send(bytes(200_000))
        with anyio.fail_after(30):
            await done.wait()
    assert len(received) == 200_000


async def test_a_closed_host_dials_and_listens_no_more() -> None:
    async with memory_hosts(2) as (alice, bob):
        await bob.aclose()
        with pytest.raises(NetworkError, match="closed"):
            await bob.connect(alice.peer_info)
        with pytest.raises(DialError):
            await alice.connect(PeerInfo(bob.id, (Multiaddr.parse("/memory/1001"),)))
        await bob.aclose()


async def test_slots_come_back_when_connections_end() -> None:
    async with memory_hosts(2) as (alice, bob):
        alice.set_stream_handler(ECHO, echo)
        for _ in range(30):
            await bob.connect(alice.peer_info)
            assert await exchange(bob, alice) == b"hello"
            await bob.network.close_peer(alice.id)
            await until_quiet()
        for host in (alice, bob):
            system = host.network.resources.stats().system
            assert (system.connections_inbound, system.connections_outbound) == (0, 0)
            assert (system.streams_inbound, system.streams_outbound) == (0, 0)
            assert not host.network.conns()
            assert not host.network._workers.running


async def test_a_taken_port_is_an_error_never_shared() -> None:
    async with Host(listen=["/ip4/127.0.0.1/tcp/0"]) as alice:
        with pytest.raises(ListenError, match="already in use"):
            async with Host(listen=[alice.addrs[0]]):
                pass


async def test_an_address_no_transport_knows_cannot_be_listened_on() -> None:
    with pytest.raises(ListenError, match="no transport"):
        async with Host(listen=["/ip4/127.0.0.1/udp/0/webrtc-direct"]):
            pass


async def test_announced_addresses_are_told_instead_of_those_listened_on() -> None:
    options = [{"announce": ["/memory/1000", "/dns4/alice.example/tcp/4001"]}]
    async with memory_hosts(2, options=options) as (alice, bob):
        await bob.connect(PeerInfo(alice.id, (Multiaddr.parse("/memory/1000"),)))
        assert Multiaddr.parse("/dns4/alice.example/tcp/4001") in bob.peerstore.addresses(alice.id)


async def test_surplus_connections_are_trimmed_with_a_code() -> None:
    config = HostConfig(
        swarm=SwarmConfig(tick_interval=0.01, trim_interval=0.01),
        connections=ConnectionManagerConfig(low_water=1, high_water=2, grace_period=0, silence_period=0),
    )
    async with memory_hosts(5, options=[{"config": config}]) as (alice, *others):
        alice.conn_manager.protect(others[0].id, "friend")
        await others[0].connect(alice.peer_info)
        for other in others[1:]:
            with contextlib.suppress(DialError):  # trimmed before connect returned
                await other.connect(alice.peer_info)
        with anyio.fail_after(30):
            while len(alice.network.conns()) > 1:
                await anyio.sleep(0.005)
        assert alice.network.peers() == [others[0].id]

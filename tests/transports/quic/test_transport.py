"""Hosts and transports over QUIC's sockets: addresses, hosts, bounds, ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack import Host, HostConfig
from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import MuxedConnection, MuxedStream
from py_p2pstack.errors import (
    DialError,
    HandshakeError,
    ListenError,
    P2PError,
    PeerIdMismatch,
    ResourceLimitExceeded,
    UnsupportedAddress,
)
from py_p2pstack.identity import KeyType, PrivateKey
from py_p2pstack.transports.quic import QuicConfig
from py_p2pstack.transports.quic.connection import QuicConnection
from tests.transports.quic.machines import credentials
from tests.transports.quic.pairs import LOOPBACK, Gate, connected, into, listening, transport

pytestmark = pytest.mark.anyio


def quic(text: str) -> Multiaddr:
    return Multiaddr.parse(text)


# --- addresses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "dial", "listen"),
    [
        ("/ip4/127.0.0.1/udp/4001/quic-v1", True, True),
        ("/ip6/::1/udp/4001/quic-v1", True, True),
        ("/ip6zone/lo/ip6/fe80::1/udp/4001/quic-v1", True, True),
        ("/ip4/127.0.0.1/udp/0/quic-v1", False, True),
        ("/ip4/127.0.0.1/udp/4001", False, False),
        ("/ip4/127.0.0.1/udp/4001/quic", False, False),
        ("/ip4/127.0.0.1/udp/4001/quic-v1/webtransport", False, False),
        ("/ip4/127.0.0.1/tcp/4001", False, False),
    ],
)
def test_addresses_are_told_apart(text: str, dial: bool, listen: bool) -> None:
    mine = transport()
    assert mine.can_dial(quic(text)) is dial
    assert mine.can_listen(quic(text)) is listen


async def test_what_is_no_quic_address_is_refused() -> None:
    mine = transport()
    with pytest.raises(UnsupportedAddress):
        await mine.dial(quic("/ip4/127.0.0.1/tcp/1"), None)
    with pytest.raises(ListenError):
        await mine.listen(quic("/ip4/127.0.0.1/tcp/1"))


async def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ListenError, match="in use"):
            await transport().listen(quic(f"/ip4/127.0.0.1/udp/{taken.getsockname()[1]}/quic-v1"))


@pytest.mark.parametrize("address", [LOOPBACK, "/ip6/::1/udp/0/quic-v1"])
async def test_a_dial_leaves_from_the_port_we_listen_on(address: str) -> None:
    gate = Gate()
    server, client = transport(), transport()
    async with listening(server, gate, address) as theirs, listening(client, Gate(), address) as ours:
        connection = await client.dial(theirs.address, None)
        await gate.came.wait()
        assert connection.info.local_address == ours.address
        assert gate.connections[0].info.remote_address == ours.address
        connection.close()


async def test_sockets_are_closed_when_nobody_needs_them() -> None:
    client = transport()
    gate = Gate()
    async with listening(transport(), gate) as listener:
        connection = await client.dial(listener.address, None)
        assert repr(client) == "<QuicTransport 1 sockets>"
        connection.close()
        assert repr(client) == "<QuicTransport 0 sockets>"


# --- hosts ------------------------------------------------------------------------------------------


async def test_hosts_talk_over_quic_alone() -> None:
    async with Host(listen=[LOOPBACK]) as bob, Host() as alice:
        await alice.connect(f"{bob.addrs[0]}/p2p/{bob.id}")
        [connection] = alice.network.conns()
        assert connection.info.transport == "quic-v1"
        assert await alice.ping(bob.id) < 5.0
        assert alice.peerstore.get(bob.id, "AgentVersion") is not None


async def test_a_host_that_dials_another_than_it_finds_says_so() -> None:
    stranger = PrivateKey.generate(KeyType.ED25519).public_key.peer_id()
    async with Host(listen=[LOOPBACK]) as bob, Host() as alice:
        with pytest.raises(DialError) as failed:
            await alice.connect(f"{bob.addrs[0]}/p2p/{stranger}")
        [(_, cause)] = failed.value.attempts
        assert isinstance(cause, PeerIdMismatch)
        assert not bob.network.conns()


async def test_a_host_in_a_private_network_speaks_no_quic() -> None:
    key = os.urandom(32)
    with pytest.raises(ListenError):
        async with Host(listen=[LOOPBACK], psk=key):
            pass
    async with Host(listen=[LOOPBACK]) as bob, Host(psk=key) as alice:
        with pytest.raises(DialError):
            await alice.connect(f"{bob.addrs[0]}/p2p/{bob.id}")


async def test_without_the_extra_hosts_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("qh3", "py_p2pstack.transports.quic.credentials"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "py_p2pstack.transports.quic.tls", raising=False)
    monkeypatch.setitem(sys.modules, "qh3", None)
    with pytest.raises(ListenError, match=r"py-p2pstack\[quic\]"):
        await transport().listen(quic(LOOPBACK))
    with pytest.raises(UnsupportedAddress, match=r"py-p2pstack\[quic\]"):
        await transport().dial(quic("/ip4/127.0.0.1/udp/1/quic-v1"), None)


def test_a_host_that_needs_no_quic_does_not_load_it() -> None:
    code = """
import sys, anyio
from py_p2pstack import Host
async def main():
    async with Host(listen=["/ip4/127.0.0.1/tcp/0"]) as bob, Host() as alice:
        await alice.connect(f"{bob.addrs[0]}/p2p/{bob.id}")
anyio.run(main)
assert not [name for name in sys.modules if name.startswith("qh3")]
assert "py_p2pstack.transports.quic.machine" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- bounds -----------------------------------------------------------------------------------------


async def test_opening_waits_until_the_peer_allows_another_stream() -> None:
    async with (
        connected(QuicConfig(max_inbound_streams=2, open_timeout=0.2)) as (alice, bob),
        anyio.create_task_group() as tasks,
    ):
        arrived: list[MuxedStream] = []
        tasks.start_soon(alice.serve, lambda stream: False)
        tasks.start_soon(bob.serve, into(arrived))
        streams = [await alice.open_stream() for _ in range(2)]
        with pytest.raises(ResourceLimitExceeded):
            await alice.open_stream()
        for stream in streams:
            await stream.send(b"x")
        while len(arrived) < 2:
            await anyio.sleep(0.001)
        streams[0].reset()
        await alice.open_stream()
        alice.close()
        bob.close()


async def test_a_peer_that_resets_too_often_is_cut_off() -> None:
    config = QuicConfig(max_resets=20, resets_per_second=0.0)
    async with connected(config) as (alice, bob), anyio.create_task_group() as tasks:
        tasks.start_soon(alice.serve, lambda stream: False)
        tasks.start_soon(bob.serve, lambda stream: True)
        with pytest.raises(P2PError):
            while True:
                stream = await alice.open_stream()
                await stream.send(b"x")
                stream.reset()
                await anyio.lowlevel.checkpoint()
        while not bob.closed:
            await anyio.sleep(0.001)
        assert "too many streams reset" in str(bob.close_reason)


async def test_many_unread_streams_shut_the_connection_and_cost_no_more_than_allowed() -> None:
    config = QuicConfig(max_unread=200_000, connection_window=300_000)
    async with connected(config) as (alice, bob), anyio.create_task_group() as tasks:
        assert isinstance(bob, QuicConnection)
        arrived: list[MuxedStream] = []
        tasks.start_soon(alice.serve, lambda stream: False)
        tasks.start_soon(bob.serve, into(arrived))
        streams = [await alice.open_stream() for _ in range(20)]
        async with anyio.create_task_group() as senders:
            for stream in streams:
                senders.start_soon(stream.send, bytes(100_000))
            for _ in range(30):
                await anyio.sleep(0.01)
                assert bob.streams.unread < 200_000 + 64 * 1024
            received = 0
            while received < 20 * 100_000:
                for stream in list(arrived):
                    if stream.unread:  # type: ignore[attr-defined]
                        received += len(await stream.receive())
                await anyio.lowlevel.checkpoint()
        alice.close()
        bob.close()


async def test_a_peer_that_reads_nothing_costs_a_mebibyte_at_most() -> None:
    async with connected() as (alice, bob), anyio.create_task_group() as tasks:
        assert isinstance(alice, QuicConnection)
        tasks.start_soon(alice.serve, lambda stream: False)
        tasks.start_soon(bob.serve, lambda stream: True)

        async def talk() -> None:
            stream = await alice.open_stream()
            while True:
                await stream.send(bytes(16_384))

        async with anyio.create_task_group() as talkers:
            for _ in range(30):
                talkers.start_soon(talk)
            for _ in range(30):
                await anyio.sleep(0.01)
                assert alice.streams.outflow.queued <= 1 << 20
            talkers.cancel_scope.cancel()
        alice.close()
        bob.close()


async def test_a_fault_of_one_connection_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    server = transport()
    async with listening(server, gate) as listener, anyio.create_task_group() as tasks:
        ends: list[MuxedConnection] = []
        for _ in range(2):
            ends.append(await transport().dial(listener.address, None))
            while len(gate.connections) < len(ends):
                await anyio.sleep(0.001)
        for end in (*ends, *gate.connections):
            tasks.start_soon(end.serve, lambda stream: True)
        broken, sound = gate.connections
        for _ in range(5):
            await anyio.lowlevel.checkpoint()

        def fail() -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(broken, "process", fail)
        stream = await ends[0].open_stream()
        await stream.send(b"boom")
        while not broken.closed:
            await anyio.sleep(0.001)
        other = await ends[1].open_stream()
        await other.send(b"fine")
        await anyio.sleep(0.02)
        assert not sound.closed
        for end in (*ends, *gate.connections):
            end.close()


async def test_a_dial_that_is_cancelled_leaves_nothing_open() -> None:
    client = transport()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        with anyio.move_on_after(0.05):
            await client.dial(quic(f"/ip4/127.0.0.1/udp/{deaf.getsockname()[1]}/quic-v1"), None)
    assert repr(client) == "<QuicTransport 0 sockets>"


async def test_config_reaches_the_transport() -> None:
    config = HostConfig(quic=QuicConfig(max_inbound_streams=7))
    async with Host(listen=[LOOPBACK], config=config) as bob:
        alice = transport()
        connection = await alice.dial(bob.network.listen_addresses()[0], bob.id)
        assert isinstance(connection, QuicConnection)
        assert connection.machine.core.stream_limits[0] == 7
        connection.close()


async def test_a_hostile_listener_is_refused() -> None:
    gate = Gate()
    server = transport()
    server._made = credentials()  # made for another moment than now, and expired since
    async with listening(server, gate) as listener:
        with pytest.raises(HandshakeError):
            await transport().dial(listener.address, None)

"""What strangers send to QUIC's socket: who is let in, who must wait, who is answered and with what."""

from __future__ import annotations

import os
import socket

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import MuxedStream
from py_p2pstack.errors import ConnectionClosed, Gated, P2PError
from py_p2pstack.transports.quic import QuicConfig, QuicTransport
from py_p2pstack.transports.quic.codec import VERSION, reset_token
from py_p2pstack.transports.quic.connection import QuicConnection
from py_p2pstack.transports.quic.credentials import Credentials
from tests.transports.quic.machines import Machines, credentials, without_certificate
from tests.transports.quic.pairs import Gate, Place, connected, identity, into, listening, transport

pytestmark = pytest.mark.anyio


class Refusing(Gate):
    """Has no place for anybody."""

    def admit(self, local: Multiaddr, remote: Multiaddr) -> Place:
        raise Gated("nobody")


async def test_a_refused_connection_costs_no_handshake() -> None:
    client = transport(QuicConfig(handshake_timeout=0.3))
    async with listening(transport(), Refusing()) as listener:
        with pytest.raises(P2PError):
            await client.dial(listener.address, None)
        assert listener.accepted == listener.refused > 0
        assert not listener._endpoint._connections


async def test_a_place_is_given_back_when_the_handshake_fails() -> None:
    """And nobody is handed a connection that was not secured."""
    gate = Gate()
    client = transport()
    client._made = without_certificate(Credentials(identity()))
    async with listening(transport(), gate) as listener:
        connection = await client.dial(listener.address, None)  # done a flight before bob judges
        await connection.serve(lambda stream: False)
        assert isinstance(connection.close_reason, P2PError)
        while not listener.failed:
            await anyio.lowlevel.checkpoint()
        assert [place.given_back for place in gate.places] == [1]
        assert not gate.connections
        assert listener._endpoint.pending == 0


async def test_a_handshake_that_stops_half_way_is_given_up() -> None:
    gate = Gate()
    [(first, _)] = Machines(credentials(), credentials()).alice.datagrams_to_send(1000.0)
    async with listening(transport(QuicConfig(handshake_timeout=0.1)), gate) as listener:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mallory:
            mallory.sendto(first, listener._endpoint.socket.name)
            while not listener.failed:
                await anyio.sleep(0.01)
        assert [place.given_back for place in gate.places] == [1]
        assert not listener._endpoint._cids


def first_packets(count: int) -> list[bytes]:
    """Of so many different dials."""
    mine = credentials()
    return [Machines(mine, mine).alice.datagrams_to_send(1000.0)[0][0] for _ in range(count)]


async def test_half_open_handshakes_are_bounded() -> None:
    """The first few are let in at once, more must prove their address, and then there is no more room."""
    gate = Gate()
    config = QuicConfig(max_pending_inbound=5, retry_above=3)
    async with listening(transport(config), gate) as listener:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mallory:
            mallory.settimeout(5)
            mallory.bind(("127.0.0.1", 0))
            for packet in first_packets(20):
                mallory.sendto(packet, listener._endpoint.socket.name)
            while listener._endpoint.pending < 3:
                await anyio.sleep(0.01)
            await anyio.sleep(0.1)
            assert len(gate.places) == 3
            assert listener._endpoint.pending == 3
        honest = await transport(config).dial(listener.address, None)  # who answers a Retry still gets in
        assert len(gate.places) == 4
        honest.close()


async def test_retried_clients_are_let_in() -> None:
    gate = Gate()
    async with listening(transport(QuicConfig(retry_above=0)), gate) as listener:
        for _ in range(3):
            connection = await transport().dial(listener.address, None)
            connection.close()
        assert len(gate.places) == 3


# --- strangers --------------------------------------------------------------------------------------


async def answer_to(datagram: bytes, listener_name: tuple[str, int]) -> bytes:
    """What comes back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.setblocking(False)
        stranger.sendto(datagram, listener_name)
        with anyio.fail_after(5):
            await anyio.wait_readable(stranger)
        return stranger.recv(2000)


async def test_another_version_is_answered_with_ours() -> None:
    async with listening(transport(), Gate()) as listener:
        name = listener._endpoint.socket.name
        packet = b"\xc0\x0a\x0a\x0a\x0a\x08" + os.urandom(8) + b"\x04src!" + bytes(1200)
        answer = await answer_to(packet, name)  # type: ignore[arg-type]
        assert answer[1:5] == bytes(4)
        assert answer.endswith(VERSION.to_bytes(4, "big"))


async def test_a_packet_of_a_connection_of_our_last_life_is_answered_with_its_reset() -> None:
    ours = identity()
    server = QuicTransport(lambda: ours)
    async with listening(server, Gate()) as listener:
        cid = os.urandom(8)
        answer = await answer_to(b"\x40" + cid + os.urandom(100), listener._endpoint.socket.name)  # type: ignore[arg-type]
        assert answer.endswith(reset_token(ours.reset_key, cid))
        assert len(answer) < 109


async def test_a_stateless_reset_ends_the_connection() -> None:
    """Bob forgets everything; his next word is a reset, and alice knows it."""
    async with connected() as (alice, bob):
        assert isinstance(bob, QuicConnection)
        endpoint = bob._endpoint
        for cid in tuple(bob.cids):
            endpoint.unlearn(bob, cid)
        assert isinstance(alice, QuicConnection)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.serve, lambda stream: False)
            await anyio.lowlevel.checkpoint()
            stream = await alice.open_stream()
            with anyio.fail_after(30), pytest.raises(ConnectionClosed, match="reset"):
                await stream.send(bytes(200))
                await stream.receive()


async def test_names_given_out_during_the_handshake_are_known() -> None:
    """quic-go calls its server by the second as soon as it may."""
    async with connected() as (alice, bob), anyio.create_task_group() as tasks:
        assert isinstance(alice, QuicConnection)
        arrived: list[MuxedStream] = []
        tasks.start_soon(alice.serve, lambda stream: False)
        tasks.start_soon(bob.serve, into(arrived))
        alice.machine.core.change_connection_id()
        stream = await alice.open_stream()
        with anyio.fail_after(5):
            await stream.send(b"x")
            while not arrived:
                await anyio.sleep(0.001)
        alice.close()
        bob.close()

"""Whole hosts against peers that bring a TLS of their own: refused before any handler, and nobody else is harmed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from py_p2pstack import Host, Stream
from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.connection import Connection
from py_p2pstack.core.muxer import ConnectionInfo
from py_p2pstack.core.notifications import PeerConnected, PeerDisconnected, PeerIdentified, PeerIdentifyFailed
from py_p2pstack.errors import ConnectionClosed, DialError, HandshakeError
from py_p2pstack.network.gater import AllowAll
from py_p2pstack.security.tls.machine import MAX_HANDSHAKE
from py_p2pstack.transports.memory import MemoryListener, MemoryTransport
from py_p2pstack.upgrade.multistream import LazyReply, Responder, lazy_proposal
from py_p2pstack.upgrade.negotiate import RawPipe
from tests.hostile.mallory import Run, World, memory_world, settle, unharmed
from tests.hosts import ECHO, echo, key
from tests.security.tls.certificates import NOW, forge, signed_key
from tests.security.tls.mallory import KEY, Mallory

PROTOCOL = "/tls/1.0.0"
OTHER = ec.generate_private_key(ec.SECP256R1())
GOOD = forge(KEY, signed_key(key(66), KEY))
YAMUX_PING = bytes([0, 2, 0, 1]) + bytes(4) + b"ping"


async def dial(world: World, mallory: Mallory) -> bytes:
    """Run mallory's TLS against alice and send yamux frames right behind it; what came until alice hung up."""
    raw = await world.connect()
    pipe = RawPipe(raw)
    heard = bytearray()
    try:
        await pipe.send(lazy_proposal(PROTOCOL) + mallory.receive(b""))
        reply = LazyReply(PROTOCOL)
        while not reply.receive_data(await pipe.receive()):
            pass
        word = mallory.receive(reply.unread)
        if mallory.error is None:
            try:
                mallory.tls.send(YAMUX_PING + bytes([0, 1, 0, 1, 0, 0, 0, 1]) + bytes(4))
                word += mallory.out()
            except SSL.Error:
                pass
        if word:
            await pipe.send(word)
        while True:
            heard += await pipe.receive()
    except (ConnectionClosed, OSError):
        return bytes(heard)
    finally:
        raw.close()


async def never(stream: Stream) -> None:
    raise AssertionError("a handler saw a peer that proved nothing")


class Silence(AllowAll):
    """A gater and notifiee to whom nobody may be introduced, until `over`."""

    over = False

    def intercept_secured(self, info: ConnectionInfo) -> bool:
        assert self.over, f"the gater was asked about {info}"
        return True

    intercept_upgraded = intercept_secured

    def connected(self, connection: Connection) -> None:
        assert self.over, f"a notifiee heard of {connection}"

    disconnected = connected

    def listening(self, address: Multiaddr) -> None:
        pass

    listen_closed = listening


@contextmanager
def unheard_of(alice: Host, silence: Silence) -> Iterator[None]:
    """Within the block no handler, notifiee, gater, subscriber or book of alice's hears of anybody."""
    alice.set_stream_handler("/never", never)
    alice.network.notify(silence)
    known = alice.peerstore.peers()
    with alice.events.subscribe(PeerConnected, PeerDisconnected, PeerIdentified, PeerIdentifyFailed) as events:
        yield
        assert len(events) == 0
    assert alice.peerstore.peers() == known
    assert not alice.network.conns()
    silence.over = True
    alice.remove_stream_handler("/never")


PROVES_NOTHING = pytest.mark.parametrize(
    "shown",
    [
        pytest.param({}, id="no certificate"),
        pytest.param({"shows": GOOD, "more": (GOOD,)}, id="two certificates"),
        pytest.param({"shows": forge(KEY, None)}, id="no extension"),
        pytest.param({"shows": forge(KEY, b"\x30\x03\x04\x01x")}, id="a wrong extension"),
        pytest.param({"shows": forge(KEY, signed_key(key(66), OTHER))}, id="a foreign key"),
        pytest.param({"shows": forge(KEY, signed_key(key(66), KEY), end=NOW)}, id="expired"),
        pytest.param({"shows": GOOD, "newest": SSL.TLS1_2_VERSION}, id="TLS 1.2"),
        pytest.param({"shows": GOOD, "alpn": (b"h2",)}, id="a foreign protocol"),
    ],
)


@PROVES_NOTHING
def test_who_proves_nothing_in_tls_reaches_nobody(run: Run, shown: dict[str, Any]) -> None:
    silence = Silence()

    async def main() -> None:
        async with memory_world(wall_clock=lambda: NOW + 1, gater=silence) as world:
            alice = world.alice
            alice.set_stream_handler(ECHO, echo)
            with unheard_of(alice, silence):
                heard = await dial(world, Mallory(server=False, **shown))
                await settle()
            assert len(heard) < 400  # an alert, perhaps; no certificate of ours behind a refusal of hers
            await unharmed(world)

    run(main)


@PROVES_NOTHING
def test_whom_we_dial_proves_itself_in_tls_or_nobody_hears_of_it(run: Run, shown: dict[str, Any]) -> None:
    silence = Silence()

    async def serve(listener: MemoryListener) -> None:
        raw = await listener.accept()
        pipe, mallory = RawPipe(raw), Mallory(server=True, **shown)
        responder = Responder({PROTOCOL}.__contains__)
        try:
            while responder.protocol is None:
                responder.receive_data(await pipe.receive())
            await pipe.send(responder.bytes_to_send() + mallory.receive(responder.unread))
            while True:
                await pipe.send(mallory.receive(await pipe.receive()))
        except (ConnectionClosed, OSError):
            raw.close()

    async def main() -> None:
        options: dict[str, Any] = {"security": ["tls"], "wall_clock": lambda: NOW + 1, "gater": silence}
        async with memory_world(**options) as world, anyio.create_task_group() as tasks:
            assert world.network is not None
            listener = await MemoryTransport(world.network, "mallory").listen(Multiaddr.parse("/memory/66"))
            tasks.start_soon(serve, listener)
            alice, mallory = world.alice, key(66).public_key.peer_id()
            alice.peerstore.add_addresses(mallory, [listener.address], 60)
            with unheard_of(alice, silence):
                with pytest.raises(DialError) as caught:
                    await alice.network.dial_peer(mallory)
                await settle()
            [(_, fault)] = caught.value.attempts
            assert isinstance(fault, HandshakeError)
            assert alice.network.resources.stats().system.connections_outbound == 0

    run(main)


@pytest.mark.parametrize(
    "junk",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n" * 100, id="garbage"),
        pytest.param(b"\x16\x03\x01\xff\xff" + bytes(70_000), id="an oversize record"),
        pytest.param(b"\x16\x03\x01\x00\x01\x01" * MAX_HANDSHAKE, id="a ClientHello without end"),
        pytest.param(b"\x14\x03\x03\x00\x01\x01" * MAX_HANDSHAKE, id="changes of cipher without end"),
        pytest.param(b"\x15\x03\x03\x00\x02\x01\x00" * MAX_HANDSHAKE, id="warnings without end"),
    ],
)
def test_junk_for_a_tls_handshake_ends_that_connection_at_once(run: Run, junk: bytes) -> None:
    async def main() -> None:
        async with memory_world() as world:
            world.alice.set_stream_handler(ECHO, echo)
            raw = await world.connect()
            pipe = RawPipe(raw)
            try:
                await pipe.send(lazy_proposal(PROTOCOL) + junk)
                while True:
                    await pipe.receive()
            except (ConnectionClosed, OSError):
                raw.close()
            await unharmed(world)

    run(main)


def test_a_tls_handshake_byte_by_byte_is_served(run: Run) -> None:
    async def main() -> None:
        async with memory_world(wall_clock=lambda: NOW) as world:
            world.alice.set_stream_handler(ECHO, echo)
            raw = await world.connect()
            pipe = RawPipe(raw)
            mallory = Mallory(server=False, shows=GOOD, alpn=(b"/yamux/1.0.0", b"libp2p"))
            for byte in lazy_proposal(PROTOCOL) + mallory.receive(b""):
                await pipe.send(bytes((byte,)))
            reply = LazyReply(PROTOCOL)
            while not reply.receive_data(await pipe.receive()):
                pass
            word = mallory.receive(reply.unread)
            while not word:
                word = mallory.receive(await pipe.receive())
            for byte in word:
                await pipe.send(bytes((byte,)))
            mallory.tls.bio_write(await pipe.receive())  # alice pings as soon as she is content
            assert mallory.tls.recv(100)[:4] == bytes([0, 2, 0, 1])
            [connection] = world.alice.network.conns()
            assert (connection.remote_peer, connection.info.security) == (key(66).public_key.peer_id(), PROTOCOL)
            raw.close()
            await unharmed(world)

    run(main)

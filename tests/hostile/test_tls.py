"""Whole hosts against peers that bring a TLS of their own: refused before any handler, and nobody else is harmed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from py_p2pstack import Stream
from py_p2pstack.errors import ConnectionClosed
from py_p2pstack.security.tls.machine import MAX_HANDSHAKE
from py_p2pstack.upgrade.multistream import LazyReply, lazy_proposal
from py_p2pstack.upgrade.negotiate import RawPipe
from tests.hostile.mallory import Run, World, memory_world, unharmed
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


@pytest.mark.parametrize(
    "mallory",
    [
        pytest.param(lambda: Mallory(server=False), id="no certificate"),
        pytest.param(lambda: Mallory(server=False, shows=GOOD, more=(GOOD,)), id="two certificates"),
        pytest.param(lambda: Mallory(server=False, shows=forge(KEY, None)), id="no extension"),
        pytest.param(lambda: Mallory(server=False, shows=forge(KEY, b"\x30\x03\x04\x01x")), id="a wrong extension"),
        pytest.param(lambda: Mallory(server=False, shows=forge(KEY, signed_key(key(66), OTHER))), id="a foreign key"),
        pytest.param(lambda: Mallory(server=False, shows=forge(KEY, signed_key(key(66), KEY), end=NOW)), id="expired"),
        pytest.param(lambda: Mallory(server=False, shows=GOOD, newest=SSL.TLS1_2_VERSION), id="TLS 1.2"),
        pytest.param(lambda: Mallory(server=False, shows=GOOD, alpn=(b"h2",)), id="a foreign protocol"),
    ],
)
def test_who_proves_nothing_in_tls_reaches_no_handler(run: Run, mallory: Callable[[], Mallory]) -> None:
    async def main() -> None:
        async with memory_world(wall_clock=lambda: NOW + 1) as world:
            alice = world.alice
            alice.set_stream_handler("/never", never)
            alice.set_stream_handler(ECHO, echo)
            heard = await dial(world, mallory())
            assert not alice.network.conns()
            assert len(heard) < 400  # an alert, perhaps; no certificate of ours behind a refusal of hers
            await unharmed(world)

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

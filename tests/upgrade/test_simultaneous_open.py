"""When both sides dial at once.

From ephemeral ports, as we dial, that gives two connections, and both are good. One connection with two initiators
needs ports agreed on beforehand: hole punching, which agrees also on who plays the server (DCUtR) and tells the
upgrader by `direction`. The extension of multistream that once found out is deprecated (libp2p/specs,
connections/simopen.md); we answer it as the specification wants it of those without it.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from py_p2pstack.core.security import SecurityTransport
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import Direction
from py_p2pstack.errors import HandshakeError
from py_p2pstack.identity import PrivateKey
from py_p2pstack.security.noise import NoiseTransport
from py_p2pstack.security.tls import TlsTransport
from py_p2pstack.testing import virtual_time
from py_p2pstack.upgrade.multistream import Responder
from tests.hosts import ECHO, echo, exchange, memory_hosts
from tests.upgrade.pipes import raw_pair
from tests.upgrade.upgraders import ALICE, BOB, upgrader

pytestmark = pytest.mark.anyio

SIMULTANEOUS = b"\x1d/libp2p/simultaneous-connect\n"
HEADER = b"\x13/multistream/1.0.0\n"


def tls(key: PrivateKey) -> SecurityTransport:
    return TlsTransport(key, wall_clock=lambda: 1e9)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_two_that_dial_each_other_have_two_good_connections(backend: str) -> None:
    async def main() -> None:
        async with memory_hosts(2, latency=0.05) as (alice, bob):
            for host in (alice, bob):
                host.set_stream_handler(ECHO, echo)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(alice.connect, bob.peer_info)
                tasks.start_soon(bob.connect, alice.peer_info)
            for host, other in ((alice, bob), (bob, alice)):
                directions = {connection.info.direction for connection in host.network.conns_to_peer(other.id)}
                assert directions == set(Direction)
                assert await exchange(host, other) == b"hello"
            # One of them ends; nobody who uses the other hears of it.
            await alice.network.conns()[0].aclose()
            assert await exchange(alice, bob) == await exchange(bob, alice) == b"hello"

    virtual_time.run(main, backend=backend)


@pytest.mark.parametrize("make", [NoiseTransport, tls], ids=["noise", "tls"])
async def test_two_initiators_on_one_connection_part_at_once(make: Callable[[PrivateKey], SecurityTransport]) -> None:
    """Each takes the other's proposal for its answer, and the first message behind it for the second: it is none."""
    pipes = raw_pair()

    async def begin(key: PrivateKey, raw: RawConnection) -> None:
        with pytest.raises(HandshakeError):
            await upgrader(key, securities=[make(key)]).upgrade(raw, Direction.OUTBOUND, transport="memory")

    async with anyio.create_task_group() as tasks:
        for key, raw in zip((ALICE, BOB), pipes, strict=True):
            tasks.start_soon(begin, key, raw)
    assert pipes[0].closed
    assert pipes[1].closed


def test_the_deprecated_extension_is_answered_as_by_those_without_it() -> None:
    """`multistream, /libp2p/simultaneous-connect, secproto` is answered with `multistream, na, secproto`, at once."""
    responder = Responder({"/noise"}.__contains__)
    responder.receive_data(HEADER + SIMULTANEOUS + b"\x07/noise\n" + b"first message")
    assert responder.bytes_to_send() == HEADER + b"\x03na\n" + b"\x07/noise\n"
    assert (responder.protocol, responder.unread) == ("/noise", b"first message")

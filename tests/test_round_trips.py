"""How many round trips a dial takes until the first byte has come back: the fewest that its protocols allow.

    TCP         1  a connection is there
    wss's TLS   1  TLS 1.3, the client's Finished rides with the request
    WebSocket   1  HTTP's upgrade: a client must not speak before the answer (RFC 6455 §4.1)
    pnet        0  each side's nonce goes before its first byte
    security    1  noise XX and TLS 1.3 alike: the first message rides with the proposal, the third with what follows
    muxer       0  agreed on inside the handshake
    QUIC        1  instead of all these
    stream      1  the proposal of its protocol rides with the first byte, the answer with the byte that comes back

A stranger costs one more: identify asks what it speaks, which tells all its protocols at the price of one.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from py_p2pstack import Host, HostConfig, Stream
from py_p2pstack.network.resolver import StaticResolver
from py_p2pstack.testing import virtual_time
from tests.hosts import ECHO, echo, key
from tests.network.internet import internet
from tests.transports.websocket.certificates import web_config

ROUND_TRIP = 0.050
PSK = bytes(range(32))

EXPECTED = {"/tcp/4001": 3, "/tcp/4001/ws": 4, "/tcp/4001/tls/ws": 5}


def host(number: int, **options: Any) -> Host:
    return Host(identity=key(number), clock=anyio.current_time, resolver=StaticResolver(), **options)


async def first_byte(alice: Host, bob: Host) -> float:
    """Round trips from the dial until a byte of alice's has come back from bob."""
    start = anyio.current_time()
    async with await alice.new_stream(bob.id, ECHO) as stream:
        await stream.send(b"x")
        assert await stream.receive() == b"x"
        return (anyio.current_time() - start) / ROUND_TRIP


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("muxer", ["yamux", "mplex"])
@pytest.mark.parametrize("security", ["noise", "tls"])
@pytest.mark.parametrize("psk", [None, PSK], ids=["", "pnet"])
@pytest.mark.parametrize("where", EXPECTED)
def test_the_first_byte_takes_no_round_trip_more_than_it_must(
    where: str, psk: bytes | None, security: str, muxer: str, backend: str
) -> None:
    config = HostConfig(websocket=web_config())

    async def main() -> None:
        options = {"security": [security], "muxers": [muxer], "psk": psk, "config": config}
        async with (
            internet(ROUND_TRIP / 2),
            host(1, listen=[f"/ip4/127.0.0.1{where}"], **options) as bob,
            host(2, **options) as alice,
        ):
            bob.set_stream_handler(ECHO, echo)
            alice.peerstore.add_addresses(bob.id, bob.addrs, 3600)
            assert await first_byte(alice, bob) == pytest.approx(EXPECTED[where] + 1)  # a stranger
            await alice.network.close_peer(bob.id)
            assert await first_byte(alice, bob) == pytest.approx(EXPECTED[where])

    virtual_time.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_quic_needs_one_round_trip_for_all_of_it(backend: str) -> None:
    async def main() -> None:
        async with (
            internet(ROUND_TRIP / 2),
            host(1, listen=["/ip4/127.0.0.1/udp/4001/quic-v1"]) as bob,
            host(2) as alice,
        ):
            bob.set_stream_handler(ECHO, echo)
            alice.peerstore.add_addresses(bob.id, bob.addrs, 3600)
            assert await first_byte(alice, bob) == pytest.approx(2 + 1, abs=0.1)
            await alice.network.close_peer(bob.id)
            assert await first_byte(alice, bob) == pytest.approx(2, abs=0.1)  # what it sends is paced

    virtual_time.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_peer_without_our_first_security_costs_a_second_connection(backend: str) -> None:
    async def main() -> None:
        async with (
            internet(ROUND_TRIP / 2),
            host(1, listen=["/ip4/127.0.0.1/tcp/4001"], security=["tls"]) as bob,
            host(2) as alice,
        ):
            bob.set_stream_handler(ECHO, echo)
            alice.peerstore.add_addresses(bob.id, bob.addrs, 3600)
            # A connection and a refusal; then another, and not a word of what was refused.
            assert await first_byte(alice, bob) == pytest.approx(2 + EXPECTED["/tcp/4001"] + 1)

    virtual_time.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("where", ["/tcp/4001", "/udp/4001/quic-v1"])
def test_an_answer_that_is_the_last_word_comes_as_soon_as_any(where: str, backend: str) -> None:
    """Whoever opened the connection, and although the handler closes the stream in the same breath."""

    async def answer(stream: Stream) -> None:
        await stream.receive()
        await stream.send(b"x")

    async def main() -> None:
        async with internet(ROUND_TRIP / 2), host(1, listen=[f"/ip4/127.0.0.1{where}"]) as bob, host(2) as alice:
            for each in (alice, bob):
                each.set_stream_handler(ECHO, answer)
            await alice.connect(bob.peer_info)
            await anyio.sleep(1)
            for here, there in ((alice, bob), (bob, alice)):
                assert await first_byte(here, there) == pytest.approx(1, abs=0.1)

    virtual_time.run(main, backend=backend)

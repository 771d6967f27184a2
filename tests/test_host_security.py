"""Which security and which muxer two hosts agree on."""

from __future__ import annotations

import pytest

from py_p2pstack import DialError, Host
from tests.hosts import ECHO, echo, exchange, memory_hosts

pytestmark = pytest.mark.anyio

NOISE, TLS = "/noise", "/tls/1.0.0"


@pytest.mark.parametrize(
    ("dialer", "listener", "agreed"),
    [
        (("noise", "tls"), ("noise", "tls"), NOISE),
        (("tls", "noise"), ("noise", "tls"), TLS),
        (("noise", "tls"), ("tls",), TLS),
        (("tls", "noise"), ("noise",), NOISE),
        (("tls",), ("noise", "tls"), TLS),
    ],
)
async def test_the_dialers_first_that_both_speak_secures_the_connection(
    dialer: tuple[str, ...], listener: tuple[str, ...], agreed: str
) -> None:
    async with memory_hosts(2, options=[{"security": dialer}, {"security": listener}]) as (alice, bob):
        bob.set_stream_handler(ECHO, echo)
        await alice.connect(bob.full_addresses[0])
        [connection] = alice.network.conns()
        assert (connection.info.security, connection.info.muxer) == (agreed, "/yamux/1.0.0")
        assert await exchange(alice, bob, bytes(100_000)) == bytes(100_000)
        [other] = bob.network.conns()
        assert (other.info.security, other.remote_peer) == (agreed, alice.id)


async def test_without_a_security_in_common_there_is_no_connection() -> None:
    options = [{"security": ["noise"]}, {"security": ["tls"]}]
    async with memory_hosts(2, options=options) as (alice, bob):
        with pytest.raises(DialError, match="does not speak /noise"):
            await alice.connect(bob.full_addresses[0])


@pytest.mark.parametrize("names", [(), ("plaintext",), ("noise", "secio")])
def test_a_host_is_never_built_without_a_security_it_knows(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="security must name"):
        Host(security=names)


@pytest.mark.parametrize("security", ["noise", "tls"])
@pytest.mark.parametrize(
    ("dialer", "listener", "agreed"),
    [
        (("yamux", "mplex"), ("mplex", "yamux"), "/yamux/1.0.0"),
        (("yamux", "mplex"), ("mplex",), "/mplex/6.7.0"),
        (("mplex",), ("yamux", "mplex"), "/mplex/6.7.0"),
    ],
)
async def test_the_dialers_first_muxer_that_both_speak_makes_the_streams(
    security: str, dialer: tuple[str, ...], listener: tuple[str, ...], agreed: str
) -> None:
    options = [{"security": [security], "muxers": muxers} for muxers in (dialer, listener)]
    async with memory_hosts(2, options=options) as (alice, bob):
        bob.set_stream_handler(ECHO, echo)
        await alice.connect(bob.full_addresses[0])
        [connection] = alice.network.conns()
        assert connection.info.muxer == agreed
        assert await exchange(alice, bob, bytes(300_000)) == bytes(300_000)


async def test_mplex_is_off_unless_it_is_asked_for() -> None:
    async with memory_hosts(2, options=[{"muxers": ["mplex"]}]) as (alice, bob):
        with pytest.raises(DialError, match="/mplex"):
            await alice.connect(bob.full_addresses[0])
    with pytest.raises(ValueError, match="muxers must name"):
        Host(muxers=["spdy"])

"""Every transport, with every security and muxer inside, with real peers, as dialer and as listener."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.conftest import MATRIX, start
from tests.interop.peer import Peer
from tests.interop.test_values import until
from tests.transports.websocket.certificates import authority_signed

pytestmark = pytest.mark.interop

MIB = 1 << 20
LISTEN = {
    "tcp": "/ip4/127.0.0.1/tcp/0",
    "ws": "/ip4/127.0.0.1/tcp/0/ws",
    "wss": "/ip4/127.0.0.1/tcp/0/tls/ws",
    "quic-v1": "/ip4/127.0.0.1/udp/0/quic-v1",
}
TOLD = {"noise": "/noise", "tls": "/tls/1.0.0", "yamux": "/yamux/1.0.0", "mplex": "/mplex/6.7.0"}

MISSING = {
    ("go", "mplex"): "go-libp2p has dropped mplex",
    ("rust", "mplex"): "rust-libp2p has dropped mplex",
}
ECHO_OF_THEIRS, SEEN_BY_US, SEEN_BY_THEM = "echo of theirs", "reset seen by us", "reset seen by them"
# "StreamBufferError: Read buffer length of 4206292 exceeded limit of 4194304, read status is paused"; a run in ten.
NOT_HELD_BACK = "js-libp2p cannot hold a WebSocket back: 4 MiB after its TLS waits to write, it gives the connection up"
FLAWS = {
    ("py", "mplex", ECHO_OF_THEIRS): "py-libp2p lets nobody write to an mplex stream that somebody waits to read",
    ("py", "mplex", SEEN_BY_THEM): "py-libp2p wakes the reader of an mplex stream before it notes the reset",
    ("py", "quic-v1", ECHO_OF_THEIRS): "py-libp2p takes the end of a QUIC stream that it has closed for a reset, "
    "and loses what it had not read",
    ("rust", "quic-v1", SEEN_BY_US): "rust-libp2p cannot reset a QUIC stream: the end of a dropped one is in order",
    ("js", "quic-v1", SEEN_BY_THEM): "js-libp2p takes the reset of a QUIC stream for its end",
    ("js", "ws, tls, mplex", ECHO_OF_THEIRS): NOT_HELD_BACK,
    ("js", "wss, tls, mplex", ECHO_OF_THEIRS): NOT_HELD_BACK,
}


@dataclass(frozen=True)
class Stack:
    """A transport, and what is inside; QUIC brings its own."""

    transport: str
    security: str = ""
    muxer: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.transport, self.security, self.muxer)))

    @property
    def options(self) -> tuple[str, ...]:
        """As arguments of a peer."""
        inside = ("--security", self.security, "--muxer", self.muxer) if self.security else ()
        return ("--listen", LISTEN[self.transport], *inside)


STACKS = [
    *(
        Stack(transport, security, muxer)
        for transport in ("tcp", "ws", "wss")
        for security in ("noise", "tls")
        for muxer in ("yamux", "mplex")
    ),
    Stack("quic-v1"),
]


@dataclass(frozen=True)
class Met:
    """Our peer and another's, connected, and what the dialer was told of the connection."""

    ours: Peer
    theirs: Peer
    stack: Stack
    told: dict[str, object]

    def unless_flawed(self, claim: str) -> None:
        """Skip what their library is known to fail at."""
        for part in (self.stack.transport, self.stack.muxer, str(self.stack)):
            if reason := FLAWS.get((self.theirs.language, part, claim)):
                pytest.skip(reason)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A certificate for wss, and trust in it."""
    authority, certified = authority_signed()
    directory: Path = tmp_path_factory.mktemp("web")
    (directory / "trust.pem").write_bytes(authority)
    (directory / "cert.pem").write_bytes(certified)
    return "--web-cert", str(directory / "cert.pem"), "--web-trust", str(directory / "trust.pem")


@pytest.fixture(scope="module", params=STACKS, ids=str)
def stack(request: pytest.FixtureRequest) -> Stack:
    """What the two talk over."""
    found: Stack = request.param
    return found


@pytest.fixture(scope="module")
def met(
    request: pytest.FixtureRequest, other: str, direction: str, stack: Stack, web: tuple[str, ...]
) -> Iterator[Met]:
    if reason := MISSING.get((other, stack.muxer)):
        pytest.skip(reason)
    options = (*stack.options, *(web if stack.transport == "wss" else ()))
    with start("ours", *options, listen=False) as ours, start(other, *options, listen=False) as theirs:
        request.config.stash[MATRIX].name(other, theirs.name)
        dialer, listener = (ours, theirs) if direction == "we dial" else (theirs, ours)
        # With a peer id behind it, py-libp2p dials only the older of the two names.
        address = listener.address.replace("/tls/ws/", "/wss/") if other == "py" else listener.address
        told = dialer.call("connect", addr=address)
        until(lambda: dialer.id in listener.call("peers")["peers"])  # who dialled may be done first
        yield Met(ours, theirs, stack, told)


def test_each_side_sees_the_other_connected(met: Met) -> None:
    assert met.theirs.id in met.ours.call("peers")["peers"]
    assert met.ours.id in met.theirs.call("peers")["peers"]
    if met.stack.security:
        assert met.told["security"] in (None, TOLD[met.stack.security])
        assert met.told["muxer"] in (None, TOLD[met.stack.muxer])


def test_each_side_pings_the_other(met: Met) -> None:
    """One ping a stream: rust-libp2p forgets to wait for the second of a QUIC stream."""
    for _ in range(3):
        assert met.ours.call("ping", peer=met.theirs.id, count=1)["rtt_ms"]
        assert met.theirs.call("ping", peer=met.ours.id, count=1)["rtt_ms"]


def test_we_identify_them(met: Met) -> None:
    told = met.ours.call("identify", peer=met.theirs.id)
    assert "/echo/1.0.0" in told["protocols"]
    assert met.theirs.address.rpartition("/p2p/")[0] in told["listen_addrs"]


def test_sixteen_mebibytes_come_back_from_them(met: Met) -> None:
    echoed = met.ours.call("echo", peer=met.theirs.id, size=16 * MIB, chunk=65536)
    assert echoed == {"bytes": 16 * MIB, "ok": True}


def test_sixteen_mebibytes_come_back_from_us(met: Met) -> None:
    met.unless_flawed(ECHO_OF_THEIRS)
    echoed = met.theirs.call("echo", peer=met.ours.id, size=16 * MIB, chunk=65536)
    assert (echoed["bytes"], echoed["ok"]) == (16 * MIB, True)


def test_a_hundred_streams_are_open_at_once(met: Met) -> None:
    assert met.ours.call("streams", peer=met.theirs.id, count=100, size=100) == {"opened": 100}


def test_we_see_their_reset(met: Met) -> None:
    met.unless_flawed(SEEN_BY_US)
    assert met.ours.call("reset", peer=met.theirs.id, code=0x1234)["reset"]


def test_they_see_our_reset(met: Met) -> None:
    met.unless_flawed(SEEN_BY_THEM)
    met.ours.call("send_reset", peer=met.theirs.id, code=0x1235)
    assert met.theirs.call("last_reset")["reset"]

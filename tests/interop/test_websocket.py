"""WebSocket with real peers, as dialer and as listener; go and js have it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.conftest import MATRIX
from tests.interop.peer import Peer, PeerMissing
from tests.interop.test_security import Met, meet, resets, works

pytestmark = pytest.mark.interop

WITH_WEBSOCKET = ("go", "js")


def listening(language: str, security: str) -> Peer:
    """A peer that listens on a WebSocket."""
    try:
        return Peer(language, "--listen", "/ip4/127.0.0.1/tcp/0/ws", "--security", security)
    except PeerMissing as missing:
        pytest.skip(f"no {language} peer here: {missing}")


@pytest.fixture(scope="module", params=["noise", "tls"])
def over_websocket(request: pytest.FixtureRequest, other: str, direction: str) -> Iterator[Met]:
    if other not in WITH_WEBSOCKET:
        pytest.skip(f"the {other} peer has no WebSocket")
    with listening("ours", request.param) as ours, listening(other, request.param) as theirs:
        request.config.stash[MATRIX].name(other, theirs.name)
        yield meet(ours, theirs, direction)


@pytest.mark.row("WebSocket (noise and TLS inside): connect")
def test_websockets_connect(over_websocket: Met) -> None:
    assert over_websocket.theirs.id in over_websocket.ours.call("peers")["peers"]
    assert over_websocket.ours.id in over_websocket.theirs.call("peers")["peers"]


@pytest.mark.row("WebSocket: ping, identify, echo 16 MiB")
def test_websockets_carry_everything(over_websocket: Met) -> None:
    works(over_websocket)


@pytest.mark.row("WebSocket: stream reset")
def test_resets_pass_through_websockets(over_websocket: Met) -> None:
    resets(over_websocket)


@pytest.mark.row("WebSocket: 200 concurrent streams")
def test_many_streams_run_through_websockets(over_websocket: Met) -> None:
    assert over_websocket.ours.call("streams", peer=over_websocket.theirs.id, count=200, size=100) == {"opened": 200}

"""Opening a WebSocket, both sides, without I/O."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.errors import RemoteProtocolError, UnsupportedAddress
from py_p2pstack.transports.websocket.machine import ClientOpening, Opening, ServerOpening, require

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"


def client(max_head: int = 4096) -> ClientOpening:
    return ClientOpening("node.example", 80, "/a/b", secure=False, max_head=max_head)


def server(max_head: int = 4096) -> ServerOpening:
    return ServerOpening(max_head=max_head)


def give(opening: Opening, data: bytes, step: int = 0) -> None:
    for at in range(0, len(data), step or len(data)):
        opening.receive_data(memoryview(data)[at : at + (step or len(data))])


@pytest.mark.parametrize("step", [0, 1, 7])
def test_client_and_server_agree_and_keep_what_came_behind(step: int) -> None:
    alice, bob = client(), server()
    assert alice.outgoing.startswith(b"GET /a/b HTTP/1.1\r\nHost: node.example\r\n")
    give(bob, alice.outgoing, step)
    assert bob.unread == b""
    give(alice, bob.outgoing[:-1], step)
    assert alice.unread is None
    give(alice, bob.outgoing[-1:] + b"early")
    assert alice.unread == b"early"


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"426"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"\x13/multistream/1.0.0\n\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: web\xf3ocket\r\n\r\n", b"400"),
        (UPGRADE + b"Sec-WebSocket-Key: AAAA\xffAAAAAAAAAAAAAAAAA==\r\n\r\n", b"400"),
    ],
)
def test_who_asks_for_something_else_gets_an_http_error(
    request_head: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    opening = server()
    with pytest.raises(RemoteProtocolError) as caught:
        give(opening, request_head)
    assert str(caught.value).isascii()
    assert opening.outgoing.startswith(b"HTTP/1.1 " + status)
    assert opening.unread is None
    assert not caplog.records  # strangers write no logs


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
        b"HTTP/1.1 101 OK\r\nUpgrade: web\xf3ocket" + b"x" * 1000 + b"\r\nConnection: Upgrade\r\n\r\n",
        b"\x13/multistream/1.0.0\n\r\n\r\n",
    ],
)
def test_a_server_that_opens_none_is_an_error_that_says_so(answer: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="opens no WebSocket") as caught:
        give(client(), answer)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 300


def test_a_browser_is_granted_a_websocket_without_what_else_it_offers() -> None:
    """Chromium's request, with a cookie of the page's; compression would gain nothing on what is encrypted."""
    request = (
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:4001\r\nConnection: Upgrade\r\nPragma: no-cache\r\n"
        "Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0.0.0\r\n"
        "Upgrade: websocket\r\nOrigin: http://127.0.0.1:8000\r\nSec-WebSocket-Version: 13\r\n"
        "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\nCookie: name=Zoë\r\n"
        "Sec-WebSocket-Key: 4QUvHrAQy3+sxOsRqKA3qA==\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    )
    opening = server()
    give(opening, request.encode())
    assert opening.unread == b""
    assert opening.outgoing.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Extensions" not in opening.outgoing


@pytest.mark.parametrize("opening", [client, server])
def test_a_head_that_never_ends_is_refused(opening: Callable[..., Opening]) -> None:
    subject = opening(max_head=1000)
    with pytest.raises(RemoteProtocolError, match="more than 1000 bytes"):
        for _ in range(100):
            give(subject, b"x: y\r\n" * 10)
    assert len(subject._head) <= 1060


@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_heads_raise_nothing_but_a_remote_protocol_error(data: bytes, asks: bool) -> None:
    try:
        give(client() if asks else server(), data + b"\r\n\r\n")
    except RemoteProtocolError:
        pass


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets", None)
    with pytest.raises(UnsupportedAddress, match=r'pip install "py-p2pstack\[ws\]"'):
        require()

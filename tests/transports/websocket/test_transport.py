"""WebSockets between hosts, and what strangers and broken peers make of them."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from websockets.frames import Frame, Opcode

from py_p2pstack import Host, HostConfig
from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.errors import DialError, ListenError
from py_p2pstack.testing.contracts import fill, receive, receive_all, receive_exactly, send_all
from py_p2pstack.transports.sockets import SocketConfig, SocketConnection, connect, tcp_endpoint
from py_p2pstack.transports.websocket import WebSocketConfig, WebSocketTransport
from py_p2pstack.transports.websocket.codec import FRAMES
from py_p2pstack.upgrade.upgrader import UpgraderConfig
from tests.transports.websocket.certificates import web_config

pytestmark = pytest.mark.anyio

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def by_hand(address: Multiaddr) -> SocketConnection:
    """A bare TCP connection to where a WebSocket is."""
    found = tcp_endpoint(address)
    assert found is not None
    return await connect(found[0], SocketConfig())


@asynccontextmanager
async def half_by_hand() -> AsyncGenerator[tuple[RawConnection, SocketConnection]]:
    """An open WebSocket: our end, and a client's of which the test writes every byte."""
    with anyio.fail_after(30):
        listener = await WebSocketTransport().listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0/ws"))
        stranger = await by_hand(listener.address)
        ours = await listener.accept()
        listener.close()
        try:
            await send_all(stranger, UPGRADE)
            await ours.wait_writable()
            assert (await receive(stranger)).startswith(b"HTTP/1.1 101 ")
            yield ours, stranger
        finally:
            ours.close()
            stranger.close()


def masked(opcode: Opcode, data: bytes) -> bytes:
    return Frame(opcode, data).serialize(mask=True)


# --- hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ws", "tls/ws", "wss"])
@pytest.mark.parametrize("security", ["noise", "tls"])
async def test_hosts_meet_over_websockets(kind: str, security: str) -> None:
    config = HostConfig(websocket=web_config())
    async with (
        Host(listen=[f"/ip4/127.0.0.1/tcp/0/{kind}"], config=config, security=[security]) as bob,
        Host(config=config, security=[security]) as alice,
    ):
        await alice.connect(bob.full_addresses[0])
        assert await alice.ping(bob.id) > 0
        assert bob.full_addresses[0].protocols[2:-1] == (("ws",) if kind == "ws" else ("tls", "ws"))


async def test_a_name_is_proved_by_the_certificate() -> None:
    config = HostConfig(websocket=web_config())
    async with Host(listen=["/ip4/127.0.0.1/tcp/0/wss"], config=config) as bob, Host(config=config) as alice:
        for name, proved in (("elsewhere.example", False), ("node.example", True)):
            address = str(bob.full_addresses[0]).replace("/tls/ws", f"/tls/sni/{name}/ws")
            if proved:
                await alice.connect(address)
            else:
                with pytest.raises(DialError, match="certificate verify failed"):
                    await alice.connect(address)


async def test_a_certificate_nobody_vouches_for_is_refused() -> None:
    listener = HostConfig(websocket=web_config())
    async with Host(listen=["/ip4/127.0.0.1/tcp/0/wss"], config=listener) as bob, Host() as alice:
        with pytest.raises(DialError, match="certificate verify failed"):
            await alice.connect(bob.full_addresses[0])
        assert not alice.network.peers()


async def test_without_a_certificate_of_ours_we_do_not_listen_on_wss() -> None:
    with pytest.raises(ListenError, match="no certificate"):
        await WebSocketTransport().listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0/wss"))


# --- strangers ------------------------------------------------------------------------------------


async def test_who_wants_no_websocket_gets_an_http_error_and_is_hung_up_on() -> None:
    async with Host(listen=["/ip4/127.0.0.1/tcp/0/ws"]) as host:
        for request, status in ((b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"426"), (b"\x16\x03\x01\r\n\r\n", b"400")):
            stranger = await by_hand(host.full_addresses[0])
            with anyio.fail_after(30):
                await send_all(stranger, request)
                assert (await receive_all(stranger)).startswith(b"HTTP/1.1 " + status)
            stranger.close()


@pytest.mark.parametrize("kind", ["ws", "wss"])
async def test_a_slow_loris_dies_within_the_time_of_the_set_up_and_others_connect_meanwhile(kind: str) -> None:
    config = HostConfig(websocket=web_config(), upgrade=UpgraderConfig(handshake_timeout=1.0))
    async with Host(listen=[f"/ip4/127.0.0.1/tcp/0/{kind}"], config=config) as bob:
        lorises = [await by_hand(bob.full_addresses[0]) for _ in range(5)]
        for loris in lorises:
            await send_all(loris, UPGRADE[:20])
        async with Host(config=HostConfig(websocket=web_config())) as alice:
            await alice.connect(bob.full_addresses[0])
        with anyio.fail_after(30):
            for loris in lorises:
                assert (await receive_all(loris))[:8] != b"HTTP/1.1"
                loris.close()


async def test_a_server_that_speaks_no_http_is_a_dial_error_that_says_so() -> None:
    async with Host(listen=["/ip4/127.0.0.1/tcp/0"]) as bob, Host() as alice:
        address = bob.full_addresses[0].without_peer().encapsulate("/ws").with_peer(bob.id)
        with pytest.raises(DialError, match=r"WebSocket|hung up"):
            await alice.connect(address)


# --- frames ---------------------------------------------------------------------------------------


async def test_pings_are_answered_the_last_one_at_least() -> None:
    async with half_by_hand() as (ours, stranger):
        await send_all(stranger, b"".join(masked(Opcode.PING, b"%d" % number) for number in range(1000)))
        await send_all(stranger, masked(Opcode.BINARY, b"data"))
        assert await receive_exactly(ours, 4) == b"data"
        answers = b""
        while not answers.endswith(Frame(Opcode.PONG, b"999").serialize(mask=False)):
            answers += await receive(stranger)
        assert answers.count(b"\x8a") <= 1000


async def test_tiny_frames_are_read_in_turns_so_that_others_have_theirs() -> None:
    """A read may hold a hundred thousand of them, which take a tenth of a second."""
    async with half_by_hand() as (ours, stranger):
        frame, turns, got = masked(Opcode.PING, b""), 0, 0
        buffer = memoryview(bytearray(1 << 20))
        await send_all(stranger, frame * 5 * FRAMES + masked(Opcode.BINARY, b"data"))
        while not got:
            await ours.wait_readable()
            got = ours.receive_nowait(buffer) or 0
            turns += 1
        assert bytes(buffer[:got]) == b"data"
        assert turns > 5


async def test_a_pong_waits_for_the_end_of_a_frame_that_is_stuck() -> None:
    async with half_by_hand() as (ours, stranger):
        sent, piece = 0, bytes(200_000)
        while count := ours.send_nowait(piece):
            sent += count
        await send_all(stranger, masked(Opcode.PING, b"are you there") + masked(Opcode.BINARY, b"x"))
        assert await receive_exactly(ours, 1) == b"x"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_all, ours, piece)
            received = bytearray()
            while b"are you there" not in received[-200_000:]:
                received += await receive(stranger)
                tasks.cancel_scope.deadline = anyio.current_time() + 10
            pong = Frame(Opcode.PONG, b"are you there").serialize(mask=False)
            assert pong in received
            while len(received) < sent + len(piece):
                received += await receive(stranger)


async def test_a_close_frame_is_the_end() -> None:
    async with half_by_hand() as (ours, stranger):
        await send_all(stranger, masked(Opcode.BINARY, b"last") + masked(Opcode.CLOSE, b"\x03\xe8"))
        assert await receive_all(ours) == b"last"
        assert await receive(ours) == b""
        ours.close()
        assert await receive_all(stranger) == Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)


async def test_broken_rules_are_an_error_of_the_connection() -> None:
    async with half_by_hand() as (ours, stranger):
        await send_all(stranger, b"\x82\x04data")
        with pytest.raises(OSError, match="masked the wrong way"):
            await receive(ours)
        with pytest.raises(OSError, match="masked the wrong way"):
            ours.send_nowait(b"x")


async def test_the_head_is_bounded_on_the_wire_too() -> None:
    transport = WebSocketTransport(WebSocketConfig(max_head=1000))
    listener = await transport.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0/ws"))
    stranger = await by_hand(listener.address)
    ours = await listener.accept()
    await send_all(stranger, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 1000)
    with anyio.fail_after(30), pytest.raises(OSError, match="more than 1000 bytes"):
        await receive(ours)
    for end in (ours, stranger, listener):
        end.close()


async def test_a_hang_up_in_the_opening_is_an_error() -> None:
    listener = await WebSocketTransport().listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0/ws"))
    stranger = await by_hand(listener.address)
    ours = await listener.accept()
    await send_all(stranger, UPGRADE[:40])
    stranger.close()
    with anyio.fail_after(30), pytest.raises(OSError, match="hung up"):
        await receive(ours)
    ours.close()
    listener.close()


async def test_without_the_extra_hosts_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Host() as alice, Host(listen=["/ip4/127.0.0.1/tcp/0/ws"]) as bob:
        monkeypatch.setitem(sys.modules, "websockets", None)
        with pytest.raises(DialError, match=r'pip install "py-p2pstack\[ws\]"'):
            await alice.connect(bob.full_addresses[0])
        with pytest.raises(ListenError, match=r'pip install "py-p2pstack\[ws\]"'):
            await alice.network.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0/ws"))
        await alice.network.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0"))


async def test_what_comes_right_behind_the_request_is_not_lost() -> None:
    listener = await WebSocketTransport().listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0/ws"))
    stranger = await by_hand(listener.address)
    ours = await listener.accept()
    await send_all(stranger, UPGRADE + masked(Opcode.BINARY, b"early") + masked(Opcode.BINARY, b"bird"))
    with anyio.fail_after(30):
        assert [await receive(ours, 1) for _ in range(9)] == [bytes([byte]) for byte in b"earlybird"]
    for end in (ours, stranger, listener):
        end.close()


async def test_inside_tls_what_found_no_room_is_offered_again_or_the_send_fails() -> None:
    transport = WebSocketTransport(web_config())
    listener = await transport.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0/wss"))
    dialled = await transport.dial(listener.address)
    accepted = await listener.accept()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(dialled.wait_writable)
            tasks.start_soon(accepted.wait_writable)
        fill(dialled)
        while accepted.receive_nowait(memoryview(bytearray(1 << 16))) is not None:
            pass
        await dialled.wait_writable()
        with pytest.raises(OSError, match="other bytes than were offered before"):
            dialled.send_nowait(b"x" * 100_000)
    for end in (dialled, accepted, listener):
        end.close()

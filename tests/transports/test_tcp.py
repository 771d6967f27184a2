"""TCP beyond the contract: options, families, exhaustion, descriptors."""

from __future__ import annotations

import errno
import os
import socket
import sys

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import ListenError
from py_p2pstack.testing.contracts import receive
from py_p2pstack.transports import sockets
from py_p2pstack.transports.sockets import Endpoint, SocketConfig, SocketListener, tcp_endpoint, tcp_multiaddr
from py_p2pstack.transports.tcp import TcpTransport

pytestmark = pytest.mark.anyio

LOCAL = Multiaddr.parse("/ip4/127.0.0.1/tcp/0")


def descriptors() -> int:
    """How many descriptors below 256 are open."""
    count = 0
    for number in range(256):
        try:
            os.fstat(number)
            count += 1
        except OSError:
            continue
    return count


# --- addresses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "dial", "listen"),
    [
        ("/ip4/127.0.0.1/tcp/4001", True, True),
        ("/ip6/::1/tcp/4001", True, True),
        ("/ip6zone/lo/ip6/fe80::1/tcp/4001", True, True),
        ("/ip4/127.0.0.1/tcp/0", False, True),
        ("/ip4/127.0.0.1/tcp/4001/ws", False, False),
        ("/ip4/127.0.0.1/tcp/4001/tls/ws", False, False),
        ("/ip4/127.0.0.1/udp/4001", False, False),
        ("/ip4/127.0.0.1/udp/4001/quic-v1", False, False),
        ("/dns4/localhost/tcp/4001", False, False),
        ("/ip4/127.0.0.1", False, False),
        ("/tcp/4001", False, False),
        ("/memory/7", False, False),
    ],
)
async def test_only_plain_tcp_addresses_are_ours(text: str, dial: bool, listen: bool) -> None:
    address = Multiaddr.parse(text)
    assert TcpTransport().can_dial(address) is dial
    assert TcpTransport().can_listen(address) is listen


async def test_what_stands_behind_the_port_is_left_to_other_transports() -> None:
    found = tcp_endpoint(Multiaddr.parse("/ip4/1.2.3.4/tcp/443/tls/ws"))
    assert found == (Endpoint(socket.AF_INET, "1.2.3.4", 443), ("tls", "ws"))


async def test_a_socket_name_becomes_a_multiaddr() -> None:
    assert str(tcp_multiaddr(("10.0.0.1", 80))) == "/ip4/10.0.0.1/tcp/80"
    assert str(tcp_multiaddr(("2001:db8::1", 80, 0, 0))) == "/ip6/2001:db8::1/tcp/80"
    assert str(tcp_multiaddr(("fe80::1%9999", 80, 0, 9999))) == "/ip6zone/9999/ip6/fe80::1/tcp/80"


async def test_a_zone_becomes_a_scope() -> None:
    index, name = socket.if_nameindex()[0]
    assert Endpoint(socket.AF_INET6, "fe80::1", 1, name).sockaddr() == ("fe80::1", 1, 0, index)
    assert Endpoint(socket.AF_INET6, "fe80::1", 1, "7").sockaddr() == ("fe80::1", 1, 0, 7)
    assert str(tcp_multiaddr(("fe80::1", 1, 0, index))) == f"/ip6zone/{name}/ip6/fe80::1/tcp/1"


async def test_a_zone_that_is_no_interface_is_a_clear_error() -> None:
    transport = TcpTransport()
    with pytest.raises(OSError):
        await transport.dial(Multiaddr.parse("/ip6zone/nowhere/ip6/fe80::1/tcp/1"))
    with pytest.raises(ListenError):
        await transport.listen(Multiaddr.parse("/ip6zone/nowhere/ip6/fe80::1/tcp/1"))


async def test_an_address_of_another_machine_is_a_clear_error() -> None:
    with pytest.raises(ListenError, match="not an address of this machine"):
        await TcpTransport().listen(Multiaddr.parse("/ip4/192.0.2.1/tcp/0"))


# --- options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["/ip4/127.0.0.1", "/ip6/::1"])
async def test_both_ends_have_the_options_of_the_data_path(host: str) -> None:
    transport = TcpTransport(SocketConfig(notsent_low_water=131072, keepalive=20))
    listener = await transport.listen(Multiaddr.parse(f"{host}/tcp/0"))
    dialled = await transport.dial(listener.address)
    accepted = await listener.accept()
    for end in (dialled, accepted):
        sock = end._sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not sock.get_inheritable()
        assert not sock.getblocking()
        if sys.platform == "linux":
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 131072
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 20
        end.close()
    listener.close()


async def test_both_families_may_have_the_same_port() -> None:
    transport = TcpTransport()
    first = await transport.listen(Multiaddr.parse("/ip6/::/tcp/0"))
    port = first.address.value("tcp")
    second = await transport.listen(Multiaddr.parse(f"/ip4/0.0.0.0/tcp/{port}"))
    dialled = await transport.dial(Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}"))
    accepted = await second.accept()
    assert str(accepted.local_address) == f"/ip4/127.0.0.1/tcp/{port}"
    for each in (dialled, accepted, first, second):
        each.close()


async def test_a_port_is_free_again_while_its_connections_linger() -> None:
    transport = TcpTransport()
    listener = await transport.listen(LOCAL)
    dialled = await transport.dial(listener.address)
    accepted = await listener.accept()
    accepted.close()  # who closes first is left in TIME_WAIT
    dialled.close()
    listener.close()
    again = await transport.listen(listener.address)
    again.close()


# --- dialling ---------------------------------------------------------------------------------------


async def test_a_cancelled_dial_leaves_no_descriptor() -> None:
    transport = TcpTransport(SocketConfig(backlog=1))
    listener = await transport.listen(LOCAL)
    stuck = []
    with anyio.move_on_after(0.3):  # fill the backlog; what is dialled behind it hangs
        for _ in range(8):
            stuck.append(await transport.dial(listener.address))
    before = descriptors()
    for _ in range(3):
        with anyio.move_on_after(0.001):
            stuck.append(await transport.dial(listener.address))
            before += 1
    with anyio.CancelScope() as scope:
        scope.cancel()
        stuck.append(await transport.dial(listener.address))
    assert scope.cancelled_caught
    assert descriptors() == before
    for end in stuck:
        end.close()
    listener.close()


async def test_a_refused_dial_leaves_no_descriptor() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        address = tcp_multiaddr(deaf.getsockname())
        before = descriptors()
        with pytest.raises(ConnectionRefusedError):
            await TcpTransport().dial(address)
        assert descriptors() == before


async def test_a_connection_to_oneself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may pick the port we dial as our own, and TCP then connects the socket with itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    set_options = sockets.set_options

    def bind_to_the_target(sock: socket.socket, config: SocketConfig) -> None:
        set_options(sock, config)
        sock.bind(("127.0.0.1", port))

    monkeypatch.setattr(sockets, "set_options", bind_to_the_target)
    with pytest.raises(ConnectionRefusedError):
        await TcpTransport().dial(Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}"))


async def test_thousands_of_connections_leave_no_descriptor() -> None:
    transport = TcpTransport()
    listener = await transport.listen(LOCAL)
    before = descriptors()
    for _ in range(1000):
        dialled = await transport.dial(listener.address)
        accepted = await listener.accept()
        dialled.close()
        accepted.close()
    assert descriptors() == before
    listener.close()


# --- closing ----------------------------------------------------------------------------------------


async def test_a_descriptor_stays_taken_until_its_waiters_have_left() -> None:
    """Or a newcomer with the same number would lose its place in the event loop to a waiter that is just waking."""
    transport = TcpTransport()
    listener = await transport.listen(LOCAL)
    old = await transport.dial(listener.address)
    peer = await listener.accept()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(old.wait_readable)
        await anyio.wait_all_tasks_blocked()
        number = old._sock.fileno()
        old.close()
        with socket.socket() as newcomer:
            assert newcomer.fileno() != number
    assert old._sock.fileno() == -1
    assert await receive(peer) == b""
    peer.close()
    listener.close()


async def test_a_cancelled_waiter_of_a_closed_connection_frees_the_descriptor() -> None:
    transport = TcpTransport()
    listener = await transport.listen(LOCAL)
    dialled = await transport.dial(listener.address)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dialled.wait_readable)
        await anyio.wait_all_tasks_blocked()
        dialled.close()
        tasks.cancel_scope.cancel()
    assert dialled._sock.fileno() == -1
    (await listener.accept()).close()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_closed, listener)
        await anyio.wait_all_tasks_blocked()
        listener.close()
    assert listener._sock.fileno() == -1


async def _expect_closed(listener: SocketListener) -> None:
    with pytest.raises(anyio.ClosedResourceError):
        await listener.accept()


async def test_a_reset_by_the_peer_is_an_oserror() -> None:
    transport = TcpTransport()
    listener = await transport.listen(LOCAL)
    dialled = await transport.dial(listener.address)
    accepted = await listener.accept()
    accepted._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    accepted._sock.close()
    await dialled.wait_readable()
    with pytest.raises(ConnectionResetError):
        dialled.receive_nowait(memoryview(bytearray(1)))
    dialled.close()
    listener.close()


async def test_things_say_what_they_are() -> None:
    transport = TcpTransport()
    listener = await transport.listen(LOCAL)
    dialled = await transport.dial(listener.address)
    assert repr(listener) == f"<SocketListener {listener.address}>"
    assert repr(dialled) == f"<SocketConnection {dialled.local_address} – {listener.address}>"
    listener.close()
    dialled.close()
    assert "closed" in repr(listener)
    assert "closed" in repr(dialled)


# --- a listener in trouble --------------------------------------------------------------------------


class Faulty:
    """A listening socket whose next accepts fail as told."""

    def __init__(self, sock: socket.socket, faults: list[int]) -> None:
        self._sock = sock
        self._faults = faults

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self._faults:
            code = self._faults.pop(0)
            raise OSError(code, os.strerror(code))
        return self._sock.accept()

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()


async def faulty_listener(*faults: int) -> SocketListener:
    config = SocketConfig(min_accept_pause=0.0001, max_accept_pause=0.0004)
    listener = await TcpTransport(config).listen(LOCAL)
    listener._sock = Faulty(listener._sock, list(faults))  # type: ignore[assignment]
    return listener


async def test_a_listener_outlives_exhaustion_and_aborted_connects() -> None:
    listener = await faulty_listener(
        errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ECONNABORTED, errno.ENETDOWN
    )
    dialled = await TcpTransport().dial(listener.address)
    accepted = await listener.accept()
    assert accepted.remote_address == dialled.local_address
    assert (listener.exhausted, listener.aborted) == (5, 2)
    for each in (dialled, accepted, listener):
        each.close()


async def test_a_broken_listener_is_an_error_not_a_busy_loop() -> None:
    listener = await faulty_listener(errno.ENOTSOCK)
    with pytest.raises(OSError):
        await listener.accept()
    listener.close()


async def test_a_connection_that_broke_before_it_was_accepted_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = TcpTransport()
    listener = await transport.listen(LOCAL)
    first = await transport.dial(listener.address)
    second = await transport.dial(listener.address)
    set_options, calls = sockets.set_options, []

    def fail_once(sock: socket.socket, config: SocketConfig) -> None:
        calls.append(sock)
        if len(calls) == 1:
            raise OSError(errno.EINVAL, "what macOS says of a socket that was reset")
        set_options(sock, config)

    monkeypatch.setattr(sockets, "set_options", fail_once)
    accepted = await listener.accept()
    assert accepted.remote_address == second.local_address
    assert listener.aborted == 1
    assert calls[0].fileno() == -1
    for each in (first, second, accepted, listener):
        each.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on descriptors to lower there")
async def test_real_exhaustion_of_descriptors_passes() -> None:
    import resource

    config = SocketConfig(min_accept_pause=0.001, max_accept_pause=0.005)
    transport = TcpTransport(config)
    listener = await transport.listen(LOCAL)
    dialled = await transport.dial(listener.address)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    accepted = []

    async def accept() -> None:
        accepted.append(await listener.accept())

    async with anyio.create_task_group() as tasks:
        await anyio.wait_all_tasks_blocked()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            tasks.start_soon(accept)
            while not listener.exhausted:
                await anyio.lowlevel.checkpoint()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert accepted[0].remote_address == dialled.local_address
    for each in (dialled, accepted[0], listener):
        each.close()

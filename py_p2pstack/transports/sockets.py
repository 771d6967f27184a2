"""Non-blocking stream sockets behind the raw seams: connect, bind, accept, and the pipe itself.

The data path calls the socket directly and waits for the event loop only when the kernel has nothing or no
room: that is up to five times the throughput of a stream object per connection.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack.addresses import Multiaddr, is_unspecified, parse_bytes
from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import ListenError
from py_p2pstack.transports.kept_reader import KeptReader
from py_p2pstack.wire import varint

_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_KEEPIDLE: int | None = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))  # macOS: KEEPALIVE
_KEEPINTVL: int | None = getattr(socket, "TCP_KEEPINTVL", None)
_DRAIN = 1 << 20  # bytes of unread input a close throws away
_SCRATCH = mmap(-1, 1 << 16)  # memory that is taken up where it is used

# accept(2): faults of one arriving connection, not of the listener.
_ABORTED = frozenset(
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "ECONNRESET", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET"),
        *("EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH", "EPERM", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
)
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_REASONS = {
    errno.EADDRINUSE: "address already in use",
    errno.EADDRNOTAVAIL: "not an address of this machine",
    errno.EACCES: "permission denied",
}
if sys.platform == "win32":
    _REASONS[errno.WSAEACCES] = "address already in use"  # what SO_EXCLUSIVEADDRUSE makes of it


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketConfig:
    """How the kernel is to treat our stream sockets."""

    backlog: int = 1024
    """Connections that may wait to be accepted; the kernel clamps it to its own limit."""
    notsent_low_water: int = 1024 * 1024
    """Bytes the kernel holds unsent before it calls a socket full, where it can be told.

    What waits with us instead can still be reordered: a ping passes a bulk transfer.
    """
    keepalive: float = 15.0
    """Seconds of silence before the kernel probes a peer, and between probes (go: net.Dialer's default)."""
    min_accept_pause: float = 0.005
    """Seconds a listener rests when file descriptors or memory ran out; doubles while it lasts."""
    max_accept_pause: float = 1.0
    """The longest such rest."""


class Endpoint(NamedTuple):
    """An IP address and a port, as a multiaddr began with."""

    family: socket.AddressFamily
    host: str
    port: int
    zone: str = ""

    def sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """What the socket calls want. Raises OSError for a zone that is no interface."""
        if self.family is socket.AF_INET:
            return self.host, self.port
        scope = 0
        if self.zone:
            scope = int(self.zone) if self.zone.isdecimal() else socket.if_nametoindex(self.zone)
        return self.host, self.port, 0, scope


def tcp_endpoint(address: Multiaddr) -> tuple[Endpoint, tuple[str, ...]] | None:
    """Split off a leading `[/ip6zone/Z]/ip4|ip6/…/tcp/N`: the endpoint, and the names behind it."""
    names = address.protocols
    zone = ""
    if names[:2] == ("ip6zone", "ip6"):
        zone = address.value("ip6zone") or ""
        names = names[1:]
    if len(names) < 2 or names[0] not in ("ip4", "ip6") or names[1] != "tcp":
        return None
    family = socket.AF_INET if names[0] == "ip4" else socket.AF_INET6
    host, port = address.value(names[0]), address.raw_value("tcp")
    assert host is not None
    assert port is not None
    return Endpoint(family, host, int.from_bytes(port, "big"), zone), names[2:]


def tcp_multiaddr(sockaddr: tuple[str, int] | tuple[str, int, int, int]) -> Multiaddr:
    """The multiaddr of a socket's name."""
    port = b"\x06" + sockaddr[1].to_bytes(2, "big")
    if len(sockaddr) == 2:
        return parse_bytes(b"\x04" + socket.inet_pton(socket.AF_INET, sockaddr[0]) + port)
    prefix = b""
    if sockaddr[3]:
        zone = _zone_name(sockaddr[3]).encode()
        prefix = b"\x2a" + varint.encode(len(zone)) + zone
    host = sockaddr[0].partition("%")[0]
    return parse_bytes(prefix + b"\x29" + socket.inet_pton(socket.AF_INET6, host) + port)


def _zone_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:  # the interface has gone
        return str(index)


class SocketConnection:
    """A connected stream socket as a `RawConnection`. Takes the socket over."""

    __slots__ = ("_closed", "_reader", "_sock", "_waiters", "local_address", "remote_address")

    def __init__(self, sock: socket.socket, local: Multiaddr, remote: Multiaddr) -> None:
        self._sock = sock
        self._reader = KeptReader(sock)
        self._closed = False
        self._waiters = 0
        self.local_address = local
        self.remote_address = remote

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return f"<SocketConnection {self.local_address} – {self.remote_address}{state}>"

    def receive_nowait(self, buffer: memoryview) -> int | None:
        """Read into `buffer`: the count, 0 at the end of input, None if there is nothing. Raises OSError."""
        if self._closed:
            raise _closed()
        try:
            return self._sock.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return None

    def send_nowait(self, data: Buffer) -> int:
        """Write what the kernel takes without waiting. Raises OSError (also after `close`)."""
        if self._closed:
            raise _closed()
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    async def wait_readable(self) -> None:
        """Return when input, its end or an error is there, or the connection is closed here."""
        if self._closed:
            await checkpoint()
            return
        self._waiters += 1
        try:
            await self._reader.wait()
        except anyio.ClosedResourceError:
            pass
        finally:
            self._left()

    async def wait_writable(self) -> None:
        """Return when the kernel has room, an error is there, or the connection is closed here."""
        if self._closed:
            await checkpoint()
            return
        self._waiters += 1
        try:
            await anyio.wait_writable(self._sock)
        except anyio.ClosedResourceError:
            pass
        finally:
            self._left()

    def close(self) -> None:
        """Say goodbye and release the socket; wakes both waiters. Idempotent.

        What was taken by `send_nowait` still goes out: unread input is thrown away first (up to 1 MiB), for a
        kernel that closes over unread input resets the connection and drops its output.
        """
        if self._closed:
            return
        self._closed = True
        self._reader.close()
        if self._waiters:
            anyio.notify_closing(self._sock)
        try:
            self._sock.shutdown(socket.SHUT_WR)
            drained = 0
            while drained < _DRAIN and (count := self._sock.recv_into(_SCRATCH)):
                drained += count
        except OSError:  # nothing left to read, or no longer connected
            pass
        if not self._waiters:
            self._sock.close()

    def _left(self) -> None:
        """A waiter went; the last one closes the descriptor.

        Were its number reused before a woken waiter has run, that waiter would take the place of the newcomer
        in the event loop away.
        """
        self._waiters -= 1
        if self._closed and not self._waiters:
            self._sock.close()


class SocketListener:
    """A bound, listening socket as a `RawListener`. Takes the socket over."""

    def __init__(self, sock: socket.socket, config: SocketConfig) -> None:
        self.address = tcp_multiaddr(sock.getsockname())
        self.aborted = 0
        """Connections that were gone, or broken, when we came to accept them."""
        self.exhausted = 0
        """Times we ran out of descriptors or memory and rested."""
        self._sock = sock
        self._local = None if is_unspecified(self.address) else self.address
        self._config = config
        self._closed = False
        self._waiting = False

    def __repr__(self) -> str:
        return f"<SocketListener {self.address}{' closed' if self._closed else ''}>"

    async def accept(self) -> SocketConnection:
        """Wait for the next connection; survives aborted connects and exhaustion. Always yields once.

        Raises anyio.ClosedResourceError after `close`, OSError if the listener itself broke.
        """
        pause = self._config.min_accept_pause
        await checkpoint()
        while True:
            if self._closed:
                raise anyio.ClosedResourceError
            try:
                sock, remote = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                await self._wait()
            except OSError as fault:
                if fault.errno in _EXHAUSTED:
                    self.exhausted += 1
                    await anyio.sleep(pause)
                    pause = min(2 * pause, self._config.max_accept_pause)
                elif fault.errno in _ABORTED:
                    self.aborted += 1
                    await checkpoint()
                else:
                    raise
            else:
                try:
                    sock.setblocking(False)
                    set_options(sock, self._config)
                    local = self._local or tcp_multiaddr(sock.getsockname())
                    return SocketConnection(sock, local, tcp_multiaddr(remote))
                except OSError:  # reset before we came to it (macOS: EINVAL on any option)
                    sock.close()
                    self.aborted += 1

    async def _wait(self) -> None:
        self._waiting = True
        try:
            await anyio.wait_readable(self._sock)
        finally:
            self._waiting = False
            if self._closed:
                self._sock.close()

    def close(self) -> None:
        """Stop listening; wakes `accept`. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._waiting:
            anyio.notify_closing(self._sock)
        else:
            self._sock.close()


async def connect(endpoint: Endpoint, config: SocketConfig) -> SocketConnection:
    """Connect. Raises OSError; cancelling leaves no descriptor behind."""
    sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        set_options(sock, config)
        target = endpoint.sockaddr()
        try:
            sock.connect(target)
        except BlockingIOError:
            if not _is_connected(sock):
                await anyio.wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code)) from None
        local, remote = sock.getsockname(), sock.getpeername()
        if local == remote:  # TCP's simultaneous open with ourselves: the free port we were given is the one we dialled
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        return SocketConnection(sock, tcp_multiaddr(local), tcp_multiaddr(remote))
    except BaseException:
        sock.close()
        raise


def _is_connected(sock: socket.socket) -> bool:
    """Whether a connect under way has succeeded already, as on this machine it has at once."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def bind(endpoint: Endpoint, address: Multiaddr, config: SocketConfig) -> SocketListener:
    """Bind and listen. Raises ListenError(address, why): a port that is taken is never shared."""
    sock = None
    try:
        sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        if sys.platform == "win32":
            # There SO_REUSEADDR would let two programs listen on one port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # despite TIME_WAIT of our last life
        if endpoint.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(endpoint.sockaddr())
        sock.listen(config.backlog)
        return SocketListener(sock, config)
    except OSError as fault:
        if sock is not None:
            sock.close()
        raise ListenError(address, _REASONS.get(fault.errno or 0, fault.strerror or str(fault))) from fault


def set_options(sock: socket.socket, config: SocketConfig) -> None:
    """Options of every connected socket. Raises OSError."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if _KEEPIDLE is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _KEEPIDLE, max(1, round(config.keepalive)))
    if _KEEPINTVL is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _KEEPINTVL, max(1, round(config.keepalive)))
    if _NOTSENT_LOWAT is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, config.notsent_low_water)


def _closed() -> OSError:
    return OSError(errno.EBADF, "the connection is closed")

"""A UDP socket that many connections share: whole batches of datagrams a call, where the kernel has that.

Linux cuts one large send into datagrams (UDP_SEGMENT) and hands over received ones in one piece (UDP_GRO). Elsewhere
each datagram is a call of its own.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from mmap import mmap
from typing import Protocol

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import ListenError
from py_p2pstack.transports.kept_reader import KeptReader
from py_p2pstack.transports.quic.address import SocketAddress
from py_p2pstack.transports.sockets import Endpoint

_LINUX = sys.platform == "linux"
_UDP_SEGMENT = 103  # linux/udp.h; the socket module has no names for these
_UDP_GRO = 104
_SOL_UDP = 17
_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE = 10, 3  # linux/in.h: never fragment, and let QUIC find the size
_IPV6_MTU_DISCOVER, _IPV6_PMTUDISC_PROBE = 23, 3
_MAX_SEGMENTS = 64  # the kernel's bound on datagrams in one send
_MAX_BATCH = 65000  # bytes of one send; the kernel's bound is 65507
_BUFFER = 4 << 20  # bytes we ask the kernel to buffer, either way; it clamps that to its own limit
_ANCILLARY = 64  # bytes: room for one GRO size
_REASONS = {
    errno.EADDRINUSE: "address already in use",
    errno.EADDRNOTAVAIL: "not an address of this machine",
    errno.EACCES: "permission denied",
}


class _Scratch(threading.local):
    """Where the kernel writes to, shared by all sockets of a thread."""

    def __init__(self) -> None:
        self.inbound = memoryview(mmap(-1, 65536))


_scratch = _Scratch()


class DatagramSocket(Protocol):
    """What an endpoint needs of a socket; simulations have one of their own."""

    @property
    def name(self) -> SocketAddress: ...

    def receive_nowait(self) -> tuple[bytes, int, SocketAddress] | None:
        """Datagrams from one sender in one piece, the size of each (the last may be shorter), and who sent them."""
        ...

    def send_nowait(self, datagrams: list[bytes], to: SocketAddress) -> int:
        """Send what the kernel takes; returns how many of the datagrams that were. What cannot be sent is lost."""
        ...

    async def wait_readable(self) -> None: ...

    async def wait_writable(self) -> None: ...

    def close(self) -> None: ...


class UdpSocket:
    """Implements `DatagramSocket`. Takes the socket over."""

    def __init__(self, sock: socket.socket) -> None:
        self.name: SocketAddress = sock.getsockname()
        self._sock = sock
        self._reader = KeptReader(sock)
        self._closed = False
        self._waiters = 0
        self._gro = self._gso = False
        if _LINUX:
            self._gro = self._gso = _try_option(sock, _SOL_UDP, _UDP_GRO, 1)
            if sock.family is socket.AF_INET:
                _try_option(sock, socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
            else:
                _try_option(sock, socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IPV6_PMTUDISC_PROBE)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            _try_option(sock, socket.SOL_SOCKET, option, _BUFFER)

    def __repr__(self) -> str:
        return f"<UdpSocket {self.name}{' closed' if self._closed else ''}>"

    def receive_nowait(self) -> tuple[bytes, int, SocketAddress] | None:
        """See `DatagramSocket`. Raises OSError if the socket itself broke, or was closed."""
        view = _scratch.inbound
        while True:
            try:
                if not self._gro:
                    size, sender = self._sock.recvfrom_into(view)
                    return bytes(view[:size]), size, sender
                size, ancillary, _, sender = self._sock.recvmsg_into([view], _ANCILLARY)
            except (BlockingIOError, InterruptedError):
                return None
            except (ConnectionResetError, ConnectionRefusedError):  # somebody we sent to is not there (Windows tells)
                continue
            for level, kind, value in ancillary:
                if level == _SOL_UDP and kind == _UDP_GRO:
                    return bytes(view[:size]), struct.unpack_from("i", value)[0] or size, sender
            return bytes(view[:size]), size, sender

    def send_nowait(self, datagrams: list[bytes], to: SocketAddress) -> int:
        """See `DatagramSocket`."""
        sent, count = 0, len(datagrams)
        while sent < count:
            end = _batch(datagrams, sent) if self._gso else sent + 1
            try:
                if end == sent + 1:
                    self._sock.sendto(datagrams[sent], to)
                else:
                    size = struct.pack("H", len(datagrams[sent]))
                    self._sock.sendmsg(datagrams[sent:end], [(_SOL_UDP, _UDP_SEGMENT, size)], 0, to)
            except (BlockingIOError, InterruptedError):
                return sent
            except OSError as fault:
                if self._closed:
                    return count
                if end > sent + 1 and fault.errno in (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP):
                    self._gso = False  # a device that cannot
                    continue
                # unreachable, too large for the path, …: lost, as datagrams may be
            sent = end
        return sent

    async def wait_readable(self) -> None:
        """Return when datagrams are there, or the socket is closed."""
        await self._wait(self._reader.wait)

    async def wait_writable(self) -> None:
        """Return when the kernel has room, or the socket is closed."""
        await self._wait(partial(anyio.wait_writable, self._sock))

    async def _wait(self, wait: Callable[[], Awaitable[None]]) -> None:
        if self._closed:
            await checkpoint()
            return
        self._waiters += 1
        try:
            await wait()
        except anyio.ClosedResourceError:
            pass
        finally:
            self._left()

    def _left(self) -> None:
        self._waiters -= 1
        if self._closed and not self._waiters:
            self._sock.close()

    def close(self) -> None:
        """Release the socket; wakes whoever waits, and the last of them closes the descriptor. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._reader.close()
        if self._waiters:
            anyio.notify_closing(self._sock)
        else:
            self._sock.close()


def bind(endpoint: Endpoint, address: Multiaddr) -> UdpSocket:
    """Bind. Raises ListenError(address, why): a port that is taken is never shared."""
    sock = None
    try:
        sock = socket.socket(endpoint.family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if sys.platform == "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        if endpoint.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(endpoint.sockaddr())
        return UdpSocket(sock)
    except OSError as fault:
        if sock is not None:
            sock.close()
        raise ListenError(address, _REASONS.get(fault.errno or 0, fault.strerror or str(fault))) from fault


def check_route(target: Endpoint) -> None:
    """Raise OSError if the kernel knows no way to `target` (no IPv6 here, say); nothing is sent.

    Who sends a datagram that cannot leave learns nothing of it otherwise, and waits for an answer.
    """
    with socket.socket(target.family, socket.SOCK_DGRAM) as sock:
        sock.connect(target.sockaddr())


def _batch(datagrams: list[bytes], start: int) -> int:
    """Where the run of datagrams ends that one send can carry: all of one size, but for a shorter last one."""
    size = len(datagrams[start])
    limit = min(len(datagrams), start + min(_MAX_SEGMENTS, max(1, _MAX_BATCH // size)))
    end = start + 1
    while end < limit and len(datagrams[end]) == size:
        end += 1
    if end < limit and len(datagrams[end]) < size:
        end += 1
    return end


def _try_option(sock: socket.socket, level: int, option: int, value: int) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True

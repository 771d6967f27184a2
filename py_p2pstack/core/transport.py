"""Transports: from a multiaddr to a finished connection, and the raw byte pipes most of them are made of.

A stream transport (TCP, memory, WebSocket) implements `RawTransport`: it yields `RawConnection`s, which the upgrader
secures and multiplexes. A transport that brings security and streams of its own (QUIC) implements `Transport` itself.
The swarm knows `Transport` only and never asks what kind it got.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import MuxedConnection
from py_p2pstack.core.types import Buffer
from py_p2pstack.identity import PeerId


class RawConnection(Protocol):
    """A non-blocking, ordered, reliable pipe of bytes, as a stream socket is.

    Nothing here buffers for its caller: `send_nowait` takes what fits, the caller keeps the rest and offers it again
    before anything else. One task reads, one writes; both may be cancelled at any await without loss, because the
    awaits only wait and never move bytes of theirs.

    A kind of connection with a set-up of its own (WebSocket) is handed over before it: nothing is received or sent
    until then, and the waits, of one task at a time, bring it about.
    """

    @property
    def local_address(self) -> Multiaddr: ...

    @property
    def remote_address(self) -> Multiaddr: ...

    def receive_nowait(self, buffer: memoryview) -> int | None:
        """Read into `buffer`: the count, 0 at the end of input, None when nothing is there yet. Raises OSError."""
        ...

    def send_nowait(self, data: Buffer) -> int:
        """Write what fits without waiting: 0 ≤ count ≤ len(data). Raises OSError (also after `close`)."""
        ...

    async def wait_readable(self) -> None:
        """Return when `receive_nowait` would not return None (or after a close, when it would raise)."""
        ...

    async def wait_writable(self) -> None:
        """Return when `send_nowait` would take at least a byte, or raise."""
        ...

    def close(self) -> None:
        """Release the pipe at once; wakes both waiters. Bytes already taken by `send_nowait` are still delivered."""
        ...


class RawListener(Protocol):
    """A bound place where raw connections arrive."""

    @property
    def address(self) -> Multiaddr:
        """Where it really listens (port 0 resolved)."""
        ...

    async def accept(self) -> RawConnection:
        """Wait for the next connection. Survives transient faults (EMFILE, aborted connects) by itself.

        Raises anyio.ClosedResourceError once closed.
        """
        ...

    def close(self) -> None: ...


class RawTransport(Protocol):
    """Dials and listens for raw connections of the address kinds it knows."""

    name: str
    """`tcp`, `memory`, `ws`, …"""

    def can_dial(self, address: Multiaddr) -> bool: ...

    def can_listen(self, address: Multiaddr) -> bool: ...

    async def dial(self, address: Multiaddr) -> RawConnection:
        """Connect. Raises OSError or UnsupportedAddress; the caller bounds the time."""
        ...

    async def listen(self, address: Multiaddr) -> RawListener:
        """Bind. Raises ListenError; a port that is taken is an error, never shared."""
        ...


class Admission(Protocol):
    """The place an arriving connection takes up in the books, from before its handshake until its end."""

    def done(self) -> None:
        """Give the place back; idempotent."""
        ...


A = TypeVar("A", bound=Admission)


class InboundGate(Protocol[A]):
    """What a listener asks before it spends anything on an arriving connection, and whom it hands it to."""

    def admit(self, local: Multiaddr, remote: Multiaddr) -> A:
        """Reserve a place. Raises Gated or ResourceLimitExceeded."""
        ...

    async def serve(self, connection: MuxedConnection, admission: A) -> None:
        """Own the finished connection, and its place, until it ends."""
        ...


class Listener(Protocol):
    """A bound place where finished connections arrive."""

    @property
    def address(self) -> Multiaddr: ...

    async def serve(self, gate: InboundGate[A]) -> None:
        """Accept until cancelled or closed, each connection in a task of its own, at most a bounded number pending.

        `gate` admits each before its handshake and serves it afterwards, in the same task; the place of one that
        fails to become a connection is given back, and it touches no other.
        """
        ...

    def close(self) -> None: ...


class Transport(Protocol):
    """Dials and listens for finished (secured, multiplexed) connections."""

    def can_dial(self, address: Multiaddr) -> bool: ...

    def can_listen(self, address: Multiaddr) -> bool: ...

    async def dial(self, address: Multiaddr, peer: PeerId | None) -> MuxedConnection:
        """Connect and prove the remote to be `peer` (anyone, if None).

        Raises OSError, SecurityError, NegotiationError, UnsupportedAddress. The caller bounds the time; a cancelled
        dial leaves nothing open.
        """
        ...

    async def listen(self, address: Multiaddr) -> Listener: ...

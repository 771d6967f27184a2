"""Multiplexed connections: many independent streams over one secure connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.security import RecordLayer
from py_p2pstack.core.types import Buffer, Direction, ProtocolId
from py_p2pstack.identity import PeerId, PublicKey

if TYPE_CHECKING:
    from py_p2pstack.core.transport import RawConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionInfo:
    """What is known of a connection from its birth; never changes."""

    direction: Direction
    local_peer: PeerId
    remote_peer: PeerId
    remote_public_key: PublicKey
    local_address: Multiaddr
    remote_address: Multiaddr
    transport: str
    """`tcp`, `memory`, `ws`, `quic-v1`, …"""
    security: ProtocolId
    muxer: ProtocolId


class ByteStream(Protocol):
    """One ordered, flow-controlled, bidirectional stream of bytes. Send and receive may run in two tasks."""

    @property
    def id(self) -> int:
        """The number of the stream inside its connection."""
        ...

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return 1..max_bytes bytes as soon as some are there.

        Raises anyio.EndOfStream after the peer's last byte, StreamReset, StreamClosed or ConnectionClosed. Cancelling
        loses no byte. Does not yield to other tasks when bytes are already there.
        """
        ...

    async def send(self, item: Buffer) -> None:
        """Hand over all of `item`; waits while too much is unsent (the peer's window, the socket).

        Returns when the bytes are queued in order, not when the peer has them. A `bytes` object is not copied. When
        cancelled while waiting, all of `item` is queued or the stream is reset: never a part of it.
        """
        ...

    async def send_eof(self) -> None:
        """Close our side for writing, behind all that was sent; reading goes on."""
        ...

    def reset(self, code: int = 0) -> None:
        """End both directions at once and tell the peer; never blocks; idempotent."""
        ...

    async def aclose(self) -> None:
        """End the stream without waiting: close our side; what the peer still sends is dropped."""
        ...


class MuxedStream(ByteStream, Protocol):
    """A stream as its muxer hands it out."""

    on_end: Callable[[], None] | None
    """Called once when both directions have ended; must not block or raise."""

    def send_soon(self, item: bytes) -> None:
        """Queue a few bytes without waiting, also while another task sends: for negotiation, not for bulk."""
        ...


class MemoryBudget(Protocol):
    """How much memory a connection may make us hold: its place in the books."""

    def reserve_memory(self, size: int, priority: int) -> None:
        """Take `size` bytes, if `priority + 1` 256ths of what there is suffice. Raises ResourceLimitExceeded."""
        ...

    def release_memory(self, size: int) -> None:
        """Give so many back."""
        ...


class MuxedConnection(Protocol):
    """A finished connection as the swarm sees it: an identity at the other end, and streams."""

    @property
    def info(self) -> ConnectionInfo: ...

    @property
    def closed(self) -> bool: ...

    async def open_stream(self) -> MuxedStream:
        """Open a stream without a round trip; waits while too many are unacknowledged. Raises ConnectionClosed."""
        ...

    async def serve(self, handler: Callable[[MuxedStream], bool], budget: MemoryBudget | None = None) -> None:
        """Run the connection until it ends; returns when it was closed by either side, never raises for a peer's fault.

        `handler` is called synchronously for each stream the peer opens, must not block, and returns False to refuse
        it (it is then reset). When this returns, every stream has ended. `budget`: where memory that the peer may make
        us hold is charged, beyond what the number of its streams bounds; what it refuses is done without.
        """
        ...

    def close(self, code: int = 0) -> None:
        """Begin to end the connection: go-away with `code`, all streams end; `serve` returns soon. Idempotent."""
        ...

    def tick(self, now: float) -> None:
        """Do what time demands (keepalive, close timeouts); whoever keeps connections calls it about once a second."""
        ...

    @property
    def close_reason(self) -> Exception | None:
        """Why it ended (ConnectionClosed with code and side, or the fault); None while it lives."""
        ...

    @property
    def rtt(self) -> float | None:
        """The last round-trip time measured by the muxer in seconds, if it measures."""
        ...


class MuxerFactory(Protocol):
    """Builds the multiplexed connection at the end of an upgrade."""

    def __call__(
        self,
        *,
        raw: RawConnection,
        records: RecordLayer,
        unread: bytes,
        early_plaintext: bytes,
        unsent: bytes,
        info: ConnectionInfo,
    ) -> MuxedConnection:
        """`unread` are sealed bytes not opened yet; `early_plaintext` comes before what they hold.

        `unsent`, the end of the handshake, goes out before anything else, as soon as there is something.
        """
        ...

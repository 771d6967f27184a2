"""The stream an application holds: a muxed stream plus what multistream-select still has in flight on it.

Two things ride along with the application's own bytes instead of costing a message of their own: what we say to agree
on the protocol (`_prefix`, sent with the first bytes), and the peer's reply to an optimistic proposal (`_reply`, taken
off the first bytes received). Afterwards every call goes straight to the muxed stream.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from py_p2pstack.core.error_codes import StreamCode
from py_p2pstack.core.muxer import MuxedStream
from py_p2pstack.core.types import Buffer, Direction, ProtocolId
from py_p2pstack.errors import MessageTooLarge, NegotiationError, RemoteProtocolError, StreamError
from py_p2pstack.identity import PeerId
from py_p2pstack.network.resources import StreamScope
from py_p2pstack.upgrade.multistream import LazyReply
from py_p2pstack.wire import varint

if TYPE_CHECKING:
    from py_p2pstack.network.connection import SwarmConnection

_CHUNK = 65536


class SwarmStream:
    """One stream of a connection; see `core.stream.Stream` for what each call promises."""

    __slots__ = (
        "__weakref__",
        "_awaiting_reply",
        "_connection",
        "_eof_waits",
        "_muxed",
        "_prefix",
        "_protocol",
        "_reply",
        "_unread",
        "direction",
        "scope",
    )

    def __init__(
        self,
        connection: SwarmConnection,
        muxed: MuxedStream,
        direction: Direction,
        scope: StreamScope,
    ) -> None:
        self._connection = connection
        self._muxed = muxed
        self.direction = direction
        self.scope = scope
        self._protocol: ProtocolId = ""
        self._prefix = b""
        self._reply: LazyReply | None = None
        self._awaiting_reply = False
        self._eof_waits = False
        self._unread = b""

    def __repr__(self) -> str:
        return f"<Stream {self.id} {self._protocol or '(negotiating)'} {self.direction.value} {self.remote_peer}>"

    # --- what it is -------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """The number of the stream inside its connection."""
        return self._muxed.id

    @property
    def protocol(self) -> ProtocolId:
        """The protocol agreed on; "" while an inbound stream still negotiates."""
        return self._protocol

    @property
    def connection(self) -> SwarmConnection:
        """The connection it runs over."""
        return self._connection

    @property
    def remote_peer(self) -> PeerId:
        """Who is at the other end, proven."""
        return self._connection.remote_peer

    @property
    def muxed(self) -> MuxedStream:
        """The stream below, for negotiation."""
        return self._muxed

    def set_service(self, service: str) -> None:
        """See `Stream.set_service`."""
        self.scope.set_service(service)

    def agree(
        self,
        protocol: ProtocolId,
        *,
        prefix: bytes = b"",
        reply: LazyReply | None = None,
        unread: bytes = b"",
    ) -> None:
        """Record the outcome of negotiation.

        `prefix` goes out before the first bytes sent, `reply` judges the first bytes received, `unread` are bytes of
        the application that arrived with the negotiation. Raises ResourceLimitExceeded.
        """
        self.scope.set_protocol(protocol)
        self._protocol = protocol
        self._prefix = prefix
        self._reply = reply
        self._unread = unread

    # --- bytes ------------------------------------------------------------------------------------

    async def receive(self, max_bytes: int = _CHUNK) -> bytes:
        """Return 1..max_bytes bytes; see `MuxedStream.receive`."""
        unread = self._unread
        if unread:
            if len(unread) <= max_bytes:
                self._unread = b""
                return unread
            self._unread = unread[max_bytes:]
            return unread[:max_bytes]
        if self._prefix:
            self._flush()
        if self._reply is not None:
            await self._await_reply(self._reply)
            if self._unread:
                return await self.receive(max_bytes)
        return await self._muxed.receive(max_bytes)

    async def receive_exactly(self, count: int) -> bytes:
        """Return exactly `count` bytes; raises anyio.IncompleteRead if the peer ends before."""
        if count == 0:
            return b""
        try:
            data = await self.receive(count)
            if len(data) == count:
                return data
            parts = bytearray(data)
            while len(parts) < count:
                parts += await self.receive(count - len(parts))
        except anyio.EndOfStream:
            raise anyio.IncompleteRead from None
        return bytes(parts)

    async def receive_message(self, max_size: int) -> bytes:
        """Return the next uvarint-framed message of at most `max_size` bytes. Cancelling loses nothing of it.

        Raises:
            anyio.EndOfStream: the peer ended between two messages.
            RemoteProtocolError: the peer ended inside a message, or the length is no varint.
            MessageTooLarge: the announced length passes `max_size`.
        """
        data = await self.receive()
        try:
            while (prefix := varint.decode(data)) is None:
                data += await self.receive()
            size, start = prefix
            if size > max_size:
                raise MessageTooLarge(f"a message of {size} bytes; the limit is {max_size}")
            end = start + size
            if len(data) < end:
                parts = bytearray(data)
                try:
                    while len(parts) < end:
                        parts += await self.receive()
                finally:
                    data = bytes(parts)
        except anyio.EndOfStream:
            raise RemoteProtocolError("the stream ended inside a message") from None
        except anyio.get_cancelled_exc_class():
            self._unread = data + self._unread
            raise
        if len(data) > end:
            self._unread = data[end:] + self._unread
        return data[start:end]

    async def send(self, item: Buffer) -> None:
        """Hand over all of `item`; see `MuxedStream.send`."""
        if self._prefix:
            prefix, self._prefix = self._prefix, b""
            item = prefix + item
        await self._muxed.send(item)

    async def send_message(self, message: bytes) -> None:
        """Send `message` behind its uvarint length."""
        await self.send(varint.encode(len(message)) + message)

    async def send_eof(self) -> None:
        """Close our side for writing; reading goes on.

        An optimistic proposal is waited for first: js-libp2p loses the bytes of a stream whose end arrives while it
        still negotiates.
        """
        if self._prefix:
            self._flush()
        if self._reply is not None:
            if self._awaiting_reply:  # a receive is at it, and sends the end behind
                self._eof_waits = True
                return
            await self._await_reply(self._reply)
        await self._muxed.send_eof()

    # --- the end ----------------------------------------------------------------------------------

    def reset(self, code: int = 0) -> None:
        """End both directions at once; see `MuxedStream.reset`."""
        self._muxed.reset(code)

    async def aclose(self) -> None:
        """Close the stream; what was sent still arrives, what was not read is dropped."""
        if self._prefix:
            try:
                self._flush()
            except StreamError:
                pass  # it ended before we said a word: nothing is lost
        await self._muxed.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            await self.aclose()
        else:
            self.reset()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    # --- negotiation still in flight --------------------------------------------------------------

    def _flush(self) -> None:
        """Say what agrees on the protocol, without the application's bytes; another task may be sending those."""
        prefix, self._prefix = self._prefix, b""
        self._muxed.send_soon(prefix)

    async def _await_reply(self, reply: LazyReply) -> None:
        """Read until the peer has agreed to our optimistic proposal."""
        self._awaiting_reply = True
        try:
            while not reply.receive_data(await self._muxed.receive(_CHUNK)):
                pass
        except anyio.EndOfStream:
            raise RemoteProtocolError("the stream ended inside the negotiation") from None
        except NegotiationError:
            self._connection.forget_protocol(self._protocol)
            self.reset(StreamCode.PROTOCOL_NEGOTIATION_FAILED)
            raise
        except RemoteProtocolError:
            self.reset(StreamCode.PROTOCOL_NEGOTIATION_FAILED)
            raise
        finally:
            self._awaiting_reply = False
        self._reply = None
        self._unread = reply.unread
        if self._eof_waits:
            await self._muxed.send_eof()

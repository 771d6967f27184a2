"""One admitted connection: its streams, its place in the books, and its end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import anyio

from py_p2pstack.core.error_codes import StreamCode
from py_p2pstack.core.muxer import ConnectionInfo, MuxedConnection, MuxedStream
from py_p2pstack.core.types import Direction, ProtocolId
from py_p2pstack.errors import NegotiationError, OperationTimeout, RemoteProtocolError, ResourceLimitExceeded
from py_p2pstack.identity import PeerId
from py_p2pstack.network.resources import ConnectionScope
from py_p2pstack.network.stream import SwarmStream
from py_p2pstack.upgrade.multistream import LazyReply, Proposer, lazy_proposal

if TYPE_CHECKING:
    from py_p2pstack.network.swarm import Swarm


class SwarmConnection:
    """A live connection to one proven peer; see `core.connection.Connection`."""

    __slots__ = (
        "__weakref__",
        "_ended",
        "_muxed",
        "_streams",
        "_swarm",
        "identified",
        "info",
        "opened_at",
        "remote_peer",
        "scope",
    )

    def __init__(self, swarm: Swarm, muxed: MuxedConnection, scope: ConnectionScope, opened_at: float) -> None:
        self._swarm = swarm
        self._muxed = muxed
        self._streams: dict[SwarmStream, None] = {}  # in the order they came
        self._ended = anyio.Event()
        self.identified = False
        self.scope = scope
        self.info: ConnectionInfo = muxed.info
        self.remote_peer: PeerId = muxed.info.remote_peer
        self.opened_at = opened_at

    def __repr__(self) -> str:
        info = self.info
        state = "closed" if self.closed else f"{len(self._streams)} streams"
        return f"<Connection {info.direction.value} {self.remote_peer} {info.remote_address} {state}>"

    @property
    def closed(self) -> bool:
        """Whether it has begun to end."""
        return self._muxed.closed

    @property
    def close_reason(self) -> Exception | None:
        """Why it ended; None while it lives."""
        return self._muxed.close_reason

    @property
    def rtt(self) -> float | None:
        """The last round-trip time the muxer measured, in seconds."""
        return self._muxed.rtt

    @property
    def streams(self) -> Collection[SwarmStream]:
        """The streams that have not ended."""
        return self._streams

    async def new_stream(self, protocols: Sequence[ProtocolId]) -> SwarmStream:
        """Open a stream and agree on the first of `protocols` the peer speaks.

        If identify told that the peer speaks one of them the stream is there without a round trip; should the peer
        have changed its mind, the first receive raises NegotiationError. What it told on an earlier connection is not
        believed where there is a choice: a wrong one cannot be taken back once bytes have followed it.
        """
        if not protocols:
            raise ValueError("new_stream needs at least one protocol id")
        stream = await self._open()
        try:
            known = None
            if self.identified or len(protocols) == 1:
                known = self._swarm.peerstore.first_supported(self.remote_peer, protocols)
            if known is not None:
                stream.agree(known, prefix=lazy_proposal(known), reply=LazyReply(known))
            else:
                await self._negotiate(stream, protocols)
        except BaseException:
            stream.reset()
            raise
        return stream

    async def aclose(self, code: int = 0) -> None:
        """Close the connection and wait until it is gone."""
        self._muxed.close(code)
        await self._ended.wait()

    def close(self, code: int = 0) -> None:
        """Begin to close the connection; returns at once."""
        self._muxed.close(code)

    def tick(self, now: float) -> None:
        """Let the muxer do what time demands."""
        self._muxed.tick(now)

    def forget_protocol(self, protocol: ProtocolId) -> None:
        """Note that the peer speaks `protocol` no longer, whatever identify told."""
        self._swarm.peerstore.remove_protocols(self.remote_peer, (protocol,))

    async def serve(self) -> None:
        """Run until the connection ends; then every stream has ended too."""
        try:
            await self._muxed.serve(self._accept, self.scope)
        finally:
            self._ended.set()

    # --- streams ----------------------------------------------------------------------------------

    def _accept(self, muxed: MuxedStream) -> bool:
        """Take an inbound stream, or refuse it when a scope is full."""
        try:
            scope = self._swarm.resources.reserve_stream(self.remote_peer, Direction.INBOUND, self.scope)
        except ResourceLimitExceeded:
            return False
        self._swarm.serve_stream(self._adopt(SwarmStream(self, muxed, Direction.INBOUND, scope), muxed))
        return True

    async def _open(self) -> SwarmStream:
        scope = self._swarm.resources.reserve_stream(self.remote_peer, Direction.OUTBOUND, self.scope)
        try:
            muxed = await self._muxed.open_stream()
        except BaseException:
            scope.done()
            raise
        return self._adopt(SwarmStream(self, muxed, Direction.OUTBOUND, scope), muxed)

    def _adopt(self, stream: SwarmStream, muxed: MuxedStream) -> SwarmStream:
        self._streams[stream] = None
        muxed.on_end = lambda: self._forget(stream)
        return stream

    def _forget(self, stream: SwarmStream) -> None:
        self._streams.pop(stream, None)
        stream.scope.done()

    async def _negotiate(self, stream: SwarmStream, protocols: Sequence[ProtocolId]) -> None:
        """Propose one protocol after the other until the peer takes one."""
        muxed = stream.muxed
        proposer = Proposer(protocols)
        timeout = self._swarm.config.negotiation_timeout
        try:
            with anyio.fail_after(timeout):
                while proposer.protocol is None:
                    if out := proposer.bytes_to_send():
                        await muxed.send(out)
                    proposer.receive_data(await muxed.receive())
        except TimeoutError:
            raise OperationTimeout(f"no agreement on a protocol within {timeout:g} s") from None
        except anyio.EndOfStream:
            raise NegotiationError("the peer ended the stream inside the negotiation", protocols=protocols) from None
        except RemoteProtocolError:
            stream.reset(StreamCode.PROTOCOL_NEGOTIATION_FAILED)
            raise
        stream.agree(proposer.protocol, unread=proposer.unread)
        self._swarm.peerstore.add_protocols(self.remote_peer, (proposer.protocol,))

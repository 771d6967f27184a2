"""Drives the upgrade machines over a raw pipe: multistream, handshake, multistream inside, never a byte too far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from anyio.lowlevel import checkpoint

from py_p2pstack.core.security import RecordLayer, Secured, SecurityTransport
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import ConnectionClosed, HandshakeError, ProtocolError
from py_p2pstack.identity import PeerId
from py_p2pstack.upgrade.multistream import LazyReply, Proposer, Responder, lazy_proposal

_CHUNK = 16384


class RawPipe:
    """Whole sends and whatever-is-there receives over a raw connection."""

    def __init__(self, raw: RawConnection) -> None:
        self._raw = raw
        self._chunk = memoryview(bytearray(_CHUNK))
        self.held = b""
        """What was said last and may wait for more to go with it; sent before anything else, or before we listen."""

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""
        view = memoryview(self.held + data)
        self.held = b""
        while view:
            sent = self._raw.send_nowait(view)
            view = view[sent:]
            if view:
                await self._raw.wait_writable()

    def send_last(self, data: bytes) -> None:
        """Send what fits of a last word; never waits, never fails."""
        try:
            if data:
                self._raw.send_nowait(self.held + data)
        except OSError:
            pass

    async def receive(self) -> bytes:
        """Wait for bytes. Raises ConnectionClosed at the end."""
        if self.held:
            await self.send(b"")
        while (count := self._raw.receive_nowait(self._chunk)) is None:
            await self._raw.wait_readable()
        if count == 0:
            raise ConnectionClosed("the peer closed the connection during its set-up", remote=True)
        return bytes(self._chunk[:count])


class SealedPipe:
    """The same through a record layer."""

    def __init__(self, pipe: RawPipe, records: RecordLayer, unread: bytes) -> None:
        self._pipe = pipe
        self._records = records
        self._sealed = bytearray(unread)

    @property
    def unread(self) -> bytes:
        """Sealed bytes not opened yet: less than one record and one receive."""
        return bytes(self._sealed)

    async def send(self, data: bytes) -> None:
        """Seal `data` as one record and send it."""
        out = memoryview(bytearray(len(data) + self._records.overhead))
        await self._pipe.send(bytes(out[: self._records.seal_into(data, out)]))

    def send_last(self, data: bytes) -> None:
        """See `RawPipe.send_last`."""
        out = memoryview(bytearray(len(data) + self._records.overhead))
        self._pipe.send_last(bytes(out[: self._records.seal_into(data, out)]))

    async def receive(self) -> bytes:
        """Wait for a record that is not empty; returns the plaintext."""
        while True:
            with memoryview(self._sealed) as view:
                plaintext, end = self._records.open_record(view, 0)
            del self._sealed[:end]
            if plaintext:
                return bytes(plaintext)
            if end:  # an empty one: without a pause here a peer faster than us could keep the timeout from firing
                await checkpoint()
            else:
                self._sealed += await self._pipe.receive()


class _Pipe(Protocol):
    async def send(self, data: bytes) -> None: ...

    def send_last(self, data: bytes) -> None: ...

    async def receive(self) -> bytes: ...


class _Negotiation(Protocol):
    protocol: ProtocolId | None

    def bytes_to_send(self) -> bytes: ...

    def receive_data(self, data: bytes) -> None: ...

    @property
    def unread(self) -> bytes: ...


async def select(pipe: _Pipe, negotiation: _Negotiation) -> tuple[ProtocolId, bytes]:
    """Run multistream-select; returns the protocol and what came behind. Raises NegotiationError and others."""
    protocol, unread, reply = await _select(pipe, negotiation)
    if reply:
        await pipe.send(reply)
    return protocol, unread


async def _select(pipe: _Pipe, negotiation: _Negotiation) -> tuple[ProtocolId, bytes, bytes]:
    """The same, but the last word is left to be said: returned as the third."""
    while negotiation.protocol is None:
        if out := negotiation.bytes_to_send():
            await pipe.send(out)
        data = await pipe.receive()
        try:
            negotiation.receive_data(data)
        except ProtocolError:  # a refusal comes first: an optimistic peer sends what it proposed right behind
            pipe.send_last(negotiation.bytes_to_send())
            raise
    return negotiation.protocol, negotiation.unread, negotiation.bytes_to_send()


async def secure(
    pipe: RawPipe,
    securities: Mapping[ProtocolId, SecurityTransport],
    *,
    initiator: bool,
    peer: PeerId | None,
    muxers: Sequence[ProtocolId],
    optimistic: bool = False,
) -> tuple[ProtocolId, Secured]:
    """Agree on a security protocol and run its handshake.

    An initiator with one protocol to propose has nothing to fall back to, so the handshake's first message rides with
    the proposal: a round trip less. The responder then answers both at once. An `optimistic` initiator does so with
    the first of several; if that is refused, the NegotiationError names it and the pipe is out of step for good.

    The handshake's last message is left in `pipe.held`: it goes with the first bytes of the muxer.
    """
    names = tuple(securities)
    if initiator and (optimistic or len(names) == 1):
        protocol = names[0]
        handshake = securities[protocol].handshake(initiator=True, peer=peer, muxers=muxers)
        await pipe.send(lazy_proposal(protocol) + handshake.bytes_to_send())
        reply = LazyReply(protocol)
        while not reply.receive_data(await pipe.receive()):
            pass
        data, held = reply.unread, b""
    else:
        negotiation = Proposer(names) if initiator else Responder(securities.__contains__)
        protocol, data, held = await _select(pipe, negotiation)
        handshake = securities[protocol].handshake(initiator=initiator, peer=peer, muxers=muxers)
    try:
        secured = handshake.receive_data(data) if data else None
        while secured is None:
            if out := held + handshake.bytes_to_send():
                await pipe.send(out)
                held = b""
            secured = handshake.receive_data(await pipe.receive())
    except HandshakeError:
        pipe.send_last(handshake.bytes_to_send())  # an alert, if the protocol has such
        raise
    pipe.held = handshake.bytes_to_send()
    return protocol, secured


async def choose_muxer(
    pipe: RawPipe, secured: Secured, muxers: Sequence[ProtocolId], *, initiator: bool
) -> tuple[ProtocolId, bytes, bytes]:
    """The muxer the handshake agreed on, or else the outcome of multistream-select inside the secure channel.

    Returns it with the sealed bytes not opened yet and the opened bytes behind the negotiation.
    """
    if secured.muxer is not None:
        return secured.muxer, secured.unread, b""
    sealed = SealedPipe(pipe, secured.records, secured.unread)
    muxer, early = await select(sealed, Proposer(muxers) if initiator else Responder(muxers.__contains__))
    return muxer, sealed.unread, early

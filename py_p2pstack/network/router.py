"""The protocol router: which handler serves which protocol id, and the negotiation that finds out."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from py_p2pstack.core.error_codes import StreamCode
from py_p2pstack.core.notifications import LocalProtocolsUpdated
from py_p2pstack.core.stream import Stream, StreamHandler
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import P2PError
from py_p2pstack.events import EventBus
from py_p2pstack.network.deadlines import Deadlines
from py_p2pstack.network.stream import SwarmStream
from py_p2pstack.upgrade.multistream import Responder

logger = logging.getLogger(__name__)


class Router:
    """Serves inbound streams: agrees on a protocol, then runs its handler. Exact ids win over matches."""

    def __init__(self, events: EventBus) -> None:
        self._events = events
        self._exact: dict[ProtocolId, StreamHandler] = {}
        self._matches: dict[ProtocolId, tuple[Callable[[ProtocolId], bool], StreamHandler]] = {}

    def add_handler(self, protocol: ProtocolId, handler: StreamHandler) -> None:
        """Serve `protocol` with `handler`, in place of an earlier one."""
        new = protocol not in self.protocols()
        self._exact[protocol] = handler
        if new:
            self._events.publish(LocalProtocolsUpdated(frozenset((protocol,)), frozenset()))

    def add_handler_match(
        self, protocol: ProtocolId, match: Callable[[ProtocolId], bool], handler: StreamHandler
    ) -> None:
        """Serve every protocol id that `match` accepts; `protocol` is the name others are told of."""
        new = protocol not in self.protocols()
        self._matches[protocol] = (match, handler)
        if new:
            self._events.publish(LocalProtocolsUpdated(frozenset((protocol,)), frozenset()))

    def remove_handler(self, protocol: ProtocolId) -> None:
        """Serve `protocol` no longer; streams at work go on. Unknown ids are ignored."""
        known = self._exact.pop(protocol, None) is not None
        known = self._matches.pop(protocol, None) is not None or known
        if known:
            self._events.publish(LocalProtocolsUpdated(frozenset(), frozenset((protocol,))))

    def protocols(self) -> list[ProtocolId]:
        """The ids we serve, in the order they were added."""
        return list(dict.fromkeys((*self._exact, *self._matches)))

    def handler_for(self, protocol: ProtocolId) -> StreamHandler | None:
        """The handler that serves `protocol`."""
        handler = self._exact.get(protocol)
        if handler is None:
            for match, candidate in self._matches.values():
                if match(protocol):
                    return candidate
        return handler

    async def serve(self, stream: SwarmStream, deadlines: Deadlines) -> None:
        """Agree on a protocol within the deadline, run the handler, end the stream with it."""
        deadline = deadlines.start(stream.reset)
        try:
            handler = await self._negotiate(stream)
        except (P2PError, anyio.EndOfStream) as fault:
            logger.debug("inbound negotiation with %s failed: %s", stream.remote_peer, fault)
            stream.reset(StreamCode.PROTOCOL_NEGOTIATION_FAILED)
            return
        except BaseException:
            stream.reset()
            raise
        finally:
            deadline.cancel()
        await handle(handler, stream)

    async def _negotiate(self, stream: SwarmStream) -> StreamHandler:
        muxed = stream.muxed
        responder = Responder(lambda protocol: self.handler_for(protocol) is not None)
        while True:
            responder.receive_data(await muxed.receive())
            protocol = responder.protocol
            if protocol is not None:
                break
            if out := responder.bytes_to_send():
                await muxed.send(out)
        out = responder.bytes_to_send()
        if not responder.unread:  # the peer waits for our word; otherwise it rides with the handler's first answer
            await muxed.send(out)
            out = b""
        stream.agree(protocol, prefix=out, unread=responder.unread)
        handler = self.handler_for(protocol)
        assert handler is not None
        return handler


async def handle(handler: StreamHandler, stream: Stream) -> None:
    """Run a handler and end the stream with it. Raises what the handler raises, if that is a fault of its own."""
    try:
        await handler(stream)
    except (P2PError, TimeoutError, anyio.EndOfStream, anyio.IncompleteRead) as fault:
        # The ways in which a peer ends a conversation early are everyday life, not faults of the handler.
        logger.debug("%r ended early: %s", stream, fault)
        stream.reset()
    except BaseException:
        stream.reset()
        raise
    else:
        await stream.aclose()

"""The serving half: inbound streams, bounded in number, in time and in size; each request answered in turn."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import anyio

from py_p2pstack.core.error_codes import StreamCode
from py_p2pstack.core.stream import Stream
from py_p2pstack.errors import RemoteProtocolError, StorageError
from py_p2pstack.identity import PeerId
from py_p2pstack.network.deadlines import Deadlines
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.config import DhtConfig
from py_p2pstack.protocols.dht.handlers import Handlers

logger = logging.getLogger(__name__)

StoreHandler: TypeAlias = Callable[[Message, PeerId], Awaitable[Message | None]]
"""Answers a request that needs a store; None if no answer is due. Raises RemoteProtocolError, StorageError."""


class Server:
    """Serves streams of the DHT protocol. `serve` is the stream handler to register."""

    def __init__(self, handlers: Handlers, stores: Mapping[MessageType, StoreHandler], config: DhtConfig) -> None:
        """`stores` answer what they are there for; the `handlers`, which never wait, all the rest."""
        self.refused = 0
        """Streams refused because there were too many."""
        self.malformed = 0
        """Streams reset because of a request that breaks the rules, or that we do not serve."""
        self._handlers = handlers
        self._stores = stores
        self._config = config
        self._streams: dict[Stream, None] = {}  # in the order they came
        self._streams_of: Counter[PeerId] = Counter()
        self._deadlines = Deadlines(config.idle_timeout)

    def __len__(self) -> int:
        """How many streams are served now."""
        return len(self._streams)

    async def watch_deadlines(self) -> None:
        """Reset streams that stay idle or do not take their answer, until cancelled."""
        await self._deadlines.run()

    def close(self) -> None:
        """Reset every stream."""
        for stream in list(self._streams):
            stream.reset(StreamCode.SHUTDOWN)

    async def serve(self, stream: Stream) -> None:
        """Answer requests on one stream until the peer ends it, falls silent, or breaks the rules."""
        stream.set_service("dht")
        peer = stream.remote_peer
        full = len(self._streams) >= self._config.max_inbound_streams
        if full or self._streams_of.get(peer, 0) >= self._config.max_inbound_streams_per_peer:
            self.refused += 1
            stream.reset(StreamCode.RESOURCE_LIMIT_EXCEEDED)
            return
        self._streams[stream] = None
        self._streams_of[peer] += 1
        try:
            await self._answer_all(stream, peer)
        except anyio.EndOfStream:
            pass
        except RemoteProtocolError as fault:
            logger.debug("a request of %s breaks the rules: %s", peer, fault)
            self.malformed += 1
            stream.reset(StreamCode.PROTOCOL_VIOLATION)
        except StorageError as fault:
            logger.warning("a request of %s cannot be served: %s", peer, fault)
            stream.reset(StreamCode.RESOURCE_LIMIT_EXCEEDED)
        finally:
            self._streams.pop(stream, None)
            self._streams_of[peer] -= 1
            if not self._streams_of[peer]:
                del self._streams_of[peer]

    async def _answer_all(self, stream: Stream, peer: PeerId) -> None:
        max_size, max_peers = self._config.max_request_size, self._config.lookup.k
        while True:
            deadline = self._deadlines.start(stream.reset)
            try:
                request = codec.decode(await stream.receive_message(max_size), max_peers=max_peers)
                store = self._stores.get(request.type)
                if store is None:
                    answer = self._handlers.answer(request, peer, self._deadlines.now())
                else:
                    answer = await store(request, peer)
                if answer is not None:
                    await stream.send_message(codec.encode(answer))
            finally:
                deadline.cancel()

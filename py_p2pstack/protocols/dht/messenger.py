"""Requests to other DHT nodes: one reused stream per peer, one request at a time on it, one retry.

A stream that was used before may have died in the meantime without our knowing, so a request that fails on one is sent
again on a fresh stream, once; a fresh stream that fails has nothing to excuse it. A peer whose streams keep dying
between requests gets one stream per message. Source: go-libp2p-kad-dht internal/net.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import anyio

from py_p2pstack.core.peerstore import Peerstore
from py_p2pstack.core.stream import Stream
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import ConnectionClosed, OperationTimeout, RemoteProtocolError, StreamError
from py_p2pstack.identity import PeerId
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import Message
from py_p2pstack.protocols.dht.config import DhtConfig
from py_p2pstack.wire import varint

MAX_REUSE_FAILURES = 3  # go-libp2p-kad-dht: streamReuseTries
CHUNK = 16 * 1024  # bytes written at once of messages that follow each other


class StreamOpener(Protocol):
    """What the messenger needs of a host."""

    @property
    def peerstore(self) -> Peerstore: ...

    async def new_stream(self, peer: PeerId, protocols: Sequence[ProtocolId]) -> Stream: ...


class _Line:
    """The stream to one peer, and who may use it now."""

    __slots__ = ("lock", "reuse_failures", "stream", "users")

    def __init__(self) -> None:
        self.lock = anyio.Lock(fast_acquire=True)
        self.stream: Stream | None = None
        self.reuse_failures = 0
        self.users = 0

    def hang_up(self) -> None:
        if self.stream is not None:
            self.stream.reset()
            self.stream = None


class Messenger:
    """Sends requests and returns their answers."""

    def __init__(self, host: StreamOpener, config: DhtConfig) -> None:
        self._host = host
        self._config = config
        self._lines: OrderedDict[PeerId, _Line] = OrderedDict()

    def __len__(self) -> int:
        """How many peers it keeps a line to."""
        return len(self._lines)

    async def request(self, peer: PeerId, message: Message) -> Message:
        """Return the peer's answer, connecting first if need be. Cancelling hangs up the stream.

        Raises:
            OperationTimeout: no answer within `request_timeout` of being sent (waiting for its turn not counted).
            RemoteProtocolError: the answer is malformed, of another type, or there is none.
            DialError, NegotiationError, ConnectionClosed, StreamError, ResourceLimitExceeded: no stream to the peer.
        """
        data = codec.encode(message)
        line = self._line(peer)
        line.users += 1
        try:
            async with line.lock:
                answer = await self._ask_twice(peer, line, data)
        finally:
            self._let_go(peer, line)
        if answer.type is not message.type:
            line.hang_up()
            raise RemoteProtocolError(f"asked {message.type.name}, got {answer.type.name}")
        return answer

    async def tell(self, peer: PeerId, messages: Iterable[Message]) -> None:
        """Send messages that nobody answers (ADD_PROVIDER), one behind the other on the stream to the peer.

        Returns when all are written, which is not when they arrive. Each write may take `request_timeout`. On a stream
        that was used before and fails all are sent again. Cancelling hangs up the stream. Raises as `request` does.
        """
        chunks = _framed(codec.encode(message) for message in messages)
        line = self._line(peer)
        line.users += 1
        try:
            async with line.lock:
                await self._tell_twice(peer, line, list(chunks))
                kept = self._lines.get(peer) is line and line.reuse_failures <= MAX_REUSE_FAILURES
                if not kept and line.stream is not None:
                    stream, line.stream = line.stream, None
                    await stream.aclose()  # a reset would take back what was written
        finally:
            self._let_go(peer, line)

    def forget(self, peer: PeerId) -> None:
        """The peer is gone: hang up. A request under way fails, or tries again on a new connection."""
        line = self._lines.get(peer)
        if line is not None:
            line.hang_up()
            if not line.users:
                del self._lines[peer]

    def close(self) -> None:
        """Hang up every stream."""
        for line in self._lines.values():
            line.hang_up()
        self._lines.clear()

    def _line(self, peer: PeerId) -> _Line:
        line = self._lines.get(peer)
        if line is not None:
            self._lines.move_to_end(peer)
            return line
        if len(self._lines) >= self._config.max_client_streams:
            idle = next((each for each, line in self._lines.items() if not line.users), None)
            if idle is None:
                return _Line()  # all are in use: this one is not kept
            self._lines.pop(idle).hang_up()
        line = self._lines[peer] = _Line()
        return line

    def _let_go(self, peer: PeerId, line: _Line) -> None:
        line.users -= 1
        if not line.users and self._lines.get(peer) is not line:
            line.hang_up()  # it had no place among the lines, or was closed meanwhile

    async def _ask_twice(self, peer: PeerId, line: _Line, data: bytes) -> Message:
        reused = line.stream is not None
        try:
            return await self._ask(peer, line, data)
        except (StreamError, ConnectionClosed, anyio.EndOfStream) as fault:
            if not reused:
                if isinstance(fault, anyio.EndOfStream):
                    raise RemoteProtocolError("the peer closed the stream instead of answering") from None
                raise
        line.reuse_failures += 1
        try:
            return await self._ask(peer, line, data)
        except anyio.EndOfStream:
            raise RemoteProtocolError("the peer closed the stream instead of answering") from None

    async def _ask(self, peer: PeerId, line: _Line, data: bytes) -> Message:
        if line.stream is None:
            line.stream = await self._host.new_stream(peer, (self._config.protocol,))
        stream = line.stream
        try:
            start = anyio.current_time()
            with anyio.fail_after(self._config.request_timeout):
                await stream.send_message(data)
                answer = await stream.receive_message(self._config.max_message_size)
            self._host.peerstore.record_latency(peer, anyio.current_time() - start)
            message = codec.decode(answer, max_peers=2 * self._config.lookup.k)
        except TimeoutError:
            line.hang_up()
            raise OperationTimeout(f"no answer from {peer} within {self._config.request_timeout:g} s") from None
        except BaseException:
            line.hang_up()  # it is out of step now
            raise
        if line.reuse_failures > MAX_REUSE_FAILURES:
            line.stream = None
            await stream.aclose()
        return message

    async def _tell_twice(self, peer: PeerId, line: _Line, chunks: Sequence[bytes]) -> None:
        reused = line.stream is not None
        try:
            await self._tell(peer, line, chunks)
            return
        except (StreamError, ConnectionClosed):
            if not reused:
                raise
        line.reuse_failures += 1
        await self._tell(peer, line, chunks)

    async def _tell(self, peer: PeerId, line: _Line, chunks: Sequence[bytes]) -> None:
        if line.stream is None:
            line.stream = await self._host.new_stream(peer, (self._config.protocol,))
        try:
            for chunk in chunks:
                with anyio.fail_after(self._config.request_timeout):
                    await line.stream.send(chunk)
        except TimeoutError:
            line.hang_up()
            raise OperationTimeout(f"{peer} took nothing for {self._config.request_timeout:g} s") from None
        except BaseException:
            line.hang_up()
            raise


def _framed(messages: Iterable[bytes]) -> Iterator[bytes]:
    """Messages behind their lengths, many to a piece."""
    chunk = bytearray()
    for message in messages:
        chunk += varint.encode(len(message))
        chunk += message
        if len(chunk) >= CHUNK:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)

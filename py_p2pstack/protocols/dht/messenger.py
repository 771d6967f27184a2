"""Requests to other DHT nodes: one reused stream per peer, several requests under way on it, one retry.

All implementations answer the requests of a stream in their order. So as soon as a stream has proved that it outlives
an answer, the next request is sent without waiting for the one before; and a request that is cancelled leaves its
stream as it is: its answer is read and dropped when it is in the way.

A stream that was used before may have died in the meantime without our knowing, so a request that fails on one is sent
again on a fresh stream, once; a fresh stream that fails has nothing to excuse it. A peer whose streams keep dying
between requests gets one stream per message. Source: go-libp2p-kad-dht internal/net (which takes turns).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

import anyio

from py_p2pstack.core.peerstore import Peerstore
from py_p2pstack.core.stream import Stream
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import (
    ConnectionClosed,
    DhtClosed,
    OperationTimeout,
    RemoteProtocolError,
    StreamError,
    StreamReset,
)
from py_p2pstack.identity import PeerId
from py_p2pstack.locks import Lock
from py_p2pstack.network.deadlines import Deadlines
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import Message
from py_p2pstack.protocols.dht.config import DhtConfig
from py_p2pstack.wire import varint

MAX_REUSE_FAILURES = 3  # go-libp2p-kad-dht: streamReuseTries
MAX_PROVIDERS = 512  # in one answer that are looked at; 16 KiB hold no more
PROVED = 2  # answers on one stream, after which the peer is known to keep streams
MAX_UNDER_WAY = 16  # requests on one stream without an answer yet
MAX_OWED = 8  # answers nobody waits for any more; beyond, the stream is given up
CHUNK = 16 * 1024  # bytes written at once of messages that follow each other


class StreamOpener(Protocol):
    """What the messenger needs of a host."""

    @property
    def peerstore(self) -> Peerstore: ...

    async def new_stream(self, peer: PeerId, protocols: Sequence[ProtocolId]) -> Stream: ...


class _Turn:
    """One request whose answer is to come."""

    __slots__ = ("abandoned", "changed", "late")

    def __init__(self) -> None:
        self.abandoned = False
        self.late = False
        self.changed: anyio.Event | None = None


class _Pipe:
    """A stream, and the requests on it that wait for their answers, in order."""

    __slots__ = ("answers", "broken", "excused", "stream", "turns")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.turns: deque[_Turn] = deque()
        self.answers = 0
        self.broken = False
        self.excused = False

    async def send(self, data: bytes, turn: _Turn) -> None:
        """Send a request; the stream is of no further use if this is cancelled."""
        await self.stream.send_message(data)
        self.turns.append(turn)

    async def answer_to(self, turn: _Turn, max_size: int) -> bytes:
        """Wait for the answers before it, drop those nobody wants, and return the right one. Cancelling loses none."""
        while self._first() is not turn:
            if self.broken:
                raise StreamReset("another request broke the stream", remote=False)
            turn.changed = anyio.Event()
            await turn.changed.wait()
        while True:
            answer = await self.stream.receive_message(max_size)
            self.answers += 1
            if self.turns and self.turns.popleft() is turn:
                self._wake(self._first())
                return answer
            if self.broken:
                raise StreamReset("another request broke the stream", remote=False)

    def abandon(self, turn: _Turn) -> bool:
        """Nobody waits for this answer any more; returns whether the stream is still worth keeping."""
        turn.abandoned = True
        self._wake(self._first())
        return sum(each.abandoned for each in self.turns) <= MAX_OWED

    def hang_up(self) -> None:
        self.broken = True
        self.stream.reset()
        waiting = list(self.turns)
        self.turns.clear()
        for turn in waiting:
            self._wake(turn)

    def _first(self) -> _Turn | None:
        """Whose turn it is to read."""
        return next((turn for turn in self.turns if not turn.abandoned), None)

    @staticmethod
    def _wake(turn: _Turn | None) -> None:
        if turn is not None and turn.changed is not None:
            turn.changed.set()


class _Line:
    """The way to one peer, and who may send on it now."""

    __slots__ = ("forgotten", "lock", "pipe", "proved", "reuse_failures", "users")

    def __init__(self) -> None:
        self.lock = Lock()
        self.pipe: _Pipe | None = None
        self.proved = False
        self.reuse_failures = 0
        self.users = 0
        self.forgotten = False

    def hang_up(self) -> None:
        if self.pipe is not None:
            self.drop(self.pipe)

    def drop(self, pipe: _Pipe) -> None:
        """Give up a stream, which may have been replaced already."""
        pipe.hang_up()
        if self.pipe is pipe:
            self.pipe = None

    def give_up(self, pipe: _Pipe, turn: _Turn) -> None:
        """No answer came in time: the stream is of no further use."""
        turn.late = True
        self.drop(pipe)

    def excuse(self, pipe: _Pipe) -> None:
        """A stream died that worked before: all requests on it count as one failure."""
        if not pipe.excused:
            pipe.excused = True
            self.reuse_failures += 1

    @property
    def reusable(self) -> bool:
        """Whether streams to the peer live long enough to be used more than once."""
        return self.reuse_failures <= MAX_REUSE_FAILURES


class Messenger:
    """Sends requests and returns their answers."""

    def __init__(self, host: StreamOpener, config: DhtConfig) -> None:
        self._host = host
        self._config = config
        self._lines: OrderedDict[PeerId, _Line] = OrderedDict()
        self._closed = False
        self._deadlines = Deadlines(config.request_timeout)
        self._encoded: tuple[Message | None, bytes] = None, b""  # the last request: a lookup sends it to fifty peers

    def __len__(self) -> int:
        """How many peers it keeps a line to."""
        return len(self._lines)

    async def watch_deadlines(self) -> None:
        """End requests that are not answered in time, until cancelled."""
        await self._deadlines.run()

    async def request(self, peer: PeerId, message: Message) -> Message:
        """Return the peer's answer, connecting first if need be.

        Raises:
            OperationTimeout: no answer within `request_timeout` of being sent (waiting to be sent not counted).
            RemoteProtocolError: the answer is malformed, of another type, or there is none.
            DialError, NegotiationError, ConnectionClosed, StreamError, ResourceLimitExceeded: no stream to the peer.
        """
        if message is not self._encoded[0]:
            self._encoded = message, codec.encode(message)
        data = self._encoded[1]
        line = self._line(peer)
        line.users += 1
        try:
            answer = await self._ask_twice(peer, line, data)
        finally:
            self._let_go(peer, line)
        if answer.type is not message.type:
            line.hang_up()
            raise RemoteProtocolError(f"asked {message.type.name}, got {answer.type.name}")
        return answer

    async def tell(self, peer: PeerId, messages: Iterable[Message], *, receipt: Message | None = None) -> None:
        """Send messages that nobody answers (ADD_PROVIDER), one behind the other on the stream to the peer.

        Returns when all are written, which is not when they arrive; with a `receipt`, a request that is sent behind
        them, when it was answered: then the peer has dealt with all before it and taken no offence. Each write may take
        `request_timeout`, and the answer as long as all of them. On a stream that was used before and fails all are
        sent again. Cancelling hangs up the stream. Raises as `request` does.
        """
        chunks = _framed(codec.encode(message) for message in messages)
        question = None if receipt is None else codec.encode(receipt)
        line = self._line(peer)
        line.users += 1
        try:
            async with line.lock:
                await self._tell_twice(peer, line, list(chunks), question)
                kept = self._lines.get(peer) is line and line.reusable
                if not kept and line.pipe is not None and not line.pipe.turns:
                    pipe, line.pipe = line.pipe, None
                    await pipe.stream.aclose()  # a reset would take back what was written
        finally:
            self._let_go(peer, line)

    def forget(self, peer: PeerId) -> None:
        """The peer is gone: hang up. A request under way fails, or tries again on a new connection."""
        line = self._lines.get(peer)
        if line is not None:
            line.hang_up()
            line.forgotten = True
            if not line.users:
                del self._lines[peer]

    def close(self) -> None:
        """Hang up every stream; who asks from here on gets DhtClosed."""
        self._closed = True
        for line in self._lines.values():
            line.hang_up()
        self._lines.clear()

    def _line(self, peer: PeerId) -> _Line:
        if self._closed:
            raise DhtClosed("the DHT was left")
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
        if line.users:
            return
        if self._lines.get(peer) is not line:
            line.hang_up()  # it had no place among the lines, or was closed meanwhile
        elif line.pipe is None and (line.forgotten or not (line.proved or line.reuse_failures)):
            del self._lines[peer]  # it is gone, or was never reached

    async def _open(self, peer: PeerId, line: _Line) -> tuple[_Pipe, bool]:
        """The line's stream, and whether it was used before. For who holds the lock."""
        if line.pipe is not None:
            return line.pipe, True
        line.pipe = _Pipe(await self._host.new_stream(peer, (self._config.protocol,)))
        line.forgotten = False
        return line.pipe, False

    async def _ask_twice(self, peer: PeerId, line: _Line, data: bytes) -> Message:
        first = True
        while True:
            await line.lock.acquire()
            try:
                if not first and not line.proved:
                    line.hang_up()  # somebody's second try; it may die of one answer, too
                pipe, reused = await self._open(peer, line)
            except BaseException:
                line.lock.release()
                raise
            try:
                return await self._ask(peer, line, pipe, data)
            except (StreamError, ConnectionClosed, anyio.EndOfStream) as fault:
                if not (first and reused):
                    if isinstance(fault, anyio.EndOfStream):
                        raise RemoteProtocolError("the peer closed the stream instead of answering") from None
                    raise
            first = False
            line.excuse(pipe)

    async def _ask(self, peer: PeerId, line: _Line, pipe: _Pipe, data: bytes) -> Message:
        """Ask on a stream of the line, whose lock is held, and released here as soon as the next may send."""
        locked, turn = True, _Turn()
        deadline = self._deadlines.start(partial(line.give_up, pipe, turn))
        try:
            await pipe.send(data, turn)
            if line.proved and line.reusable and len(pipe.turns) < MAX_UNDER_WAY:
                line.lock.release()
                locked = False
            answer = await pipe.answer_to(turn, self._config.max_message_size)
            line.proved = line.proved or pipe.answers >= PROVED
            self._host.peerstore.record_latency(peer, deadline.elapsed)
            message = codec.decode(answer, max_peers=2 * self._config.lookup.k, max_providers=MAX_PROVIDERS)
            if not line.reusable and line.pipe is pipe:
                line.pipe = None
                await pipe.stream.aclose()
            return message
        except anyio.get_cancelled_exc_class():
            if turn not in pipe.turns or not pipe.abandon(turn):
                line.drop(pipe)
            raise
        except BaseException:
            line.drop(pipe)
            if turn.late:
                raise OperationTimeout(f"no answer from {peer} within {self._config.request_timeout:g} s") from None
            raise
        finally:
            deadline.cancel()
            if locked:
                line.lock.release()

    async def _tell_twice(self, peer: PeerId, line: _Line, chunks: Sequence[bytes], question: bytes | None) -> None:
        pipe, reused = await self._open(peer, line)
        try:
            await self._tell(peer, line, pipe, chunks, question)
            return
        except (StreamError, ConnectionClosed):
            if not reused:
                raise
        line.excuse(pipe)
        pipe, _ = await self._open(peer, line)
        await self._tell(peer, line, pipe, chunks, question)

    async def _tell(
        self, peer: PeerId, line: _Line, pipe: _Pipe, chunks: Sequence[bytes], question: bytes | None
    ) -> None:
        try:
            for chunk in chunks:
                with anyio.fail_after(self._config.request_timeout):
                    await pipe.stream.send(chunk)
            if question is not None:
                with anyio.fail_after(self._config.request_timeout * max(len(chunks), 1)):
                    turn = _Turn()
                    await pipe.send(question, turn)
                    await pipe.answer_to(turn, self._config.max_message_size)
        except TimeoutError:
            line.drop(pipe)
            raise OperationTimeout(f"{peer} took nothing for {self._config.request_timeout:g} s") from None
        except anyio.EndOfStream:
            line.drop(pipe)
            raise StreamReset("the peer closed the stream instead of answering") from None
        except BaseException:
            line.drop(pipe)
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

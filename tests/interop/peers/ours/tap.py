"""A host whose DHT streams are listened to and whose answers may be garbage: for tests of what others bear."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from py_p2pstack import Host, P2PError, PeerId, Stream
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import Message, MessageType, Record
from py_p2pstack.wire import varint

KEPT = 10_000  # requests remembered


def _other_type(answer: bytes) -> bytes:
    message = codec.decode(answer, max_peers=20)
    other = MessageType.PING if message.type is not MessageType.PING else MessageType.FIND_NODE
    return _framed(codec.encode(Message(type=other, key=message.key)))


def _forged(answer: bytes) -> bytes:
    """A record for what was asked, which no validator takes."""
    message = codec.decode(answer, max_peers=20)
    record = Record(key=message.key, value=os.urandom(100))
    return _framed(codec.encode(Message(type=message.type, key=message.key, record=record)))


def _other_key(answer: bytes) -> bytes:
    """A record under another key than asked."""
    message = codec.decode(answer, max_peers=20)
    record = Record(key=b"/v/something-else", value=b"garbage")
    return _framed(codec.encode(Message(type=message.type, key=b"/v/something-else", record=record)))


def _nonsense_peers(answer: bytes) -> bytes:
    """A thousand peers whose ids and addresses are noise."""
    head = codec.encode(Message(type=codec.decode(answer, max_peers=20).type))
    peers = []
    for _ in range(1000):
        peer = b"\x0a\x22" + os.urandom(34) + b"\x12\x08" + os.urandom(8)
        peers.append(b"\x42" + varint.encode(len(peer)) + peer)
    return _framed(head + b"".join(peers))


def _framed(message: bytes) -> bytes:
    return varint.encode(len(message)) + message


GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "noise": lambda _: _framed(os.urandom(200)),
    "unframed noise": lambda _: os.urandom(200),
    "endless varint": lambda _: b"\xff" * 100,
    "length of a terabyte": lambda _: varint.encode(1 << 40) + b"x" * 1000,
    "cut short": lambda answer: _framed(answer + b"more to come")[: len(answer) // 2],
    "nothing": lambda _: b"",
    "empty message": lambda _: b"\x00",
    "another type": _other_type,
    "forged record": _forged,
    "another key": _other_key,
    "nonsense peers": _nonsense_peers,
}
"""Each from the honest answer to what is sent instead, before the stream ends."""


class Tap:
    """Passes for a host to a Dht. Notes each request served; with `garbage`, spoils each answer but a peer's first.

    The first is honest because DHTs ask a peer once before they believe that it serves at all.
    """

    def __init__(self, host: Host, garbage: str | None, *, spare_puts: bool = False) -> None:
        self._host = host
        self._spare_puts = spare_puts
        self._garbage = GARBAGE[garbage] if garbage else None
        self._greeted: set[PeerId] = set()
        self.requests: list[tuple[PeerId, Message]] = []
        """What was asked, by whom, oldest first."""
        self.spoilt = 0
        """Answers replaced by garbage."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def set_stream_handler(self, protocol: str, handler: Callable[[Any], Awaitable[None]]) -> None:
        async def tapped(stream: Stream) -> None:
            await handler(_TappedStream(stream, self))

        self._host.set_stream_handler(protocol, tapped)

    def note(self, peer: PeerId, request: bytes) -> None:
        try:
            self.requests.append((peer, codec.decode(request, max_peers=20)))
        except P2PError:
            return
        del self.requests[:-KEPT]

    def spoil(self, peer: PeerId, answer: bytes) -> bytes | None:
        """What to send instead; None for the answer itself."""
        if self._garbage is None:
            return None
        if self._spare_puts and codec.decode(answer, max_peers=20).type is MessageType.PUT_VALUE:
            return None
        if peer not in self._greeted:
            self._greeted.add(peer)
            return None
        self.spoilt += 1
        return self._garbage(answer)


class _TappedStream:
    def __init__(self, stream: Stream, tap: Tap) -> None:
        self._stream = stream
        self._tap = tap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def receive_message(self, max_size: int) -> bytes:
        request = await self._stream.receive_message(max_size)
        self._tap.note(self._stream.remote_peer, request)
        return request

    async def send_message(self, message: bytes) -> None:
        garbage = self._tap.spoil(self._stream.remote_peer, message)
        if garbage is None:
            await self._stream.send_message(message)
            return
        await self._stream.send(garbage)
        await self._stream.send_eof()


async def send_garbage(host: Host, peer: PeerId, protocol: str, kind: str) -> None:
    """Send garbage where a request is due, and wait for how the other side ends the stream."""
    honest = codec.encode(Message(type=MessageType.FIND_NODE, key=os.urandom(32)))
    async with await host.new_stream(peer, [protocol]) as stream:
        await stream.send(GARBAGE[kind](honest))
        await stream.send_eof()
        async for _ in stream:
            pass

"""Streams that answer as they are told, the host that hands them out, and a messenger on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack.core.stream import Stream
from py_p2pstack.errors import StreamReset
from py_p2pstack.identity import PeerId
from py_p2pstack.peerstore import MemoryPeerstore
from py_p2pstack.protocols.dht import DhtConfig, codec
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.messenger import Messenger
from tests.peer_ids import peer

PING = Message(type=MessageType.PING)
ALICE = peer(1)

Answer = bytes | Exception | None
"""What a fake stream does with a request: answer these bytes, fail so, or say nothing."""


class FakeStream:
    """Answers each message by the next of its answers, then by echoing the request. Cancelling loses nothing."""

    def __init__(self, answers: Sequence[Answer] = ()) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self.sent = 0
        self.before_first_answer = 0
        self.told = bytearray()
        self.writes = 0
        self.most_in_flight = 0
        self.takes_nothing = False
        self.holds: anyio.Event | None = None
        self.was_closed = False
        self._reset = anyio.Event()

    @property
    def was_reset(self) -> bool:
        return self._reset.is_set()

    async def send_message(self, message: bytes) -> None:
        if self.takes_nothing:
            await self._reset.wait()
            raise StreamReset(remote=False)
        self.sent += 1
        self.asked.append(message)
        self.most_in_flight = max(self.most_in_flight, len(self.asked))
        await checkpoint()

    async def send(self, data: bytes) -> None:
        await checkpoint()
        answer = self.answers.pop(0) if self.answers else b""
        if answer is None:
            await anyio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        self.told += data
        self.writes += 1

    async def receive_message(self, max_size: int) -> bytes:
        await checkpoint()
        if self.holds is not None:
            await self.holds.wait()
        if self.answers and self.answers[0] is None:
            await self._reset.wait()
        if self.was_reset:
            raise StreamReset(remote=False)
        self.before_first_answer = self.before_first_answer or self.sent
        request = self.asked.pop(0) if self.asked else codec.encode(PING)
        answer = self.answers.pop(0) if self.answers else request
        if isinstance(answer, Exception):
            raise answer
        return cast(bytes, answer)

    def reset(self, code: int = 0) -> None:
        self._reset.set()

    async def aclose(self) -> None:
        self.was_closed = True


class FakeHost:
    """Hands out the streams it was given, then fresh ones."""

    def __init__(self, *streams: FakeStream | Exception) -> None:
        self.peerstore = MemoryPeerstore(clock=lambda: 0.0)
        self.prepared = list(streams)
        self.opened: list[FakeStream] = []

    async def new_stream(self, peer: PeerId, protocols: Sequence[str]) -> Stream:
        assert protocols == ("/p2pstack/kad/1.0.0",)
        await checkpoint()
        stream = self.prepared.pop(0) if self.prepared else FakeStream()
        if isinstance(stream, Exception):
            raise stream
        self.opened.append(stream)
        return cast(Stream, stream)


def make(*streams: FakeStream | Exception, **config: Any) -> tuple[Messenger, FakeHost]:
    host = FakeHost(*streams)
    return Messenger(host, DhtConfig(**config)), host


def numbered(number: int) -> Message:
    return Message(type=MessageType.PING, key=bytes([number]))

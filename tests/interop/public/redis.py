"""As much of a Redis client as two processes need to find each other (RESP 2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

Reply: TypeAlias = "bytes | int | list[Reply] | None"
_MAX_LINE = 65_536  # bytes
_BETWEEN_TRIES = 0.2  # seconds


class Redis:
    """One connection."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream
        self._received = BufferedByteReceiveStream(stream)

    async def call(self, *words: str) -> Reply:
        """Run one command. Raises ValueError with what the server has against it."""
        bulks = (f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        await self._stream.send(f"*{len(words)}\r\n{''.join(bulks)}".encode())
        return await self._reply()

    async def _reply(self) -> Reply:
        line = await self._received.receive_until(b"\r\n", _MAX_LINE)
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise ValueError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        size = int(rest)
        if size < 0:
            return None
        if kind == b"*":
            return [await self._reply() for _ in range(size)]
        return (await self._received.receive_exactly(size + 2))[:-2]


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Redis]:
    """A connection to `host:port`, tried until there is one: containers start in any order."""
    host, _, port = address.partition(":")
    while True:
        try:
            stream = await anyio.connect_tcp(host, int(port or 6379))
            break
        except OSError:
            await anyio.sleep(_BETWEEN_TRIES)
    async with stream:
        yield Redis(stream)

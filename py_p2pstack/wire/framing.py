"""Length-prefixed messages: a uvarint length, then that many bytes, each bounded before anything is kept."""

from __future__ import annotations

from collections.abc import Iterator

from py_p2pstack.errors import MessageTooLarge, RemoteProtocolError
from py_p2pstack.wire import varint


def encode(message: bytes) -> bytes:
    """Return `message` behind its uvarint length."""
    return varint.encode(len(message)) + message


class FrameDecoder:
    """Cuts a byte stream, fed in pieces of any size, into messages of at most `max_size` bytes.

    It never holds more than one unfinished message (`max_size` + 9 bytes) beyond what one `feed` brought.
    """

    __slots__ = ("_buffer", "max_size")

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self._buffer = bytearray()

    @property
    def unread(self) -> bytes:
        """What was fed and not yet given out: an unfinished message, or bytes behind the last one taken."""
        return bytes(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take in more bytes of the stream."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Return the next whole message, or None until more bytes are fed.

        Raises:
            MessageTooLarge: the announced length passes `max_size`.
            RemoteProtocolError: the length is no varint.
        """
        buffer = self._buffer
        prefix = varint.decode(buffer)
        if prefix is None:
            return None
        size, start = prefix
        if size > self.max_size:
            raise MessageTooLarge(f"a message of {size} bytes; the limit is {self.max_size}")
        end = start + size
        if len(buffer) < end:
            return None
        message = bytes(buffer[start:end])
        del buffer[:end]
        return message

    def __iter__(self) -> Iterator[bytes]:
        while (message := self.next()) is not None:
            yield message

    def finish(self) -> None:
        """Say that the stream ended; raises RemoteProtocolError if it ended inside a message."""
        if self._buffer:
            raise RemoteProtocolError(f"the stream ended inside a message, {len(self._buffer)} bytes into it")

"""Frames of RFC 6455 as a stream: payload passes through as it comes, whatever the size of its frame.

Nothing but part of a header or of a control frame is ever held, so a peer can make us hold 131 bytes. (The `websockets`
package's own parser hands out whole messages only: there the largest frame is the price of a connection.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from py_p2pstack.errors import RemoteProtocolError

CONTINUATION, BINARY, CLOSE, PING, PONG = 0, 2, 8, 9, 10
MAX_CONTROL = 125  # bytes, RFC 6455 §5.5
NORMAL_CLOSURE = b"\x03\xe8"  # 1000
FRAMES = 2048  # begun in one call: some 4 ms of work, whoever sends frames of nothing

Mask = Callable[[bytes | memoryview, bytes], bytes]
"""XOR with a repeated key of four bytes."""


class FrameReader:
    """Takes payload out of what was received, in place."""

    __slots__ = ("_fragmented", "_held", "_key", "_left", "_mask", "_masked", "_opcode", "closed", "pong")

    def __init__(self, mask: Mask, *, masked: bool) -> None:
        """`masked`: whether the peer must mask, which clients do and servers do not."""
        self._mask = mask
        self._masked = masked
        self._held = bytearray()
        self._opcode = -1
        self._fragmented = False
        self._left = 0
        self._key = b""
        self.closed: bytes | None = None
        """The body of the peer's close frame, once it came; nothing behind it counts."""
        self.pong: bytes | None = None
        """What the last ping wants to hear; older ones may go unanswered (§5.5.3). Whoever answers takes it away."""

    def receive(self, data: memoryview) -> tuple[int, int]:
        """Move the payload in `data` to its front; returns its size, and how much of `data` was read for it.

        That is all, unless there are very many frames: the rest is for a next call. Raises RemoteProtocolError.
        """
        kept = at = begun = 0
        while at < len(data):
            if self.closed is not None:
                return kept, len(data)
            if self._opcode == -1:
                if begun == FRAMES:
                    break
                begun += 1
                at = self._header(data, at)
            elif self._opcode >= CLOSE:
                stop = min(len(data), at + self._left)
                self._held += data[at:stop]
                self._left -= stop - at
                at = stop
            else:
                stop = min(len(data), at + self._left)
                piece = self._unmask(data[at:stop]) if self._masked else bytes(data[at:stop]) if kept != at else None
                size = stop - at
                if piece is not None:
                    data[kept : kept + size] = piece
                kept += size
                self._left -= size
                at = stop
            if self._opcode != -1 and not self._left:
                self._end_of_frame()
        return kept, at

    def _header(self, data: memoryview, at: int) -> int:
        """Read on in a header; returns where in `data` it, or `data`, ends."""
        held = self._held
        while True:
            missing = self._header_size() - len(held)
            if not missing:
                break
            piece = data[at : at + missing]
            held += piece
            at += len(piece)
            if len(piece) < missing:
                return at
        self._begin_frame()
        return at

    def _header_size(self) -> int:
        """How long the header is, as far as one can tell yet."""
        held = self._held
        if len(held) < 2:
            return 2
        return 2 + {126: 2, 127: 8}.get(held[1] & 0x7F, 0) + (4 if held[1] & 0x80 else 0)

    def _begin_frame(self) -> None:
        held = self._held
        final, opcode, masked, size = held[0] & 0x80, held[0] & 0x0F, bool(held[1] & 0x80), held[1] & 0x7F
        if held[0] & 0x70:
            raise RemoteProtocolError("a WebSocket frame of an extension nobody agreed on")
        if masked is not self._masked:
            raise RemoteProtocolError("a WebSocket frame that is masked the wrong way")
        if opcode not in (CONTINUATION, BINARY, CLOSE, PING, PONG):
            raise RemoteProtocolError(f"a WebSocket frame of kind {opcode}")
        if opcode >= CLOSE and (size > MAX_CONTROL or not final):
            raise RemoteProtocolError("a WebSocket control frame that is too long, or in fragments")
        if opcode < CLOSE:
            if (opcode == CONTINUATION) is not self._fragmented:
                raise RemoteProtocolError("WebSocket fragments out of order")
            self._fragmented = not final
        if size >= 126:
            size = int.from_bytes(held[2:4] if size == 126 else held[2:10], "big")
        if size >> 63:
            raise RemoteProtocolError("a WebSocket frame of a negative size")
        self._opcode, self._left = opcode, size
        self._key = bytes(held[-4:]) if masked else b""
        held.clear()

    def _unmask(self, data: memoryview) -> bytes:
        plain = self._mask(data, self._key)
        turn = len(data) & 3
        self._key = self._key[turn:] + self._key[:turn]
        return plain

    def _end_of_frame(self) -> None:
        opcode, self._opcode = self._opcode, -1
        if opcode >= CLOSE:
            body = bytes(self._held)
            if self._masked:
                body = self._mask(body, self._key)
            self._held.clear()
            if opcode == CLOSE:
                self.closed = body
            elif opcode == PING:
                self.pong = body


class FrameWriter:
    """Puts payload into frames that may leave in pieces; holds no payload.

    A frame's size is told before all of it found room. What then follows fills it up: the rest of the same bytes, as a
    rule, but any others do.
    """

    __slots__ = ("_key", "_left", "_mask", "_masked", "_max_frame", "_random_bytes", "head")

    def __init__(self, mask: Mask, *, masked: bool, max_frame: int, random_bytes: Callable[[int], bytes]) -> None:
        """`masked`: whether we must mask, as a client does; `random_bytes` makes the keys for that."""
        self._mask = mask
        self._masked = masked
        self._max_frame = max_frame
        self._random_bytes = random_bytes
        self._left = 0
        self._key = b""
        self.head = b""
        """A header or control frame, or the rest of one, that goes before anything else."""

    @property
    def between(self) -> bool:
        """Whether a frame may begin here."""
        return not self._left and not self.head

    def control(self, opcode: int, body: bytes) -> None:
        """Make a control frame the next to leave; only `between` frames."""
        assert self.between
        key = self._random_bytes(4) if self._masked else b""
        size = len(body) | (0x80 if self._masked else 0)
        self.head = bytes((0x80 | opcode, size)) + key + (self._mask(body, key) if self._masked else body)

    def frame(self, data: memoryview) -> bytes:
        """What to send next of `data`, with what has to go before it; say with `sent` how much of that went."""
        if not self._left:
            self._begin(min(len(data), self._max_frame))
        piece = data[: self._left]
        if not self._masked and not self.head:
            return bytes(piece)
        return self.head + (self._mask(piece, self._key) if self._masked else bytes(piece))

    def _begin(self, size: int) -> None:
        flag = 0x80 if self._masked else 0
        if size < 126:
            head = struct.pack("!BB", 0x80 | BINARY, flag | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | BINARY, flag | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | BINARY, flag | 127, size)
        self._key = self._random_bytes(4) if self._masked else b""
        self.head += head + self._key
        self._left = size

    def sent(self, count: int) -> int:
        """`count` bytes went; returns how many of them were payload."""
        head = min(count, len(self.head))
        self.head = self.head[head:]
        payload = count - head
        self._left -= payload
        if self._masked:
            turn = payload & 3
            self._key = self._key[turn:] + self._key[:turn]
        return payload

"""A WebSocket as a raw pipe: its opening goes on inside the waits, then bytes pass through frames."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from anyio.lowlevel import checkpoint

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import RemoteProtocolError
from py_p2pstack.transports.websocket import codec
from py_p2pstack.transports.websocket.codec import FrameReader, FrameWriter, Mask
from py_p2pstack.transports.websocket.machine import Opening

_SCRATCH = memoryview(bytearray(4096))


class WebSocketConnection:
    """Implements `core.transport.RawConnection` over another one.

    Until the WebSocket is open nothing is received or sent; the first wait, of one task, opens it. So it happens where
    a connection is set up: after it was admitted, within the time for that. A refusal is an OSError of the next call.
    """

    __slots__ = ("_fault", "_opening", "_raw", "_reader", "_unread", "_writer", "local_address", "remote_address")

    def __init__(
        self,
        raw: RawConnection,
        opening: Opening,
        mask: Mask,
        *,
        local: Multiaddr,
        remote: Multiaddr,
        client: bool,
        max_frame: int,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`raw` is owned from now on; `client`: whether we asked for the WebSocket."""
        self._raw = raw
        self._opening: Opening | None = opening
        self._reader = FrameReader(mask, masked=not client)
        self._writer = FrameWriter(mask, masked=client, max_frame=max_frame, random_bytes=random_bytes)
        self._unread = b""
        self._fault: OSError | None = None
        self.local_address = local
        self.remote_address = remote

    def __repr__(self) -> str:
        return f"<WebSocketConnection over {self._raw!r}>"

    def receive_nowait(self, buffer: memoryview) -> int | None:
        """See `RawConnection.receive_nowait`. One read a call, some of its frames: tiny ones cannot hold the caller."""
        if not self._open():
            return None
        if self._reader.closed is not None:
            return self._end(buffer)
        if self._unread:
            count: int | None = min(len(self._unread), len(buffer))
            buffer[:count] = self._unread[:count]
            self._unread = self._unread[count:]
        else:
            count = self._raw.receive_nowait(buffer)
        if not count:
            return count
        try:
            kept, used = self._reader.receive(buffer[:count])
        except RemoteProtocolError as fault:
            raise self._failed(fault) from None
        if used < count:
            self._unread = bytes(buffer[used:count]) + self._unread
        if self._reader.pong is not None:
            self._answer_ping()
        if kept:
            return kept
        return self._end(buffer) if self._reader.closed is not None else None

    def _end(self, buffer: memoryview) -> int:
        """The peer's close frame came: the end of input, for ever."""
        self._raw.receive_nowait(buffer[:0])  # raises if it is closed on our side
        return 0

    def _answer_ping(self) -> None:
        """A pong, if a frame may begin now; else when one may. An OSError is for whoever sends next."""
        writer = self._writer
        if not writer.between or self._reader.pong is None:
            return
        writer.control(codec.PONG, self._reader.pong)
        self._reader.pong = None
        try:
            writer.sent(self._raw.send_nowait(writer.head))
        except OSError:
            pass

    def send_nowait(self, data: Buffer) -> int:
        """See `RawConnection.send_nowait`."""
        if not self._open():
            return 0
        view = memoryview(data).cast("B")
        writer, total = self._writer, 0
        while total < len(view):
            if self._reader.pong is not None:
                self._answer_ping()
            offered = writer.frame(view[total:])
            sent = self._raw.send_nowait(offered)
            total += writer.sent(sent)
            if sent < len(offered):
                break
        return total

    async def wait_readable(self) -> None:
        """See `RawConnection.wait_readable`; control frames wake it too."""
        await self._set_up()
        if self._unread or self._fault or self._reader.closed is not None:
            await checkpoint()
        else:
            await self._raw.wait_readable()

    async def wait_writable(self) -> None:
        """See `RawConnection.wait_writable`."""
        await self._set_up()
        await self._raw.wait_writable()

    def close(self) -> None:
        """See `RawConnection.close`; says goodbye to the WebSocket of the peer if there is room."""
        try:
            if self._opening is None and self._fault is None and self._writer.between:
                self._writer.control(codec.CLOSE, codec.NORMAL_CLOSURE)
                self._writer.sent(self._raw.send_nowait(self._writer.head))
        except OSError:
            pass
        self._raw.close()

    # --- the opening ------------------------------------------------------------------------------

    async def _set_up(self) -> None:
        """Wait until the WebSocket is open; a failure is told to whoever sends or receives."""
        try:
            while not self._open():
                opening = self._opening
                await (self._raw.wait_writable() if opening and opening.outgoing else self._raw.wait_readable())
        except OSError:
            pass

    def _open(self) -> bool:
        """Go on with the opening; whether it is done. Raises OSError."""
        if self._fault is not None:
            raise self._fault
        opening = self._opening
        if opening is None:
            return True
        while self._flush(opening) and opening.unread is None:
            count = self._raw.receive_nowait(_SCRATCH)
            if count is None:
                return False
            if count == 0:
                raise self._failed("the peer hung up while the WebSocket was being opened")
            try:
                opening.receive_data(_SCRATCH[:count])
            except RemoteProtocolError as fault:
                self._flush(opening)  # an HTTP error is an answer too
                raise self._failed(fault) from None
        if opening.outgoing or opening.unread is None:
            return False
        self._unread = opening.unread
        self._opening = None
        return True

    def _flush(self, opening: Opening) -> bool:
        """Send what the opening has to say; whether all of it went."""
        if opening.outgoing:
            opening.outgoing = opening.outgoing[self._raw.send_nowait(opening.outgoing) :]
        return not opening.outgoing

    def _failed(self, reason: object) -> OSError:
        self._fault = ConnectionAbortedError(errno.ECONNABORTED, str(reason))
        return self._fault

"""The TLS of the web around a raw connection: certificates and names, by the standard library's `ssl`, sans sockets."""

from __future__ import annotations

import errno
import ssl

from anyio.lowlevel import checkpoint

from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import Buffer

_CHUNK = 16384  # bytes: the plaintext of one record (RFC 8446 §5.1)
FEED = (
    1 << 15
)  # bytes given to OpenSSL at once: almost two records of data, or 1,200 that change keys, which take 30 ms
MAX_IDLE = FEED  # bytes of records without data in a row, and of answers to them that find no room
_SCRATCH = memoryview(bytearray(FEED))


class WebTlsConnection:
    """A raw connection inside TLS; implements `core.transport.RawConnection`.

    The handshake goes on inside the waits. A record that found no room whole is not told as sent before it has gone;
    the caller is to offer its bytes again, as a socket’s caller does.
    """

    __slots__ = (
        *("_closed", "_drained", "_fault", "_idle", "_incoming", "_offered", "_outgoing", "_raw", "_tls", "_unsent"),
        *("local_address", "ready", "remote_address"),
    )

    def __init__(self, raw: RawConnection, context: ssl.SSLContext, server_name: str | None) -> None:
        """`server_name`: who the server must be; None: we are the server."""
        self._raw = raw
        self.local_address = raw.local_address
        self.remote_address = raw.remote_address
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._unsent = b""
        self._offered = b""
        self._drained = True
        self._idle = 0
        self._closed = False
        self._fault: OSError | None = None
        self.ready = False
        """Whether the handshake is done."""

    def __repr__(self) -> str:
        return f"<WebTlsConnection over {self._raw!r}>"

    def receive_nowait(self, buffer: memoryview) -> int | None:
        """See `RawConnection.receive_nowait`. One read a call: what is no data cannot hold the caller.

        `ssl.SSLError` is an OSError.
        """
        self._require_open()
        if not self.ready and not self._shake_hands():
            return None
        fed = False
        while True:
            try:
                count: int = self._tls.read(len(buffer), buffer)  # type: ignore[assignment]  # bytes only without a buffer
                self._drained = not self._tls.pending() and not self._incoming.pending
                self._idle = 0
                return count
            except ssl.SSLWantReadError:
                self._flush()  # a key update is answered
                if len(self._unsent) > MAX_IDLE:
                    raise self._failed("the peer reads no answers") from None
                if self._idle > MAX_IDLE:
                    raise self._failed("TLS records without data, without end") from None
                if fed or not self._feed():
                    self._drained = True
                    return None
                fed = True
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                self._drained = False
                return 0  # whether the end was meant is for the security inside to say

    def send_nowait(self, data: Buffer) -> int:
        """See `RawConnection.send_nowait`."""
        self._require_open()
        if not self.ready and not self._shake_hands():
            return 0
        view = memoryview(data).cast("B")
        total = 0
        if self._offered:
            size = len(self._offered)
            if not self._flush():
                return 0
            offered, self._offered = self._offered, b""
            if view[:size] != offered:
                raise OSError(errno.EINVAL, "other bytes than were offered before")
            total = size
        if not self._flush():
            return total
        while total < len(view):
            piece = view[total : total + _CHUNK]
            self._tls.write(piece)
            if not self._flush():
                self._offered = bytes(piece)
                break
            total += len(piece)
        return total

    async def wait_readable(self) -> None:
        """See `RawConnection.wait_readable`."""
        await self._set_up()
        if self._drained and not self._closed:
            await self._raw.wait_readable()
        else:
            await checkpoint()

    async def wait_writable(self) -> None:
        """See `RawConnection.wait_writable`."""
        await self._set_up()
        try:
            while not self._closed and not self._flush():
                await self._raw.wait_writable()
        except OSError:
            pass  # whoever sends hears of it
        await self._raw.wait_writable()

    def close(self) -> None:
        """See `RawConnection.close`; says goodbye to the TLS of the peer if there is room."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.ready and not self._offered:
                try:
                    self._tls.unwrap()
                except ssl.SSLError:
                    pass
                self._flush()
        except OSError:
            pass
        self._raw.close()

    async def _set_up(self) -> None:
        """Wait for the end of the handshake; its failure is told to whoever sends or receives."""
        try:
            while not self.ready and not self._closed and not self._shake_hands():
                await (self._raw.wait_writable() if self._unsent else self._raw.wait_readable())
        except OSError:
            self._drained = False

    def _shake_hands(self) -> bool:
        """Go on with the handshake; whether it is done. Raises OSError."""
        if self._fault is not None:
            raise self._fault
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                if self._flush() and self._feed():
                    continue
                return False
            except ssl.SSLError as fault:
                self._fault = fault
                self._flush()  # the alert
                raise
            self.ready = True
            self._idle = 0
            self._drained = False  # more may have come with the last of the handshake
            self._flush()
            return True

    def _feed(self) -> bool:
        """Hand OpenSSL what has come; False if that is nothing."""
        count = self._raw.receive_nowait(_SCRATCH)
        if count is None:
            return False
        if count:
            self._idle += count
            self._incoming.write(_SCRATCH[:count])
        else:
            self._incoming.write_eof()
        return True

    def _flush(self) -> bool:
        """Send what OpenSSL has made; whether all of it went."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        while self._unsent:
            sent = self._raw.send_nowait(self._unsent)
            self._unsent = self._unsent[sent:]
            if not sent:
                return False
        return True

    def _failed(self, reason: str) -> OSError:
        self._drained = False
        self._fault = ConnectionAbortedError(errno.ECONNABORTED, reason)
        return self._fault

    def _require_open(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the connection is closed")
        if self._fault is not None:
            raise self._fault

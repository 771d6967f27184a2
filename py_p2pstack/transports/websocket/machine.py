"""Opens a WebSocket: one HTTP request, one answer. The rules are the `websockets` package's, sans I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from py_p2pstack.errors import RemoteProtocolError, UnsupportedAddress

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.server import ServerProtocol

    from py_p2pstack.transports.websocket.codec import Mask

_OPEN = 1  # `websockets.protocol.State.OPEN`, an IntEnum
_END = b"\r\n\r\n"
_ASCII = (
    bytes(range(128)) + b"?" * 128
)  # the package fails at, or logs, other bytes; only headers that it ignores have any
_MISSING = 'WebSocket needs an extra: pip install "py-p2pstack[ws]"'


def require() -> Mask:
    """The `websockets` package's mask, in C where it has it. Raises UnsupportedAddress that says what to install."""
    try:
        from websockets import frames
    except ImportError:
        raise UnsupportedAddress(_MISSING) from None
    return cast("Mask", frames.__dict__["apply_mask"])


def _in_short(reason: object) -> str:
    """Printable, since part of it is the peer's."""
    return ascii(str(reason))[1:-1][:200]


class Opening:
    """One side's part. What is to be sent is in `outgoing`; it is over when `unread` is not None."""

    __slots__ = ("_head", "_max_head", "_protocol", "outgoing", "unread")

    def __init__(self, protocol: ClientProtocol | ServerProtocol, max_head: int) -> None:
        self._protocol = protocol
        self._max_head = max_head
        self._head = bytearray()
        self.outgoing = b""
        self.unread: bytes | None = None
        """Once the WebSocket is open: what came behind the head."""

    def receive_data(self, data: memoryview) -> None:
        """Take in what came. Raises RemoteProtocolError; a server's refusal is in `outgoing` even then."""
        searched = max(0, len(self._head) - 3)
        self._head += data
        end = self._head.find(_END, searched)
        size = len(self._head) if end == -1 else end + len(_END)
        if size > self._max_head:
            raise RemoteProtocolError(f"an HTTP head of more than {self._max_head} bytes")
        if end == -1:
            return
        self._judge(self._head[:size].translate(_ASCII))
        self.unread = bytes(self._head[size:])
        self._head.clear()

    def _judge(self, head: bytearray) -> None:
        raise NotImplementedError

    def _collect(self) -> None:
        self.outgoing += b"".join(self._protocol.data_to_send())


class ClientOpening(Opening):
    """Asks for a WebSocket."""

    __slots__ = ()

    def __init__(self, host: str, port: int, path: str, *, secure: bool, max_head: int) -> None:
        """`host`, `port` and `secure` are told to the server in its `Host` header."""
        from websockets.client import ClientProtocol
        from websockets.uri import WebSocketURI

        protocol = ClientProtocol(WebSocketURI(secure, host, port, path, ""))
        super().__init__(protocol, max_head)
        protocol.send_request(protocol.connect())
        self._collect()

    def _judge(self, head: bytearray) -> None:
        self._protocol.receive_data(head)
        if self._protocol.state != _OPEN:
            reason = self._protocol.handshake_exc or head.partition(b"\r\n")[0].decode("latin-1")
            raise RemoteProtocolError(f"the server opens no WebSocket: {_in_short(reason)}")


class ServerOpening(Opening):
    """Grants one, to whoever asks properly: who it is, is proved inside. Others get their HTTP error."""

    __slots__ = ()

    def __init__(self, *, max_head: int) -> None:
        from websockets.server import ServerProtocol

        super().__init__(ServerProtocol(), max_head)

    def _judge(self, head: bytearray) -> None:
        from websockets.http11 import Request
        from websockets.server import ServerProtocol

        protocol = self._protocol
        assert isinstance(protocol, ServerProtocol)
        protocol.receive_data(head)
        for request in protocol.events_received():
            assert isinstance(request, Request)
            protocol.send_response(protocol.accept(request))
        self._collect()
        if protocol.state != _OPEN:
            if not self.outgoing:
                self.outgoing = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            raise RemoteProtocolError(f"no WebSocket was asked for: {_in_short(protocol.handshake_exc)}")

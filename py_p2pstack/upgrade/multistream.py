"""multistream-select 1.0, sans-IO: how two sides agree on a protocol. Source: multiformats/multistream-select.

Both sides begin with the header; the dialer proposes, the listener echoes the proposal or says `na`. A proposal may
ride with the header, and, when the answer is foreseen (`LazyReply`), the application's bytes with both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import MessageTooLarge, NegotiationError, RemoteProtocolError
from py_p2pstack.wire import varint

MAX_TOKEN = 1024  # bytes with the newline; go-multistream's and js's limit
MAX_PROPOSALS = 64  # ours: how many refused proposals a listener listens to


@lru_cache(maxsize=1024)
def _encode(token: str) -> bytes:
    data = token.encode() + b"\n"
    if len(data) > MAX_TOKEN:
        raise ValueError(f"a protocol id of {len(data)} bytes; the limit is {MAX_TOKEN}")
    return varint.encode(len(data)) + data


@lru_cache(maxsize=1024)
def lazy_proposal(protocol: ProtocolId) -> bytes:
    """The header and one proposal, to be followed by application bytes."""
    return _HEADER + _encode(protocol)


HEADER = "/multistream/1.0.0"
NOT_AVAILABLE = "na"
_HEADER = _encode(HEADER)
_NA = _encode(NOT_AVAILABLE)


def _next_token(buffer: bytes) -> tuple[str, bytes] | None:
    """Cut the first token off: (token, rest), or None while it is not whole."""
    if buffer and buffer[0] < 0x80:  # nearly always
        size, start = buffer[0], 1
    else:
        prefix = varint.decode(buffer[:10])
        if prefix is None:
            return None
        size, start = prefix
    if size > MAX_TOKEN:
        raise MessageTooLarge(f"a multistream token of {size} bytes; the limit is {MAX_TOKEN}")
    end = start + size
    if len(buffer) < end:
        return None
    token = buffer[start:end]
    if token[-1:] != b"\n":
        raise RemoteProtocolError("a multistream token that does not end in a newline")
    try:
        return token[:-1].decode(), buffer[end:]
    except UnicodeDecodeError:
        raise RemoteProtocolError("a multistream token that is no UTF-8") from None


class Proposer:
    """The dialer's side: proposes `protocols` one after the other until one is taken."""

    __slots__ = ("_buffer", "_header_seen", "_left", "_out", "_proposal", "_protocols", "protocol")

    def __init__(self, protocols: Sequence[ProtocolId]) -> None:
        if not protocols:
            raise ValueError("nothing to propose")
        self._protocols = tuple(protocols)
        self._left = list(self._protocols[:0:-1])
        self._proposal = protocols[0]
        self._out = lazy_proposal(self._proposal)
        self._buffer = b""
        self._header_seen = False
        self.protocol: ProtocolId | None = None
        """The outcome, once there."""

    @property
    def unread(self) -> bytes:
        """Bytes that came behind the negotiation."""
        return self._buffer

    def bytes_to_send(self) -> bytes:
        """Take what is to be sent now."""
        out, self._out = self._out, b""
        return out

    def receive_data(self, data: bytes) -> None:
        """Take in bytes. Raises NegotiationError (nothing in common) and RemoteProtocolError."""
        self._buffer = buffer = self._buffer + data if self._buffer else data
        if not self._header_seen and buffer.startswith(agreed := lazy_proposal(self._proposal)):
            self.protocol = self._proposal  # the common case in one comparison
            self._buffer = buffer[len(agreed) :]
            return
        while self.protocol is None and (cut := _next_token(self._buffer)) is not None:
            token, self._buffer = cut
            if not self._header_seen:
                if token != HEADER:
                    raise NegotiationError(f"the peer speaks no multistream: it began with {token[:80]!r}")
                self._header_seen = True
            elif token == self._proposal:
                self.protocol = token
            elif token != NOT_AVAILABLE:
                raise NegotiationError(f"{self._proposal} was proposed, {token[:80]!r} answered")
            elif self._left:
                self._proposal = self._left.pop()
                self._out += _encode(self._proposal)
            else:
                raise NegotiationError(
                    f"the peer speaks none of {', '.join(self._protocols)}", protocols=self._protocols
                )


class Responder:
    """The listener's side: takes the first proposal that `supports` accepts."""

    __slots__ = ("_buffer", "_header_seen", "_out", "_refused", "_supports", "protocol")

    def __init__(self, supports: Callable[[ProtocolId], bool]) -> None:
        self._supports = supports
        self._buffer = b""
        self._out = b""
        self._header_seen = False
        self._refused = 0
        self.protocol: ProtocolId | None = None
        """The outcome, once there."""

    @property
    def unread(self) -> bytes:
        """Bytes that came behind the negotiation."""
        return self._buffer

    def bytes_to_send(self) -> bytes:
        """Take what is to be sent now; the answer that ends the negotiation is the last of it."""
        out, self._out = self._out, b""
        return out

    def receive_data(self, data: bytes) -> None:
        """Take in bytes. Raises NegotiationError (too many refusals, no multistream) and RemoteProtocolError."""
        self._buffer = buffer = self._buffer + data if self._buffer else data
        if not self._header_seen and buffer.startswith(_HEADER):
            self._header_seen = True
            self._out = _HEADER
            self._buffer = buffer[len(_HEADER) :]
        while self.protocol is None and (cut := _next_token(self._buffer)) is not None:
            token, self._buffer = cut
            if not self._header_seen:
                raise NegotiationError(f"the peer speaks no multistream: it began with {token[:80]!r}")
            if self._supports(token):
                self._out += _encode(token)
                self.protocol = token
            elif self._refused == MAX_PROPOSALS:
                raise NegotiationError(f"{self._refused} proposals, none of which we speak")
            else:
                self._refused += 1
                self._out += _NA


class LazyReply:
    """Judges the reply to a proposal that was not waited for."""

    __slots__ = ("_buffer", "_expected", "_protocol")

    def __init__(self, protocol: ProtocolId) -> None:
        self._protocol = protocol
        self._expected = lazy_proposal(protocol)
        self._buffer = b""

    @property
    def unread(self) -> bytes:
        """The application bytes that came behind the reply."""
        return self._buffer

    def receive_data(self, data: bytes) -> bool:
        """Take in bytes; returns whether the peer has agreed. Raises NegotiationError, RemoteProtocolError."""
        self._buffer = buffer = self._buffer + data if self._buffer else data
        expected = self._expected
        if buffer.startswith(expected):
            self._buffer = buffer[len(expected) :]
            return True
        if expected.startswith(buffer):
            return False
        cut = _next_token(buffer)
        if cut is not None and cut[0] == HEADER:
            cut = _next_token(cut[1])
        if cut is None:  # at most two tokens, each bounded
            return False
        if cut[0] == NOT_AVAILABLE:
            raise NegotiationError(f"the peer does not speak {self._protocol}", protocols=(self._protocol,))
        raise NegotiationError(f"{self._protocol} was proposed, {cut[0][:80]!r} answered")

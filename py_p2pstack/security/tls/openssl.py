"""Bytes in and out of OpenSSL with as few copies as can be; the only place that reaches behind pyOpenSSL's face.

pyOpenSSL's own `bio_read` and `recv` copy what they return once or twice more than need be, a tenth of the whole cost
of a bulk transfer. `Direct` gives OpenSSL our buffers; `Public` does the same work with nothing but public calls, and
is taken should a later pyOpenSSL be built otherwise.
"""

from __future__ import annotations

from typing import Any, Protocol

from OpenSSL import SSL

from py_p2pstack.core.types import Buffer
from py_p2pstack.wire.scratch import Scratch

MAX_FRAGMENT = 16384  # plaintext bytes of one TLS record (RFC 8446 §5.1)
FRAGMENTS = 4  # records whose plaintext comes as one piece
PARTIAL_WRITE = 1  # SSL_MODE_ENABLE_PARTIAL_WRITE: a call seals one record; with it off, all it is given


class Channel(Protocol):
    """The bytes of a connection whose handshake is done. Every call may raise SSL.Error."""

    def seal(self, plaintext: Buffer) -> None:
        """Seal all of it."""
        ...

    def take_sealed(self, out: memoryview) -> int:
        """Move what is to be sent to the start of `out`, as much as fits; returns how much."""
        ...

    def open(self, records: memoryview, count: int) -> tuple[Buffer, int]:
        """Open whole records, at most `FRAGMENTS`: what they held, and how many of them application data.

        What they held is good until the next call in this thread. Raises SSL.WantReadError if none held any.
        """
        ...


class Public:
    """With public calls alone."""

    __slots__ = ("_connection",)

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def seal(self, plaintext: Buffer) -> None:
        """See `Channel.seal`."""
        self._connection.send(plaintext)  # whole: contexts have `PARTIAL_WRITE` off

    def take_sealed(self, out: memoryview) -> int:
        """See `Channel.take_sealed`."""
        sealed = self._connection.bio_read(len(out))
        out[: len(sealed)] = sealed
        return len(sealed)

    def open(self, records: memoryview, count: int) -> tuple[Buffer, int]:
        """See `Channel.open`."""
        pieces: list[bytes] = []
        recv, take = self._connection.recv, pieces.append
        self._connection.bio_write(records)
        try:
            for _ in range(count):
                take(recv(MAX_FRAGMENT))
        except (SSL.WantReadError, SSL.ZeroReturnError):
            if not pieces:
                raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), len(pieces)


_scratch = Scratch(FRAGMENTS * MAX_FRAGMENT)


class Direct(Public):
    """With our own buffers; making one raises AttributeError where pyOpenSSL is built otherwise."""

    __slots__ = ("_outgoing", "_raise", "_ssl")

    def __init__(self, connection: SSL.Connection) -> None:
        super().__init__(connection)
        self._raise = connection._raise_ssl_error
        self._ssl = connection._ssl
        self._outgoing = connection._from_ssl

    def take_sealed(self, out: memoryview) -> int:
        """See `Channel.take_sealed`."""
        size: int = _bio_read(self._outgoing, _from_buffer(out), len(out))
        return size if size > 0 else super().take_sealed(out)

    def open(self, records: memoryview, count: int) -> tuple[Buffer, int]:
        """See `Channel.open`."""
        self._connection.bio_write(records)
        ssl, scratch = self._ssl, _scratch.view
        start = _from_buffer(scratch)
        opened = held = 0
        while held < count:
            size: int = _ssl_read(ssl, start + opened, MAX_FRAGMENT)
            if size <= 0:
                try:
                    self._raise(ssl, size)  # at once: OpenSSL keeps one list of errors for all connections of a thread
                except (SSL.WantReadError, SSL.ZeroReturnError):
                    if not opened:
                        raise
                    break
            opened += size
            held += 1
        return scratch[:opened], held


def channel(connection: SSL.Connection) -> Channel:
    """The fastest there is."""
    return Direct(connection) if has_direct else Public(connection)


_inside: Any = SSL
try:
    _bio_read, _ssl_read, _from_buffer = _inside._lib.BIO_read, _inside._lib.SSL_read, _inside._ffi.from_buffer
    Direct(SSL.Connection(SSL.Context(SSL.TLS_METHOD), None))
    has_direct = True
except AttributeError:
    has_direct = False

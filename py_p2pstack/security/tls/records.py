"""The transport phase of TLS: OpenSSL seals and opens, through two buffers in memory; only whole records reach it."""

from __future__ import annotations

import struct

from OpenSSL import SSL

from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import ConnectionClosed, DecryptError, LocalProtocolError, SecurityError
from py_p2pstack.security.tls.openssl import FRAGMENTS, MAX_FRAGMENT, channel

HEADER_SIZE = 5
MAX_CIPHERTEXT = MAX_FRAGMENT + 256  # RFC 8446 §5.2
MAX_IDLE = 1000  # records without data: key updates, of which a terabyte needs three (§5.5) and each costs 15 µs
_EXPANSION = HEADER_SIZE + 1 + 16  # header, content type, tag
_ANSWER = 64  # a key update the peer asked for rides along: 27 bytes

_length_at = struct.Struct(">3xH").unpack_from


def next_record(data: Buffer, offset: int) -> int:
    """Where the record that starts at `offset` ends; -1 while it is not whole. Raises DecryptError for its length."""
    if len(data) - offset < HEADER_SIZE:
        return -1
    size: int = _length_at(data, offset)[0]
    if size > MAX_CIPHERTEXT:
        raise DecryptError(f"a TLS record of {size} bytes; the limit is {MAX_CIPHERTEXT}")
    end = offset + HEADER_SIZE + size
    return end if end <= len(data) else -1


def reason(fault: SSL.Error) -> str:
    """What OpenSSL says, in a few words."""
    entries = fault.args[0] if fault.args and isinstance(fault.args[0], list) else []
    return "; ".join(str(entry[-1]) for entry in entries) or "unknown reason"


class TlsRecords:
    """Seals and opens with the keys of a finished handshake; implements `core.security.RecordLayer`.

    What `seal_into` calls one record is up to four of TLS, since all that comes before and after costs by the call.
    """

    __slots__ = ("_channel", "_idle", "max_plaintext", "overhead")

    def __init__(self, connection: SSL.Connection) -> None:
        self.max_plaintext = FRAGMENTS * (MAX_FRAGMENT - _EXPANSION) - _ANSWER  # sealed no more than 64 KiB
        self.overhead = FRAGMENTS * _EXPANSION + _ANSWER
        self._channel = channel(connection)
        self._idle = 0

    def seal_into(self, plaintext: Buffer, out: memoryview) -> int:
        """Seal at most `max_plaintext` bytes at the start of `out`; returns the sealed size.

        Raises LocalProtocolError (too much plaintext), SecurityError (the channel is dead).
        """
        size = len(plaintext)
        if size > self.max_plaintext:
            raise LocalProtocolError(f"{size} bytes to seal with TLS; the limit is {self.max_plaintext}")
        if not size:
            return 0
        try:
            self._channel.seal(plaintext)
            return self._channel.take_sealed(out[: size + self.overhead])
        except SSL.Error as fault:
            raise SecurityError(f"the TLS channel is of no further use: {reason(fault)}") from None

    def open_record(self, data: memoryview, start: int) -> tuple[Buffer, int]:
        """See `core.security.RecordLayer`; up to four whole records of TLS are opened as one.

        Raises DecryptError (also for an alert), ConnectionClosed when there is nothing but the peer's goodbye.
        """
        offset, count = start, 0
        while count < FRAGMENTS and (end := next_record(data, offset)) > 0:
            offset = end
            count += 1
        if not count:
            return b"", start
        plaintext: Buffer = b""
        try:
            plaintext, held = self._channel.open(data[start:offset], count)
            self._idle += count - held
        except SSL.WantReadError:
            self._idle += count
        except SSL.ZeroReturnError:
            raise ConnectionClosed("the peer closed the TLS channel", remote=True) from None
        except SSL.Error as fault:
            raise DecryptError(f"the TLS channel broke: {reason(fault)}") from None
        if self._idle > MAX_IDLE:
            raise DecryptError(f"more than {MAX_IDLE} TLS records without data")
        return plaintext, offset

"""The transport phase of TLS: OpenSSL seals and opens, through two buffers in memory; only whole records reach it."""

from __future__ import annotations

import struct

from OpenSSL import SSL

from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import ConnectionClosed, DecryptError, LocalProtocolError, SecurityError

HEADER_SIZE = 5
MAX_FRAGMENT = 16384  # plaintext bytes of one TLS record (RFC 8446 §5.1)
MAX_CIPHERTEXT = MAX_FRAGMENT + 256  # RFC 8446 §5.2
_FRAGMENTS = 4  # TLS records sealed with one call: Python's share of the work is per call
_EXPANSION = HEADER_SIZE + 1 + 16  # header, content type, tag
_ANSWER = 64  # a key update the peer asked for rides along: 27 bytes
_FEED = 4 * (HEADER_SIZE + MAX_CIPHERTEXT)  # bytes put into OpenSSL's buffer at once: it never shrinks

_length_at = struct.Struct(">H").unpack_from


def next_record(data: Buffer, offset: int) -> int:
    """Where the record that starts at `offset` ends; -1 while it is not whole. Raises DecryptError for its length."""
    if len(data) - offset < HEADER_SIZE:
        return -1
    size = _length_at(data, offset + 3)[0]
    if size > MAX_CIPHERTEXT:
        raise DecryptError(f"a TLS record of {size} bytes; the limit is {MAX_CIPHERTEXT}")
    end: int = offset + HEADER_SIZE + size
    return end if end <= len(data) else -1


def reason(fault: SSL.Error) -> str:
    """What OpenSSL says, in a few words."""
    entries = fault.args[0] if fault.args and isinstance(fault.args[0], list) else []
    return "; ".join(str(entry[-1]) for entry in entries) or "unknown reason"


class TlsRecords:
    """Seals and opens with the keys of a finished handshake; implements `core.security.RecordLayer`.

    What `seal_into` calls one record is up to four of TLS.
    """

    __slots__ = ("_bio_read", "_bio_write", "_recv", "_send", "max_plaintext", "overhead")

    def __init__(self, connection: SSL.Connection) -> None:
        self.max_plaintext = _FRAGMENTS * (MAX_FRAGMENT - _EXPANSION) - _ANSWER  # sealed no more than 64 KiB
        self.overhead = _FRAGMENTS * _EXPANSION + _ANSWER
        self._send = connection.send
        self._recv = connection.recv
        self._bio_read = connection.bio_read
        self._bio_write = connection.bio_write

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
            sent = self._send(plaintext)
            if sent < size:
                view = memoryview(plaintext)
                while sent < size:  # a fragment a call
                    sent += self._send(view[sent:])
            sealed = self._bio_read(size + self.overhead)
        except SSL.Error as fault:
            raise SecurityError(f"the TLS channel is of no further use: {reason(fault)}") from None
        end = len(sealed)
        out[:end] = sealed
        return end

    def open_records(self, data: memoryview) -> tuple[list[bytes], int]:
        """Open every whole record in `data`: the plaintexts, and how many bytes they took.

        Raises DecryptError (also for an alert), ConnectionClosed when there is nothing but the peer's goodbye.
        """
        plaintexts: list[bytes] = []
        offset = fed = 0
        count = 0
        while (end := next_record(data, offset)) > 0:
            if end - fed > _FEED:
                self._open(data[fed:offset], count, plaintexts)
                fed, count = offset, 0
            offset = end
            count += 1
        if count:
            self._open(data[fed:offset], count, plaintexts)
        return plaintexts, offset

    def _open(self, records: memoryview, count: int, plaintexts: list[bytes]) -> None:
        recv, take = self._recv, plaintexts.append
        try:
            self._bio_write(records)
            for _ in range(count):
                take(recv(MAX_FRAGMENT))
        except SSL.WantReadError:
            return  # some were not application data: a key update, say
        except SSL.ZeroReturnError:
            if not plaintexts:
                raise ConnectionClosed("the peer closed the TLS channel", remote=True) from None
        except SSL.Error as fault:
            raise DecryptError(f"the TLS channel broke: {reason(fault)}") from None

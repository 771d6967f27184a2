"""The transport phase of noise: a 2-byte length, then at most 65535 bytes of ciphertext, numbered in order."""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import DecryptError, LocalProtocolError, SecurityError
from py_p2pstack.wire.scratch import Scratch

LENGTH_SIZE = 2
TAG_SIZE = 16
MAX_RECORD = 65535  # Noise §3
# The most that we seal in one. With AVX-512, OpenSSL's Poly1305 takes eight blocks of 16 bytes at a time, unless four
# or more would be left over: then it takes four at a time, and sealing and opening the whole last a quarter longer.
MAX_PLAINTEXT = (MAX_RECORD - TAG_SIZE) // 128 * 128
MAX_NONCE = 2**64 - 1  # reserved (Noise §5.1): the channel ends before it is used

_SMALL = 4096  # bytes below which a plaintext is a bytes object of its own

_scratch = Scratch(MAX_RECORD)
_length = struct.Struct(">H")
_pack_length = _length.pack_into
_unpack_length = _length.unpack_from
_nonce = struct.Struct("<4xQ").pack


class NoiseRecords:
    """Seals and opens records with the two keys of a handshake; implements `core.security.RecordLayer`."""

    __slots__ = ("_encrypt_into", "_opener", "_receive_nonce", "_send_nonce", "max_plaintext", "overhead")

    def __init__(self, send_key: bytes, receive_key: bytes) -> None:
        self.max_plaintext = MAX_PLAINTEXT
        self.overhead = LENGTH_SIZE + TAG_SIZE
        self._encrypt_into = ChaCha20Poly1305(send_key).encrypt_into
        self._opener = ChaCha20Poly1305(receive_key)
        self._send_nonce = 0
        self._receive_nonce = 0

    def seal_into(self, plaintext: Buffer, out: memoryview) -> int:
        """Seal at most 65408 bytes as one record at the start of `out`; returns the record's size.

        Raises LocalProtocolError (too much plaintext), SecurityError (no nonce left).
        """
        nonce = self._send_nonce
        if nonce == MAX_NONCE:
            raise SecurityError("the noise channel has used up its nonces")
        size = len(plaintext) + TAG_SIZE
        if size > MAX_PLAINTEXT + TAG_SIZE:
            raise LocalProtocolError(f"{len(plaintext)} bytes to seal with noise; the limit is {MAX_PLAINTEXT}")
        end = LENGTH_SIZE + size
        _pack_length(out, 0, size)
        self._encrypt_into(_nonce(nonce), plaintext, None, out[LENGTH_SIZE:end])
        self._send_nonce = nonce + 1
        return end

    def open_record(self, data: memoryview, start: int) -> tuple[Buffer, int]:
        """See `core.security.RecordLayer`.

        Raises DecryptError; the counter does not move for a record that fails (GHSA-g9mp-8g3h-3c5c).
        """
        begin = start + LENGTH_SIZE
        if begin > len(data):
            return b"", start
        end = begin + _unpack_length(data, start)[0]
        if end > len(data):
            return b"", start
        nonce = self._receive_nonce
        if nonce == MAX_NONCE:
            raise DecryptError("the noise channel has used up its nonces")
        plaintext: Buffer
        size = end - begin - TAG_SIZE
        try:
            if size < _SMALL:
                plaintext = self._opener.decrypt(_nonce(nonce), data[begin:end], None)
            else:
                plaintext = _scratch.view[:size]
                self._opener.decrypt_into(_nonce(nonce), data[begin:end], None, plaintext)
        except (InvalidTag, ValueError):
            raise DecryptError(f"noise record {nonce} does not authenticate") from None
        self._receive_nonce = nonce + 1
        return plaintext, end

"""Frames of our own, added to a packet that qh3 has just built.

qh3 lets a stream's window grow when it hands bytes over, not when the application has consumed them, and has no word
for saying so later. So it is given stream windows that never fill, ours are kept by `connection`, and what a stream's
reader has earned (MAX_STREAM_DATA) is written behind the frames of a packet in which qh3 sends a ping, before that
packet leaves: it is opened, added to and sealed again under its own number, and only the second form is ever sent.
The ping's acknowledgement tells that the frames arrived. Source: RFC 9000 §19.10, RFC 9001 §5 and §6.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

MAX_STREAM_DATA = 0x11
MAX_SIZE = 1200  # bytes: the least that every path carries
_TAG = 16
_SAMPLE = 16
_MAX_UPDATES = 8  # key updates that may have come between two postscripts; each takes a round trip at least

DeriveNext = Callable[[bytes], tuple[bytes, bytes, bytes]]
"""From a traffic secret to the next one, with its key and iv."""


class Postscript:
    """Adds to our side's 1-RTT packets under AES-128-GCM, following key updates."""

    def __init__(self, secret: bytes, key: bytes, iv: bytes, header_key: bytes, derive_next: DeriveNext) -> None:
        self._secret = secret
        self._derive_next = derive_next
        self._aead = AESGCM(key)
        self._iv = int.from_bytes(iv, "big")
        self._mask = Cipher(AES(header_key), ECB()).encryptor()  # noqa: S305 - as RFC 9001 §5.4.3 has it

    def add(self, packet: bytes, cid_length: int, number: int, frames: bytes) -> bytes | None:
        """The packet with `frames` behind its own; None if it is none of ours, or has no room.

        Args:
            packet: a datagram that holds one packet with a short header, and is never sent itself.
            cid_length: bytes of the connection id it goes to.
            number: its packet number.
            frames: encoded frames.
        """
        start = 1 + cid_length
        if packet[0] & 0x80 or len(packet) < start + 4 + _SAMPLE or len(packet) + len(frames) > MAX_SIZE:
            return None
        mask = self._mask.update(packet[start + 4 : start + 4 + _SAMPLE])
        first = packet[0] ^ mask[0] & 0x1F
        width = (first & 3) + 1
        head = bytearray(packet[: start + width])
        head[0] = first
        for position in range(width):
            head[start + position] ^= mask[1 + position]
        if int.from_bytes(head[start:], "big") != number & ((1 << 8 * width) - 1):
            return None
        plaintext = self._open(number, packet[start + width :], bytes(head))
        if plaintext is None:
            return None
        sealed = self._aead.encrypt(self._nonce(number), plaintext + frames, bytes(head))
        sample = 4 - width
        mask = self._mask.update(sealed[sample : sample + _SAMPLE])
        head[0] ^= mask[0] & 0x1F
        for position in range(width):
            head[start + position] ^= mask[1 + position]
        return bytes(head) + sealed

    def _open(self, number: int, sealed: bytes, head: bytes) -> bytes | None:
        """Open what qh3 sealed; where our keys do not fit, it has updated its own."""
        before = self._secret, self._aead, self._iv
        for _ in range(_MAX_UPDATES):
            try:
                return self._aead.decrypt(self._nonce(number), sealed, head)
            except InvalidTag:
                self._secret, key, iv = self._derive_next(self._secret)
                self._aead, self._iv = AESGCM(key), int.from_bytes(iv, "big")
        self._secret, self._aead, self._iv = before
        return None

    def _nonce(self, number: int) -> bytes:
        return (self._iv ^ number).to_bytes(12, "big")


def max_stream_data(stream_id: int, maximum: int) -> bytes:
    """The frame that lets the peer send `maximum` bytes of a stream in all."""
    return bytes((MAX_STREAM_DATA,)) + varint(stream_id) + varint(maximum)


def varint(value: int) -> bytes:
    """QUIC's variable-length integer (RFC 9000 §16)."""
    for width, bits in ((1, 6), (2, 14), (4, 30)):
        if value < 1 << bits:
            return (value | (width.bit_length() - 1) << 8 * width - 2).to_bytes(width, "big")
    return (value | 3 << 62).to_bytes(8, "big")

"""What an endpoint reads of a datagram before it knows whose it is, and the packets it answers without a connection.

Source: RFC 8999, RFC 9000 §10.3 and §17.2.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

VERSION = 1
CID_LENGTH = 8  # bytes of our connection ids
MIN_INITIAL = 1200  # bytes of a datagram with a client's first packet, at least
TOKEN_LIFETIME = 10.0  # seconds in which a Retry must be answered; ours
_MAX_CID = 20
_RESET = 21  # bytes of the shortest stateless reset; those of packets it may answer are more


class LongHeader(NamedTuple):
    """The part of a long header that every version of QUIC has, and version 1's type and token."""

    version: int
    destination: bytes
    source: bytes
    initial: bool
    token: bytes


def short_destination(data: bytes) -> bytes | None:
    """The connection id of a short header; None if it is a long one, or too short for any."""
    if len(data) <= CID_LENGTH or data[0] & 0x80:
        return None
    return data[1 : 1 + CID_LENGTH]


def read_long(data: bytes) -> LongHeader | None:
    """Read a long header; None if it is none."""
    if len(data) < 7 or not data[0] & 0x80:
        return None
    version = int.from_bytes(data[1:5], "big")
    middle = 6 + data[5]
    if len(data) <= middle:
        return None
    end = middle + 1 + data[middle]
    if len(data) < end:
        return None
    destination, source = data[6:middle], data[middle + 1 : end]
    if version != VERSION:
        return LongHeader(version, destination, source, False, b"")
    if len(destination) > _MAX_CID or len(source) > _MAX_CID or not data[0] & 0x40:
        return None
    if data[0] & 0x30:
        return LongHeader(version, destination, source, False, b"")
    token = _read_token(data, end)
    return None if token is None else LongHeader(version, destination, source, True, token)


def _read_token(data: bytes, start: int) -> bytes | None:
    """The token of an Initial packet: a QUIC varint, and as many bytes."""
    if len(data) <= start:
        return None
    width = 1 << (data[start] >> 6)
    size = int.from_bytes(data[start : start + width], "big") & ((1 << (8 * width - 2)) - 1)
    end = start + width + size
    return data[start + width : end] if end < len(data) else None


def version_negotiation(header: LongHeader, noise: int) -> bytes:
    """What we speak, for a peer that tried another version; `noise` fills the unused bits."""
    source, destination = header.destination, header.source
    head = bytes((0x80 | noise & 0x7F, 0, 0, 0, 0, len(destination)))
    return head + destination + bytes((len(source),)) + source + VERSION.to_bytes(4, "big")


def retry_head(header: LongHeader, cid: bytes, token: bytes) -> bytes:
    """A Retry without its integrity tag: come back to `cid` with this token."""
    head = bytes((0xF0,)) + VERSION.to_bytes(4, "big") + bytes((len(header.source),))
    return head + header.source + bytes((len(cid),)) + cid + token


def reset_token(key: bytes, cid: bytes) -> bytes:
    """The token by which a peer knows our stateless reset of the connection with this id (16 bytes)."""
    return hmac.digest(key, b"stateless reset" + cid, "sha256")[:16]


def stateless_reset(key: bytes, data: bytes, cid: bytes, noise: bytes) -> bytes | None:
    """The answer to a packet of a connection we do not know, shorter than that; None if it is too short for one.

    `noise`: as many random bytes as `data` has, at least.
    """
    size = min(len(data) - 1, 2 * _RESET)
    if size < _RESET:
        return None
    return bytes((0x40 | noise[0] & 0x3F,)) + noise[1 : size - 16] + reset_token(key, cid)


def make_token(key: bytes, address: bytes, original: bytes, cid: bytes, now: float) -> bytes:
    """What a Retry gives a client at `address`: it proves that the client receives there, for ten seconds."""
    body = int(now * 1000).to_bytes(8, "big") + bytes((len(original),)) + original
    return body + _seal(key, body, address, cid)


def open_token(key: bytes, address: bytes, cid: bytes, token: bytes, now: float) -> bytes | None:
    """The original destination id of a token that is genuine and fresh; None otherwise."""
    if len(token) < 9 + 16:
        return None
    body, tag = token[:-16], token[-16:]
    if not hmac.compare_digest(tag, _seal(key, body, address, cid)):
        return None
    age = now - int.from_bytes(body[:8], "big") / 1000
    return body[9:] if -1.0 < age < TOKEN_LIFETIME else None


def _seal(key: bytes, body: bytes, address: bytes, cid: bytes) -> bytes:
    bound = b"retry" + bytes((len(cid),)) + cid + bytes((len(address),)) + address
    return hmac.new(key, bound + body, hashlib.sha256).digest()[:16]

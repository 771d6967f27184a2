"""The bytes of the rows a DHT keeps: small, versioned, and read as if a stranger had written them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.addresses.multiaddr import parse_bytes
from py_p2pstack.errors import InvalidAddress, InvalidPeerId, RecordError
from py_p2pstack.identity import PeerId

VERSION = 1
MAX_ADDRESSES = 16  # of one peer in one row
MAX_SNAPSHOT = 1024  # peers; a full table of 2^20 nodes has some 300

VALUES = b"v/"
VALUE_HEADERS = b"h/"
PUBLISHED = b"w/"
PROVIDERS = b"p/"
OWN = b"o/"
SNAPSHOT = b"t/"

_HEADER = struct.Struct(">BdBI")  # version, time received, flags, size of the value
_PROVIDER = struct.Struct(">Bdd")  # version, time added, time of the addresses
_OWN = struct.Struct(">Bd")  # version, time last provided
_PUBLISHED = 1


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value with its circumstances."""

    value: bytes
    received: float
    """When, in unix seconds."""
    published: bool
    """Whether we are its publisher, and must republish it."""


@dataclass(frozen=True, slots=True)
class ValueHeader:
    """What is known of a value without reading it."""

    received: float
    published: bool
    size: int


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """One provider of one key."""

    added: float
    addresses_added: float
    addresses: tuple[Multiaddr, ...]


def is_current(then: float, now: float, max_age: float) -> bool:
    """Whether a row written `then` still counts; not if it claims to be written that far in the future, or is NaN."""
    return abs(now - then) <= max_age


# --- values ---------------------------------------------------------------------------------------


def encode_header(header: ValueHeader) -> bytes:
    """The row under VALUE_HEADERS, and the beginning of the one under VALUES."""
    return _HEADER.pack(VERSION, header.received, _PUBLISHED * header.published, header.size)


def decode_header(row: bytes) -> ValueHeader:
    """Raises RecordError."""
    version, received, flags, size = _unpack(_HEADER, row)
    if version != VERSION or flags > _PUBLISHED:
        raise RecordError(f"a value's header of version {version} with flags {flags}")
    return ValueHeader(received, bool(flags & _PUBLISHED), size)


def decode_value(row: bytes) -> StoredValue:
    """Read a row under VALUES. Raises RecordError."""
    header = decode_header(row[: _HEADER.size])
    if len(row) != _HEADER.size + header.size:
        raise RecordError(f"a value of {header.size} bytes in a row of {len(row)}")
    return StoredValue(row[_HEADER.size :], header.received, header.published)


# --- providers ------------------------------------------------------------------------------------


def providers_of(key: bytes) -> bytes:
    """The beginning of the rows of a key's providers; its length first, so that no key begins another one's rows."""
    return PROVIDERS + bytes((len(key),)) + key


def split_provider(row_key: bytes) -> tuple[bytes, bytes]:
    """The key and the peer id of a provider's row. Raises RecordError."""
    start = len(PROVIDERS) + 1
    if len(row_key) <= start or len(row_key) <= start + row_key[start - 1]:
        raise RecordError("a provider's row without a provider")
    end = start + row_key[start - 1]
    return row_key[start:end], row_key[end:]


def encode_provider(row: ProviderRow) -> bytes:
    """The row of a provider; at most MAX_ADDRESSES of its addresses."""
    return _PROVIDER.pack(VERSION, row.added, row.addresses_added) + _encode_addresses(row.addresses)


def decode_provider(row: bytes) -> ProviderRow:
    """Raises RecordError."""
    version, added, addresses_added = _unpack(_PROVIDER, row[: _PROVIDER.size])
    if version != VERSION:
        raise RecordError(f"a provider's row of version {version}")
    addresses, end = _decode_addresses(row, _PROVIDER.size)
    if end != len(row):
        raise RecordError("a provider's row goes on behind its end")
    return ProviderRow(added, addresses_added, addresses)


def decode_peer(encoded: bytes) -> PeerId:
    """Raises RecordError."""
    try:
        return PeerId.from_bytes(encoded)
    except InvalidPeerId as fault:
        raise RecordError(str(fault)) from None


# --- our own provided keys ------------------------------------------------------------------------


def own_row(key: bytes) -> bytes:
    """The row of a key of ours: its place in the key space comes first, so rows lie in that order."""
    return OWN + sha256(key).digest() + key


def split_own(row_key: bytes) -> bytes:
    """The key of such a row. Raises RecordError."""
    key = row_key[len(OWN) + 32 :]
    if row_key != own_row(key):
        raise RecordError("a key of ours in another one's place")
    return key


def encode_own(provided: float) -> bytes:
    """`provided` in unix seconds, 0 for never."""
    return _OWN.pack(VERSION, provided)


def decode_own(row: bytes) -> float:
    """Raises RecordError."""
    version, provided = _unpack(_OWN, row)
    if version != VERSION or not provided >= 0:
        raise RecordError(f"a key of ours of version {version}, provided at {provided}")
    return float(provided)


# --- the snapshot of the routing table --------------------------------------------------------------


def encode_snapshot(peers: Sequence[PeerInfo]) -> bytes:
    """At most MAX_SNAPSHOT peers with their addresses."""
    out = bytearray((VERSION,))
    for peer in peers[:MAX_SNAPSHOT]:
        identity = peer.peer_id.to_bytes()
        out += bytes((len(identity),)) + identity + _encode_addresses(peer.addresses)
    return bytes(out)


def decode_snapshot(row: bytes) -> list[PeerInfo]:
    """Raises RecordError."""
    if row[:1] != bytes((VERSION,)):
        raise RecordError("a snapshot of another version")
    peers: list[PeerInfo] = []
    place = 1
    while place < len(row):
        if len(peers) == MAX_SNAPSHOT:
            raise RecordError(f"a snapshot of more than {MAX_SNAPSHOT} peers")
        end = place + 1 + row[place]
        peer = decode_peer(row[place + 1 : end])
        addresses, place = _decode_addresses(row, end)
        peers.append(PeerInfo(peer, addresses))
    return peers


# --- parts ----------------------------------------------------------------------------------------


def _unpack(form: struct.Struct, row: bytes) -> tuple[Any, ...]:
    if len(row) != form.size:
        raise RecordError(f"a row of {len(row)} bytes, not {form.size}")
    return form.unpack(row)


def _encode_addresses(addresses: Sequence[Multiaddr]) -> bytes:
    kept = addresses[:MAX_ADDRESSES]
    out = bytearray((len(kept),))
    for address in kept:
        encoded = address.to_bytes()
        out += len(encoded).to_bytes(2, "big") + encoded
    return bytes(out)


def _decode_addresses(row: bytes, place: int) -> tuple[tuple[Multiaddr, ...], int]:
    """The addresses at `place`, and where they end. Raises RecordError."""
    if place >= len(row) or row[place] > MAX_ADDRESSES:
        raise RecordError("addresses missing, or too many")
    addresses = []
    count, place = row[place], place + 1
    for _ in range(count):
        size = int.from_bytes(row[place : place + 2], "big")
        encoded, place = row[place + 2 : place + 2 + size], place + 2 + size
        try:
            addresses.append(parse_bytes(encoded))
        except InvalidAddress as fault:
            raise RecordError(str(fault)) from None
    if place > len(row):
        raise RecordError("addresses cut off")
    return tuple(addresses), place

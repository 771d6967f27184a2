"""Peer ids: the multihash of a public key, as bytes, base58 text or CIDv1 text."""

from __future__ import annotations

import base64
import hashlib
from functools import total_ordering
from typing import TYPE_CHECKING, Any

import base58

from py_p2pstack.errors import InvalidPeerId
from py_p2pstack.wire import multibase

if TYPE_CHECKING:
    from py_p2pstack.identity.keys import PublicKey

MAX_INLINE_KEY = 42  # libp2p/specs peer-ids: keys of at most 42 bytes are inlined by the identity multihash
_IDENTITY = 0x00
_SHA256 = b"\x12\x20"
_CID_PREFIX = b"\x01\x72"  # CIDv1, codec libp2p-key
_MAX_TEXT = 128  # base16 of the longest id, its CID prefix and its multibase letter have 93


@total_ordering
class PeerId:
    """An immutable peer id; equal ids are equal, hash equal, and order as their bytes do."""

    __slots__ = ("_bytes", "_hash", "_text")

    def __init__(self, multihash: bytes) -> None:
        """Take a multihash: identity of at most 42 bytes, or sha-256. Raises InvalidPeerId for any other."""
        if len(multihash) < 2 or not (
            (multihash[:2] == _SHA256 and len(multihash) == 34)
            or (multihash[0] == _IDENTITY and 0 < multihash[1] == len(multihash) - 2 <= MAX_INLINE_KEY)
        ):
            raise InvalidPeerId(f"not a peer id: {bytes(multihash[:48]).hex()}")
        self._bytes = bytes(multihash)
        self._hash = hash(self._bytes)
        self._text: str | None = None

    @classmethod
    def from_bytes(cls, multihash: bytes) -> PeerId:
        """The same as `PeerId(multihash)`."""
        return cls(multihash)

    @classmethod
    def from_public_key(cls, encoded: bytes) -> PeerId:
        """The id of a public key in its protobuf form."""
        if len(encoded) <= MAX_INLINE_KEY:
            return cls(bytes((_IDENTITY, len(encoded))) + encoded)
        return cls(_SHA256 + hashlib.sha256(encoded).digest())

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """Read base58 (`12D3…`, `Qm…`) or CIDv1 text (base32 `b…`, base36 `k…`, base58 `z…`, base16 `f…`).

        Raises InvalidPeerId, for padding and white space too.
        """
        if len(text) > _MAX_TEXT:
            raise InvalidPeerId(f"not a peer id: {len(text)} characters")
        if not (text.isascii() and text.isalnum()):  # base58's decoder forgives white space
            raise InvalidPeerId(f"not a peer id: {text!r}")
        try:
            if text.startswith(("Qm", "1")):
                return cls(base58.b58decode(text))
            return cls(_from_cid(text))
        except ValueError:
            raise InvalidPeerId(f"not a peer id: {text!r}") from None

    def to_bytes(self) -> bytes:
        """The multihash."""
        return self._bytes

    def to_cid(self) -> str:
        """CIDv1 text in base32."""
        return "b" + base64.b32encode(_CID_PREFIX + self._bytes).decode().rstrip("=").lower()

    def public_key(self) -> PublicKey | None:
        """The key, if the id carries it (Ed25519, secp256k1). Raises InvalidKey if it carries none."""
        if self._bytes[0] != _IDENTITY:
            return None
        from py_p2pstack.identity.keys import PublicKey

        return PublicKey.decode(self._bytes[2:])

    def __str__(self) -> str:
        if self._text is None:
            self._text = base58.b58encode(self._bytes).decode()
        return self._text

    def __repr__(self) -> str:
        return f"<PeerId {str(self)[-6:]}>"

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, PeerId) and self._bytes == other._bytes)

    def __lt__(self, other: object) -> bool:
        return self._bytes < other._bytes if isinstance(other, PeerId) else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return PeerId, (self._bytes,)


def _from_cid(text: str) -> bytes:
    """The multihash inside CIDv1 text."""
    data = multibase.decode(text)
    if data[:2] != _CID_PREFIX:
        raise ValueError("not a libp2p-key CID")
    return data[2:]

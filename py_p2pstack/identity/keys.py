"""Identity keys of the four kinds libp2p knows, and their protobuf coding.

What differs between the kinds lives in one module each (`ed25519`, `secp256k1`, `ecdsa`, `rsa`) behind the
same functions; they are imported when a key of their kind first turns up.

The protobuf form is read and written by hand. The peer id is a hash of it, so the specification allows only
one encoding of a key (both fields, in order, minimal varints, nothing else); a general decoder takes many.
Source: libp2p/specs, peer-ids.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

from py_p2pstack.errors import InvalidKey, RemoteProtocolError
from py_p2pstack.identity.peer_id import PeerId
from py_p2pstack.wire import varint

MAX_ENCODED_PRIVATE = 6000  # an 8192-bit RSA key in PKCS #1 has 4.7 kB
MAX_ENCODED_PUBLIC = 1200  # in PKIX 1.06 kB: nothing larger reaches a DER parser
_TYPE_TAG = 0x08  # field 1, varint
_DATA_TAG = 0x12  # field 2, bytes


class KeyType(Enum):
    """The kinds of keys, by their numbers on the wire."""

    RSA = 0
    ED25519 = 1
    SECP256K1 = 2
    ECDSA = 3


class _Scheme(Protocol):
    """What a module of one kind offers. Each raises InvalidKey (keys) or InvalidSignature (verify)."""

    def generate(self) -> Any: ...

    def load_private(self, raw: bytes) -> Any: ...

    def load_public(self, raw: bytes) -> Any: ...

    def private_raw(self, private: Any) -> bytes: ...

    def public_raw(self, private: Any) -> bytes: ...

    def sign(self, private: Any, data: bytes) -> bytes: ...

    def verify(self, public: Any, data: bytes, signature: bytes) -> None: ...


@cache
def _scheme(key_type: KeyType) -> _Scheme:
    return cast(_Scheme, import_module(f"py_p2pstack.identity.{key_type.name.lower()}"))


class PublicKey:
    """A public key; equal keys are equal and hash equal. The key material is checked when the key is made."""

    __slots__ = ("_encoded", "_handle", "_peer_id", "_raw", "key_type")

    def __init__(self, key_type: KeyType, raw: bytes) -> None:
        """Take a key in the form its kind has on the wire. Raises InvalidKey, also for its size."""
        if len(raw) > MAX_ENCODED_PUBLIC:
            raise InvalidKey(f"a public key of {len(raw)} bytes; the limit is {MAX_ENCODED_PUBLIC}")
        self.key_type = key_type
        self._handle = _scheme(key_type).load_public(raw)
        self._raw = raw
        self._encoded: bytes | None = None
        self._peer_id: PeerId | None = None

    @classmethod
    def decode(cls, data: bytes) -> PublicKey:
        """Read the protobuf form, in its one canonical encoding. Raises InvalidKey."""
        return cls(*_decode(data, MAX_ENCODED_PUBLIC))

    def encode(self) -> bytes:
        """The protobuf form, deterministic."""
        if self._encoded is None:
            self._encoded = _encode(self.key_type, self._raw)
        return self._encoded

    def raw(self) -> bytes:
        """The key in the form its kind has on the wire: 32 bytes, 33 bytes compressed, or PKIX."""
        return self._raw

    def peer_id(self) -> PeerId:
        """The peer id of whoever holds the private key."""
        if self._peer_id is None:
            self._peer_id = PeerId.from_public_key(self.encode())
        return self._peer_id

    def verify(self, data: bytes, signature: bytes) -> None:
        """Check a signature over `data`. Raises InvalidSignature."""
        _scheme(self.key_type).verify(self._handle, data, signature)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.encode())

    def __repr__(self) -> str:
        return f"<PublicKey {self.key_type.name} of {self.peer_id()!r}>"


class PrivateKey:
    """A private key. Its repr shows the peer id, never the key."""

    __slots__ = ("_handle", "key_type", "public_key")

    def __init__(self, key_type: KeyType, handle: Any) -> None:
        """For the class methods below."""
        self.key_type = key_type
        self._handle = handle
        self.public_key = PublicKey(key_type, _scheme(key_type).public_raw(handle))

    @classmethod
    def generate(cls, key_type: KeyType = KeyType.ED25519) -> PrivateKey:
        """Make a fresh key from the system's randomness (RSA: 2048 bits, ECDSA: P-256)."""
        return cls(key_type, _scheme(key_type).generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> PrivateKey:
        """Make the Ed25519 key of a 32-byte seed: the same seed, the same key. Raises InvalidKey."""
        if len(seed) != 32:
            raise InvalidKey(f"an Ed25519 seed has 32 bytes, not {len(seed)}")
        from py_p2pstack.identity import ed25519

        return cls(KeyType.ED25519, ed25519.from_seed(seed))

    @classmethod
    def decode(cls, data: bytes) -> PrivateKey:
        """Read the protobuf form. Raises InvalidKey."""
        key_type, raw = _decode(data, MAX_ENCODED_PRIVATE)
        return cls(key_type, _scheme(key_type).load_private(raw))

    def encode(self) -> bytes:
        """The protobuf form, deterministic. Keep it secret."""
        return _encode(self.key_type, _scheme(self.key_type).private_raw(self._handle))

    def sign(self, data: bytes) -> bytes:
        """Sign `data`."""
        return _scheme(self.key_type).sign(self._handle, data)

    def __repr__(self) -> str:
        return f"<PrivateKey {self.key_type.name} of {self.public_key.peer_id()!r}>"


def _decode(data: bytes, limit: int) -> tuple[KeyType, bytes]:
    """The two fields of a key: public and private keys have the same."""
    if len(data) > limit:
        raise InvalidKey(f"a key of {len(data)} bytes; the limit is {limit}")
    if len(data) < 4 or data[0] != _TYPE_TAG or data[2] != _DATA_TAG:
        raise InvalidKey("a key that is not the canonical protobuf of a type and data")
    try:
        key_type = KeyType(data[1])
    except ValueError:
        raise InvalidKey(f"unknown key type {data[1]}") from None
    try:
        prefix = varint.decode(data, 3)
    except RemoteProtocolError as fault:
        raise InvalidKey(f"a key whose length is malformed: {fault}") from None
    if prefix is None or sum(prefix) != len(data):
        raise InvalidKey("a key whose length is not that of its data")
    return key_type, bytes(data[prefix[1] :])


def _encode(key_type: KeyType, raw: bytes) -> bytes:
    return bytes((_TYPE_TAG, key_type.value, _DATA_TAG)) + varint.encode(len(raw)) + raw

"""Signed envelopes: a payload with its type, signed in a domain by a key that comes along.

Source: libp2p/specs, RFC 0002.
"""

from __future__ import annotations

from py_p2pstack.errors import InvalidKey, InvalidSignature, RecordError
from py_p2pstack.identity.keys import KeyType, PrivateKey, PublicKey
from py_p2pstack.wire import varint

MAX_SIZE = 64 * 1024  # ours: far above any record that fits an identify message or a DHT record


class Envelope:
    """An envelope, immutable by agreement.

    Decoding does not verify: call `verify` with the domain you expect before believing the payload.
    """

    __slots__ = ("payload", "payload_type", "public_key", "signature")

    def __init__(self, public_key: PublicKey, payload_type: bytes, payload: bytes, signature: bytes) -> None:
        self.public_key = public_key
        self.payload_type = payload_type
        self.payload = payload
        self.signature = signature

    @classmethod
    def seal(cls, private_key: PrivateKey, domain: str, payload_type: bytes, payload: bytes) -> Envelope:
        """Sign a payload in a domain, which keeps the signature from meaning anything elsewhere.

        Raises RecordError for an empty domain.
        """
        if not domain:
            raise RecordError("an envelope is signed in a domain")
        signature = private_key.sign(_signed_bytes(domain, payload_type, payload))
        return cls(private_key.public_key, payload_type, payload, signature)

    @classmethod
    def decode(cls, data: bytes) -> Envelope:
        """Read the protobuf form, at most MAX_SIZE bytes. Raises RecordError."""
        from google.protobuf.message import DecodeError

        from py_p2pstack.wire.pb import envelope_pb2

        if len(data) > MAX_SIZE:
            raise RecordError(f"an envelope of {len(data)} bytes; the limit is {MAX_SIZE}")
        message = envelope_pb2.Envelope()
        try:
            message.ParseFromString(data)
            key = message.public_key
            if not (key.HasField("Type") and key.HasField("Data")):
                raise InvalidKey("no public key")
            public_key = PublicKey(KeyType(key.Type), key.Data)
        except (DecodeError, InvalidKey) as fault:
            raise RecordError(f"malformed envelope: {fault}") from None
        return cls(public_key, message.payload_type, message.payload, message.signature)

    def encode(self) -> bytes:
        """The protobuf form."""
        from py_p2pstack.wire.pb import envelope_pb2, keys_pb2

        kind = keys_pb2.KeyType.ValueType(self.public_key.key_type.value)
        key = keys_pb2.PublicKey(Type=kind, Data=self.public_key.raw())
        message = envelope_pb2.Envelope(
            public_key=key, payload_type=self.payload_type, payload=self.payload, signature=self.signature
        )
        return message.SerializeToString(deterministic=True)

    def verify(self, domain: str) -> None:
        """Check the signature in `domain`. Raises RecordError."""
        try:
            self.public_key.verify(_signed_bytes(domain, self.payload_type, self.payload), self.signature)
        except InvalidSignature:
            raise RecordError(f"the envelope's signature does not verify in the domain {domain!r}") from None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Envelope)
            and (self.signature, self.payload, self.payload_type)
            == (other.signature, other.payload, other.payload_type)
            and self.public_key == other.public_key
        )

    def __hash__(self) -> int:
        return hash(self.signature)

    def __repr__(self) -> str:
        return f"<Envelope {self.payload_type.hex()} by {self.public_key.peer_id()!r}>"


def _signed_bytes(domain: str, payload_type: bytes, payload: bytes) -> bytes:
    parts = (domain.encode(), payload_type, payload)
    return b"".join(varint.encode(len(part)) + part for part in parts)

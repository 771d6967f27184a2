"""Owned records: a value under a key that belongs to its signer, who numbers it and may replace it.

    key    /owned/<peer id of the owner, in bytes>[/<name>]
    value  a signed envelope over key, sequence, value and expiry

Anybody may keep and pass on the record, nobody else can make one. The key is among what is signed, so a record is of
no use under another name. Of two records the one with the higher sequence is better, whatever came first; then the one
that expires later; then the one whose signed bytes are larger (as in BEP 44, an owner who gives one number to two
values gets one of them, everywhere the same one).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from py_p2pstack.errors import InvalidPeerId, InvalidRecord, RecordError
from py_p2pstack.identity import Envelope, PeerId, PrivateKey
from py_p2pstack.protocols.dht.records.ranking import best_of
from py_p2pstack.wire.pb.owned_pb2 import OwnedRecord as _Message

PREFIX = b"/owned/"
MAX_SIZE = 10 * 1024  # as IPNS: an answer of 16 KiB, which all implementations read, has room for closer peers too
MAX_NAME = 128
MAX_SEQUENCE = (1 << 64) - 1
_DOMAIN = "p2pstack-owned-record"
_PAYLOAD_TYPE = b"/p2pstack/owned-record"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedRecord:
    """What an owner says under one of its names."""

    owner: PeerId
    name: str = ""
    """At most MAX_NAME bytes; "" for the key without a name."""
    value: bytes
    sequence: int
    """A higher one replaces a lower one: count up with each change."""
    expires: int | None = None
    """Until when it holds, in seconds since 1970; None: as long as somebody keeps it."""

    @classmethod
    def create(
        cls, private_key: PrivateKey, name: str, value: bytes, sequence: int, *, expires: float | None = None
    ) -> tuple[bytes, bytes]:
        """Return key and value of a record to put. Raises InvalidRecord if it breaks a bound."""
        owner = private_key.public_key.peer_id()
        until = None if expires is None else int(expires)
        record = cls(owner=owner, name=name, value=value, sequence=sequence, expires=until)
        return record.key, record.seal(private_key)

    @property
    def key(self) -> bytes:
        """The key it lies under. Raises InvalidRecord for a name that is too long."""
        return key_of(self.owner, self.name)

    def seal(self, private_key: PrivateKey) -> bytes:
        """Sign the record. Raises InvalidRecord if the key is not the owner's, or a bound is broken."""
        if private_key.public_key.peer_id() != self.owner:
            raise InvalidRecord("an owned record is signed by its owner")
        if not 0 <= self.sequence <= MAX_SEQUENCE or not (self.expires is None or 0 < self.expires < 1 << 63):
            raise InvalidRecord(f"an owned record numbered {self.sequence} that expires at {self.expires}")
        message = _Message(key=self.key, sequence=self.sequence, value=self.value, expires=self.expires or 0)
        payload = message.SerializeToString(deterministic=True)
        sealed = Envelope.seal(private_key, _DOMAIN, _PAYLOAD_TYPE, payload).encode()
        if len(sealed) > MAX_SIZE:
            raise InvalidRecord(f"an owned record of {len(sealed)} bytes; the limit is {MAX_SIZE}")
        return sealed

    @classmethod
    def parse(cls, value: bytes) -> OwnedRecord:
        """Read a record and check that its owner signed it, for whichever key and whatever time.

        Raises InvalidRecord.
        """
        envelope = _envelope(value)
        try:
            envelope.verify(_DOMAIN)
        except RecordError as fault:
            raise InvalidRecord(str(fault)) from None
        return cls._read(envelope)

    @classmethod
    def verify(cls, key: bytes, value: bytes, now: float) -> OwnedRecord:
        """Read a record that lies under `key` and holds at `now`, seconds since 1970. Raises InvalidRecord."""
        owner, name = split_key(key)
        record = cls.parse(value)
        if (record.owner, record.name) != (owner, name):
            raise InvalidRecord(f"a record of {record.owner}, {record.name!r}, under the key of {owner}, {name!r}")
        if record.has_expired(now):
            raise InvalidRecord(f"the record expired {now - (record.expires or 0):.0f} s ago")
        return record

    def has_expired(self, now: float) -> bool:
        """Whether it holds no longer at `now`, seconds since 1970."""
        return self.expires is not None and self.expires <= now

    @classmethod
    def _read(cls, envelope: Envelope) -> OwnedRecord:
        try:
            message = _Message.FromString(envelope.payload)
        except DecodeError as fault:
            raise InvalidRecord(f"malformed owned record: {fault}") from None
        owner, name = split_key(message.key)
        if envelope.public_key.peer_id() != owner:
            raise InvalidRecord(f"a record of {owner} signed by {envelope.public_key.peer_id()}")
        return cls(
            owner=owner, name=name, value=message.value, sequence=message.sequence, expires=message.expires or None
        )


class OwnedValidator:
    """The rules of `/owned/`."""

    __slots__ = ()

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Check owner, signature, key and time."""
        OwnedRecord.verify(key, value, now)

    def select(self, key: bytes, values: Sequence[bytes], now: float) -> int:
        """Return the one with the highest sequence, then the latest expiry, then the larger signed bytes."""
        return best_of(values, _rank, "owned")


def _rank(value: bytes) -> tuple[int, float, bytes]:
    envelope = _envelope(value)
    record = OwnedRecord._read(envelope)
    return record.sequence, record.expires or math.inf, envelope.payload


def key_of(owner: PeerId, name: str = "") -> bytes:
    """The key of an owner's record. Raises InvalidRecord for a name of more than MAX_NAME bytes."""
    encoded = name.encode(errors="surrogatepass")
    key = PREFIX + owner.to_bytes() + (b"/" + encoded if name else b"")
    split_key(key)
    return key


def split_key(key: bytes) -> tuple[PeerId, str]:
    """Return the owner and the name, which may be "". Raises InvalidRecord."""
    start = len(PREFIX)
    # The bytes of a peer id may contain a slash: their second byte tells where they end.
    end = start + 2 + key[start + 1] if len(key) > start + 1 else start
    name = key[end + 1 :]
    try:
        if key.startswith(PREFIX) and len(name) <= MAX_NAME and (key[end:] == b"" or (key[end] == 0x2F and name)):
            return PeerId(key[start:end]), name.decode()
    except (InvalidPeerId, UnicodeDecodeError):
        pass
    raise InvalidRecord(f"no key of an owned record: {key[:48]!r}")


def _envelope(value: bytes) -> Envelope:
    if len(value) > MAX_SIZE:
        raise InvalidRecord(f"an owned record of {len(value)} bytes; the limit is {MAX_SIZE}")
    try:
        envelope = Envelope.decode(value)
    except RecordError as fault:
        raise InvalidRecord(str(fault)) from None
    if envelope.payload_type != _PAYLOAD_TYPE:
        raise InvalidRecord(f"payload type {envelope.payload_type[:32].hex()} is no owned record")
    if envelope.encode() != value:  # or whoever passes it on could pad it
        raise InvalidRecord("an owned record in an unusual encoding")
    return envelope

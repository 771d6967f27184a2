"""IPNS records: a name, which is a key's peer id, points to a path; the holder of the key signs and numbers it.

Only the second version of the signature counts. Records we make carry the first too, as go's do, because the
specification wants readers from before 2021 to find their way to newer software.
Source: IPFS specifications, IPNS Record and Protocol; the order of records: boxo, package ipns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from py_p2pstack.errors import InvalidKey, InvalidPeerId, InvalidRecord, InvalidSignature
from py_p2pstack.identity import PeerId, PrivateKey, PublicKey
from py_p2pstack.protocols.dht import rfc3339
from py_p2pstack.protocols.dht.records import dag_cbor
from py_p2pstack.protocols.dht.records.ranking import best_of
from py_p2pstack.wire.pb.ipns_pb2 import IpnsEntry

PREFIX = b"/ipns/"
MAX_SIZE = 10 * 1024
MAX_INTEGER = (1 << 63) - 1  # Go reads CBOR integers as int64; above, our records would be nobody's but ours
DEFAULT_TTL = 300.0
DEFAULT_LIFETIME = 48 * 3600.0  # peers keep a value no longer
_DOMAIN = b"ipns-signature:"


@dataclass(frozen=True, slots=True, kw_only=True)
class IpnsRecord:
    """What a name points to."""

    value: bytes
    """A content path such as `/ipfs/bafy…`."""
    sequence: int
    """A higher one replaces a lower one."""
    validity: int
    """Until when it holds, in nanoseconds since 1970."""
    ttl: int
    """How long a resolver may keep it before it asks again, in nanoseconds."""

    @classmethod
    def create(
        cls,
        private_key: PrivateKey,
        value: str | bytes,
        sequence: int,
        *,
        now: float,
        lifetime: float = DEFAULT_LIFETIME,
        ttl: float = DEFAULT_TTL,
    ) -> tuple[bytes, bytes]:
        """Return key and value of a record to put; `now`, `lifetime` and `ttl` in seconds. Raises InvalidRecord."""
        record = cls(
            value=value.encode() if isinstance(value, str) else value,
            sequence=sequence,
            validity=round((now + lifetime) * rfc3339.SECOND),
            ttl=round(ttl * rfc3339.SECOND),
        )
        return routing_key(private_key.public_key.peer_id()), record.seal(private_key)

    def seal(self, private_key: PrivateKey, *, legacy: bool = True) -> bytes:
        """Sign the record; `legacy` adds the fields of version 1. Raises InvalidRecord if it breaks a bound."""
        if not (0 <= self.sequence <= MAX_INTEGER and 0 <= self.ttl <= MAX_INTEGER):
            raise InvalidRecord(f"an IPNS record numbered {self.sequence}, kept for {self.ttl} ns")
        try:
            validity = rfc3339.format(self.validity).encode()
        except ValueError as fault:
            raise InvalidRecord(f"an IPNS record that ends when? {fault}") from None
        data = dag_cbor.encode(
            {
                "Sequence": self.sequence,
                "TTL": self.ttl,
                "Validity": validity,
                "ValidityType": 0,
                "Value": self.value,
            }
        )
        entry = IpnsEntry(signatureV2=private_key.sign(_DOMAIN + data), data=data)
        if legacy:
            entry.value, entry.validity = self.value, validity
            entry.validityType = IpnsEntry.EOL
            entry.sequence, entry.ttl = self.sequence, self.ttl
            entry.signatureV1 = private_key.sign(self.value + validity + b"EOL")
        public_key = private_key.public_key
        if public_key.peer_id().public_key() is None:
            entry.pubKey = public_key.encode()
        sealed = entry.SerializeToString(deterministic=True)
        if len(sealed) > MAX_SIZE:
            raise InvalidRecord(f"an IPNS record of {len(sealed)} bytes; the limit is {MAX_SIZE}")
        return sealed

    @classmethod
    def parse(cls, value: bytes) -> IpnsRecord:
        """Read a record without believing it: the signature and the time are not checked. Raises InvalidRecord."""
        return cls._read(_entry(value))

    @classmethod
    def verify(cls, key: bytes, value: bytes, now: float) -> IpnsRecord:
        """Read a record that lies under `key` and holds at `now`, seconds since 1970. Raises InvalidRecord."""
        name = name_of(key)
        entry = _entry(value)
        try:
            _signer(entry, name).verify(_DOMAIN + entry.data, entry.signatureV2)
        except InvalidSignature:
            raise InvalidRecord(f"the record is not signed by {name}") from None
        record = cls._read(entry)
        if record.has_expired(now):
            raise InvalidRecord(f"the record held until {rfc3339.format(record.validity)}")
        return record

    def has_expired(self, now: float) -> bool:
        """Whether it holds no longer at `now`, seconds since 1970."""
        return self.validity <= now * rfc3339.SECOND

    @classmethod
    def _read(cls, entry: IpnsEntry) -> IpnsRecord:
        try:
            data = dag_cbor.decode(entry.data)
        except ValueError as fault:
            raise InvalidRecord(f"an IPNS record of malformed data: {fault}") from None
        match data:
            case {"Value": bytes(target), "Validity": bytes(validity), **numbers}:
                pass
            case _:
                raise InvalidRecord("an IPNS record without value or validity")
        kind, sequence, ttl = (_unsigned(numbers.get(name)) for name in ("ValidityType", "Sequence", "TTL"))
        if entry.signatureV1 or entry.value:
            legacy = (entry.value, entry.validity, entry.validityType, entry.sequence, entry.ttl)
            if legacy != (target, validity, kind, sequence, ttl):
                raise InvalidRecord("an IPNS record whose legacy fields differ from those signed")
        if kind != IpnsEntry.EOL:
            raise InvalidRecord(f"an IPNS record of the unknown validity type {kind}")
        try:
            until = rfc3339.parse(validity.decode())
        except ValueError as fault:
            raise InvalidRecord(f"an IPNS record that ends when? {fault}") from None
        return cls(value=target, sequence=sequence, validity=until, ttl=ttl)


class IpnsValidator:
    """The rules of `/ipns/`."""

    __slots__ = ()

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Check name, signature, form and time."""
        IpnsRecord.verify(key, value, now)

    def select(self, key: bytes, values: Sequence[bytes], now: float) -> int:
        """Return the one with the highest sequence, then the latest end, then the larger bytes."""
        return best_of(values, _rank, "IPNS")


def _rank(value: bytes) -> tuple[int, int, bytes]:
    record = IpnsRecord.parse(value)
    return record.sequence, record.validity, value


def routing_key(name: PeerId) -> bytes:
    """The key under which a name's record lies in the DHT."""
    return PREFIX + name.to_bytes()


def name_of(key: bytes) -> PeerId:
    """The name whose record lies under `key`. Raises InvalidRecord."""
    try:
        if key.startswith(PREFIX):
            return PeerId(key[len(PREFIX) :])
    except InvalidPeerId:
        pass
    raise InvalidRecord(f"no IPNS name: {key[:48]!r}")


def _entry(value: bytes) -> IpnsEntry:
    if len(value) > MAX_SIZE:
        raise InvalidRecord(f"an IPNS record of {len(value)} bytes; the limit is {MAX_SIZE}")
    try:
        entry = IpnsEntry.FromString(value)
    except DecodeError as fault:
        raise InvalidRecord(f"no IPNS record: {fault}") from None
    if not entry.signatureV2 or not entry.data:
        raise InvalidRecord("an IPNS record without a signature of version 2")
    return entry


def _unsigned(value: object) -> int:
    if type(value) is not int or value < 0:  # True is an int too
        raise InvalidRecord(f"an IPNS record with {value!r} in the place of a number")
    return value


def _signer(entry: IpnsEntry, name: PeerId) -> PublicKey:
    try:
        key = PublicKey.decode(entry.pubKey) if entry.pubKey else name.public_key()
    except InvalidKey as fault:
        raise InvalidRecord(f"an IPNS record with a bad key: {fault}") from None
    if key is None:
        raise InvalidRecord(f"an IPNS record without the key that {name} is the hash of")
    if key.peer_id() != name:
        raise InvalidRecord(f"an IPNS record of {name} with the key of {key.peer_id()}")
    return key

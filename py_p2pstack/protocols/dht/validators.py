"""Which values may lie under which keys, and which of two is the better: one validator per namespace.

A key is `/<namespace>/<rest>`; what the rest and the value mean is the namespace's affair. Nothing here does I/O; `now`
is the time of day in seconds since 1970, because records carry their expiry as such. Source: go-libp2p-record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from py_p2pstack.errors import InvalidKey, InvalidRecord
from py_p2pstack.identity import PublicKey
from py_p2pstack.protocols.dht.records.ipns import IpnsValidator
from py_p2pstack.protocols.dht.records.owned import OwnedValidator

MAX_BLANK_VALUE = 64 * 1024


class Validator(Protocol):
    """The rules of one namespace."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Check that `value` may lie under `key` now. Raises InvalidRecord."""
        ...

    def select(self, key: bytes, values: Sequence[bytes], now: float) -> int:
        """Return the index of the best of `values`, each of which was valid when it was checked.

        Of equally good ones the first wins. So a caller lists first what it would rather keep: a put (ours, or one
        received) the new value before the stored one, a search the best so far before what just arrived. Values that
        cannot be read any more are passed over. Raises InvalidRecord if none is left.
        """
        ...


class Validators:
    """Sends each key to the validator of its namespace, and is a validator itself."""

    __slots__ = ("_namespaces",)

    def __init__(self, namespaces: Mapping[str, Validator]) -> None:
        self._namespaces = {name.encode(): validator for name, validator in namespaces.items()}

    def __repr__(self) -> str:
        return f"<Validators of {', '.join(self.namespaces)}>"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces known, in the order they were given."""
        return tuple(name.decode() for name in self._namespaces)

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Check `value` by the rules of the key's namespace. Raises InvalidRecord, for an unknown namespace too."""
        self._validator_of(key).validate(key, value, now)

    def select(self, key: bytes, values: Sequence[bytes], now: float) -> int:
        """Return the index of the best of `values`. Raises InvalidRecord if there is none, or no such namespace."""
        validator = self._validator_of(key)
        if not values:
            raise InvalidRecord("no values to choose from")
        return validator.select(key, values, now)

    def _validator_of(self, key: bytes) -> Validator:
        namespace, _ = split_key(key)
        validator = self._namespaces.get(namespace)
        if validator is None:
            raise InvalidRecord(f"no validator for keys of the namespace {namespace[:32].decode(errors='replace')!r}")
        return validator


def split_key(key: bytes) -> tuple[bytes, bytes]:
    """Return namespace and rest of `/<namespace>/<rest>`. Raises InvalidRecord for any other key."""
    end = key.find(b"/", 1)
    if not key.startswith(b"/") or end < 2:
        raise InvalidRecord(f"a key is /namespace/…, not {key[:32]!r}")
    return key[1:end], key[end + 1 :]


class PublicKeyValidator:
    """`/pk/<peer id>`: the peer's public key in its protobuf form; there is exactly one valid value."""

    __slots__ = ()

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Check that the value is a public key, and its peer id the one in the key."""
        _, peer = split_key(key)
        try:
            owner = PublicKey.decode(value).peer_id()
        except InvalidKey as fault:
            raise InvalidRecord(f"no public key: {fault}") from None
        if owner.to_bytes() != peer:
            raise InvalidRecord(f"the public key of {owner} under another key than its own")

    def select(self, key: bytes, values: Sequence[bytes], now: float) -> int:
        """Return the first: valid ones are equal."""
        return 0


class BlankValidator:
    """Anything up to a size goes, and the last writer wins.

    For private networks whose members trust each other: anybody may overwrite anything. There is no order among values
    but that of the list, so the one put last replaces what a peer stored, and a search stays with what it found first.
    """

    __slots__ = ("max_size",)

    def __init__(self, max_size: int = MAX_BLANK_VALUE) -> None:
        self.max_size = max_size

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """Check the size."""
        if len(value) > self.max_size:
            raise InvalidRecord(f"a value of {len(value)} bytes; the limit is {self.max_size}")

    def select(self, key: bytes, values: Sequence[bytes], now: float) -> int:
        """Return the first."""
        return 0


def public_validators() -> Validators:
    """What the public IPFS network knows: `/pk/` and `/ipns/`."""
    return Validators({"pk": PublicKeyValidator(), "ipns": IpnsValidator()})


def default_validators() -> Validators:
    """What a network of our own knows: the public namespaces, `/owned/`, and `/v/` for anything."""
    return Validators(
        {"pk": PublicKeyValidator(), "ipns": IpnsValidator(), "owned": OwnedValidator(), "v": BlankValidator()}
    )

"""An immutable multiaddr: strict when read from bytes, cheap to compare, hash and print.

The `multiaddr` package's own class accepts truncated bytes and is slow to parse and to compare; addresses are
keys of our peerstore, backoff and routing tables, and strangers send them by the thousand.
Source: github.com/multiformats/multiaddr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from py_p2pstack.addresses.protocols import (
    BY_CODE,
    BY_NAME,
    VARIABLE,
    Protocol,
    check_value,
    value_bytes,
    value_text,
)
from py_p2pstack.errors import InvalidAddress, RemoteProtocolError
from py_p2pstack.identity import PeerId
from py_p2pstack.wire import varint

if TYPE_CHECKING:
    import multiaddr

MAX_SIZE = 1024  # bytes; far above a relayed address with two peer ids and a long name
_MAX_TEXT = 4 * MAX_SIZE  # a path's text takes up to three characters a byte
_P2P = BY_NAME["p2p"]
_IP6 = BY_NAME["ip6"]
_ZONE = BY_NAME["ip6zone"]


class Multiaddr:
    """A multiaddr: immutable; equal, hashed and ordered as its binary form.

    Make one with `Multiaddr.parse` (text) or `parse_bytes` (binary form).
    """

    __slots__ = ("_bytes", "_hash", "_parts", "_text")

    def __init__(self, parts: tuple[tuple[Protocol, bytes], ...], encoded: bytes | None = None) -> None:
        """For the functions of this module; `parts` were checked, `encoded` is their binary form."""
        if encoded is None:
            encoded = b"".join(_encode_part(protocol, value) for protocol, value in parts)
        self._parts = parts
        self._bytes = encoded
        self._hash = hash(self._bytes)
        self._text: str | None = None

    @classmethod
    def parse(cls, address: str | Multiaddr | multiaddr.Multiaddr) -> Multiaddr:
        """Read text (`/ip4/127.0.0.1/tcp/4001`); a Multiaddr, ours or the package's, is taken too.

        Raises InvalidAddress, also for one of more than MAX_SIZE bytes.
        """
        if isinstance(address, Multiaddr):
            return address
        if not isinstance(address, str):
            return parse_bytes(address.to_bytes())
        result = cls(_parse_text(address))
        if len(result._bytes) > MAX_SIZE:
            raise InvalidAddress(f"a multiaddr of {len(result._bytes)} bytes; the limit is {MAX_SIZE}")
        return result

    def to_bytes(self) -> bytes:
        """The binary form."""
        return self._bytes

    def to_multiaddr(self) -> multiaddr.Multiaddr:
        """The same address as the `multiaddr` package's type."""
        from multiaddr import Multiaddr as Foreign

        return Foreign(self._bytes)

    @property
    def protocols(self) -> tuple[str, ...]:
        """The names of the protocols, in order."""
        return tuple(protocol.name for protocol, _ in self._parts)

    def value(self, name: str) -> str | None:
        """The text of a protocol's first value; "" if it carries none, None if the address does not have it."""
        for protocol, value in self._parts:
            if protocol.name == name:
                return value_text(protocol, value) if protocol.size else ""
        return None

    def raw_value(self, name: str) -> bytes | None:
        """The bytes of the first value of a protocol."""
        for protocol, value in self._parts:
            if protocol.name == name:
                return value
        return None

    @property
    def head(self) -> tuple[str, bytes] | None:
        """The name and the value's bytes of the first part, behind an `ip6zone`; None if there is none.

        What the address says of the place to dial is said here: the same protocol further in may lie behind a relay.
        """
        for protocol, value in self._parts[:2]:
            if protocol is not _ZONE:
                return protocol.name, value
        return None

    def encapsulate(self, other: Multiaddr | str) -> Multiaddr:
        """This address with `other` behind it. Raises InvalidAddress if `other` is no address."""
        return Multiaddr(self._parts + Multiaddr.parse(other)._parts)

    def decapsulate(self, name: str) -> Multiaddr:
        """This address up to the last part of protocol `name`, which goes too; itself, if it has none."""
        for index in range(len(self._parts) - 1, -1, -1):
            if self._parts[index][0].name == name:
                return Multiaddr(self._parts[:index])
        return self

    def peer_id(self) -> PeerId | None:
        """The peer id at the end, if there is one: the peer this address leads to."""
        if self._parts and self._parts[-1][0] is _P2P:
            return PeerId(self._parts[-1][1])
        return None

    def with_peer(self, peer: PeerId) -> Multiaddr:
        """This address with `/p2p/<peer>` at its end, in the place of one already there."""
        base = self.without_peer()
        return Multiaddr((*base._parts, (_P2P, peer.to_bytes())))

    def without_peer(self) -> Multiaddr:
        """This address without the `/p2p/…` at its end."""
        if self._parts and self._parts[-1][0] is _P2P:
            return Multiaddr(self._parts[:-1])
        return self

    def __str__(self) -> str:
        if self._text is None:
            self._text = "".join(_part_text(protocol, value) for protocol, value in self._parts)
        return self._text

    def __repr__(self) -> str:
        return f"<Multiaddr {self}>"

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Multiaddr) and self._bytes == other._bytes)

    def __lt__(self, other: object) -> bool:
        return self._bytes < other._bytes if isinstance(other, Multiaddr) else NotImplemented

    def __len__(self) -> int:
        """How many parts it has."""
        return len(self._parts)

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._bytes,)


def _restore(data: bytes) -> Multiaddr:
    """What a pickle calls; an address may become empty by `decapsulate`."""
    return parse_bytes(data) if data else Multiaddr(())


def parse_bytes(data: bytes) -> Multiaddr:
    """Read the binary form of an address from a stranger.

    Raises InvalidAddress: empty, truncated, over MAX_SIZE bytes, an unknown protocol, a value that is none.
    """
    end = len(data)
    if not 0 < end <= MAX_SIZE:
        raise InvalidAddress(f"a multiaddr of {end} bytes")
    parts = []
    offset = 0
    careful = False
    while offset < end:
        protocol = _ONE_BYTE.get(data[offset])
        if protocol is not None:
            offset += 1
        else:
            protocol = _TWO_BYTES.get(data[offset : offset + 2])
            if protocol is None:
                raise InvalidAddress(f"unknown multiaddr protocol {_varint(data, offset)[0]}")
            offset += 2
        size = protocol.size
        if size == VARIABLE:
            size, offset = _varint(data, offset)
            if size == 0:
                raise InvalidAddress(f"an empty {protocol.name} value")
        stop = offset + size
        if stop > end:
            raise InvalidAddress(f"a multiaddr that ends inside its {protocol.name} value")
        value = data[offset:stop]
        if size and protocol not in _ALL_VALID:
            check_value(protocol, value)
            careful = True
        parts.append((protocol, value))
        offset = stop
    return Multiaddr(_checked(parts) if careful else tuple(parts), data)


def _checked(parts: list[tuple[Protocol, bytes]]) -> tuple[tuple[Protocol, bytes], ...]:
    """Rules between parts: a zone is one of the IPv6 address right behind it; a path is the last part."""
    for index, (protocol, _) in enumerate(parts):
        last = index + 1 == len(parts)
        if protocol is _ZONE and (last or parts[index + 1][0] is not _IP6):
            raise InvalidAddress("an ip6zone without its ip6")
        if protocol.is_path and not last:
            raise InvalidAddress(f"a multiaddr that goes on behind its {protocol.name} path")
    return tuple(parts)


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    try:
        result = varint.decode(data, offset)
    except RemoteProtocolError as fault:
        raise InvalidAddress(str(fault)) from None
    if result is None:
        raise InvalidAddress("a truncated multiaddr")
    return result


def _parse_text(text: str) -> tuple[tuple[Protocol, bytes], ...]:
    if not text.startswith("/") or len(text) > _MAX_TEXT:
        raise InvalidAddress(f"not a multiaddr: {text[:80]!r}")
    words = text.rstrip("/")[1:].split("/")
    parts = []
    position = 0
    while position < len(words):
        name = words[position]
        protocol = BY_NAME.get(name)
        if protocol is None:
            raise InvalidAddress(f"unknown multiaddr protocol {name!r} in {text[:200]!r}")
        position += 1
        value = b""
        if protocol.size != 0:
            if position == len(words):
                raise InvalidAddress(f"no value behind {name!r} in {text[:200]!r}")
            last = len(words) if protocol.is_path else position + 1
            value = value_bytes(protocol, "/".join(words[position:last]))
            position = last
        parts.append((protocol, value))
    return _checked(parts)


def _part_text(protocol: Protocol, value: bytes) -> str:
    if protocol.size == 0:
        return f"/{protocol.name}"
    return f"/{protocol.name}/{value_text(protocol, value).removeprefix('/')}"


def _encode_part(protocol: Protocol, value: bytes) -> bytes:
    head = _CODES[protocol.code]
    if protocol.size == VARIABLE:
        return head + varint.encode(len(value)) + value
    return head + value


_CODES = {code: varint.encode(code) for code in BY_CODE}
_ONE_BYTE = {code: protocol for code, protocol in BY_CODE.items() if code < 0x80}
_TWO_BYTES = {_CODES[code]: protocol for code, protocol in BY_CODE.items() if code >= 0x80}
_ALL_VALID = {protocol for protocol in BY_CODE.values() if protocol.to_text is not None and protocol.check is None}

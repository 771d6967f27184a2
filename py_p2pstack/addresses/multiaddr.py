"""An immutable multiaddr: strict when read from bytes, cheap to compare, hash and print.

The `multiaddr` package's own class accepts truncated bytes and is slow to parse and to compare; addresses are keys of
our peerstore, backoff and routing tables, and strangers send them by the thousand. Source: multiformats/multiaddr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from py_p2pstack.addresses.protocols import BY_CODE, BY_NAME, VARIABLE, Protocol, value_bytes, value_text
from py_p2pstack.errors import InvalidAddress, RemoteProtocolError
from py_p2pstack.identity import PeerId
from py_p2pstack.wire import varint

if TYPE_CHECKING:
    import multiaddr

MAX_SIZE = 1024  # bytes; far above a relayed address with two peer ids and a long name
_P2P = BY_NAME["p2p"]


class Multiaddr:
    """A multiaddr. Make one with `Multiaddr.parse` (text) or `parse_bytes` (binary form)."""

    __slots__ = ("_bytes", "_hash", "_parts", "_text")

    def __init__(self, parts: tuple[tuple[Protocol, bytes], ...]) -> None:
        """For the functions of this module; `parts` were checked."""
        self._parts = parts
        self._bytes = b"".join(_encode_part(protocol, value) for protocol, value in parts)
        self._hash = hash(self._bytes)
        self._text: str | None = None

    @classmethod
    def parse(cls, address: str | Multiaddr | multiaddr.Multiaddr) -> Multiaddr:
        """Read text (`/ip4/127.0.0.1/tcp/4001`); a Multiaddr, ours or the package's, is taken too.

        Raises InvalidAddress.
        """
        if isinstance(address, Multiaddr):
            return address
        if not isinstance(address, str):
            return parse_bytes(address.to_bytes())
        return cls(_parse_text(address))

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
        """The text of the first value of a protocol; "" if it carries none, None if the address does not have it."""
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

    def encapsulate(self, other: Multiaddr | str) -> Multiaddr:
        """This address with `other` behind it."""
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
        """This address with `/p2p/<peer>` at its end, once."""
        base = self.without_peer()
        return Multiaddr((*base._parts, (_P2P, peer.to_bytes())))

    def without_peer(self) -> Multiaddr:
        """This address without the `/p2p/…` at its end."""
        if self._parts and self._parts[-1][0] is _P2P:
            return Multiaddr(self._parts[:-1])
        return self

    def __str__(self) -> str:
        if self._text is None:
            self._text = "".join(
                f"/{protocol.name}/{_join(value_text(protocol, value))}" if protocol.size else f"/{protocol.name}"
                for protocol, value in self._parts
            )
        return self._text

    def __repr__(self) -> str:
        return f"<Multiaddr {self}>"

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Multiaddr) and self._bytes == other._bytes)

    def __lt__(self, other: Multiaddr) -> bool:
        return self._bytes < other._bytes

    def __len__(self) -> int:
        return len(self._parts)

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return parse_bytes, (self._bytes,)


def parse_bytes(data: bytes) -> Multiaddr:
    """Read the binary form of an address from a stranger.

    Raises InvalidAddress: truncated, too long, an unknown protocol, a value that is none.
    """
    if not 0 < len(data) <= MAX_SIZE:
        raise InvalidAddress(f"a multiaddr of {len(data)} bytes")
    parts = []
    offset, end = 0, len(data)
    while offset < end:
        code, offset = _varint(data, offset)
        protocol = BY_CODE.get(code)
        if protocol is None:
            raise InvalidAddress(f"unknown multiaddr protocol {code}")
        size = protocol.size
        if size == VARIABLE:
            size, offset = _varint(data, offset)
            if size == 0:
                raise InvalidAddress(f"an empty {protocol.name} value")
        stop = offset + size
        if stop > end:
            raise InvalidAddress(f"a multiaddr that ends inside its {protocol.name} value")
        value = bytes(data[offset:stop])
        if protocol.size == VARIABLE:
            value_text(protocol, value)  # fixed-size values are all valid
        parts.append((protocol, value))
        offset = stop
    return Multiaddr(tuple(parts))


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    try:
        result = varint.decode(data, offset)
    except RemoteProtocolError as fault:
        raise InvalidAddress(str(fault)) from None
    if result is None:
        raise InvalidAddress("a truncated multiaddr")
    return result


def _parse_text(text: str) -> tuple[tuple[Protocol, bytes], ...]:
    if not text.startswith("/") or len(text) > 2 * MAX_SIZE:
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
        if protocol.size:
            if position == len(words):
                raise InvalidAddress(f"no value behind {name!r} in {text[:200]!r}")
            last = len(words) if protocol.name == "unix" else position + 1  # a path takes the rest
            value = value_bytes(protocol, "/".join(words[position:last]))
            position = last
        parts.append((protocol, value))
    result = tuple(parts)
    if sum(len(value) for _, value in result) > MAX_SIZE:
        raise InvalidAddress(f"a multiaddr longer than {MAX_SIZE} bytes")
    return result


def _join(text: str) -> str:
    return text.removeprefix("/")


def _encode_part(protocol: Protocol, value: bytes) -> bytes:
    head = _CODES[protocol.code]
    if protocol.size == VARIABLE:
        return head + varint.encode(len(value)) + value
    return head + value


_CODES = {code: varint.encode(code) for code in BY_CODE}

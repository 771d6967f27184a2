"""DHT keys as people write them ↔ the bytes they are on the wire.

    /pk/<peer id>             /ipns/<peer id or CID>        /owned/<peer id>[/<name>]        /<any other>/<UTF-8>

A peer id is read in each of its forms (base58 `12D3…`, CIDv1 `k51…` or `bafz…`) and written in base58; an IPNS name
is written as it is everywhere, as a CID in base36.
"""

from __future__ import annotations

from py_p2pstack.errors import InvalidPeerId, InvalidRecord
from py_p2pstack.identity import PeerId
from py_p2pstack.protocols.dht.records import ipns, owned
from py_p2pstack.protocols.dht.validators import split_key

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_CID_PREFIX = b"\x01\x72"  # CIDv1, codec libp2p-key


def key_from_text(text: str) -> bytes:
    """Return the key's bytes. Raises InvalidRecord for text that is no key of its namespace."""
    try:
        namespace, rest = split_key(text.encode())
        match namespace:
            case b"pk":
                return b"/pk/" + PeerId.parse(rest.decode()).to_bytes()
            case b"ipns":
                return ipns.routing_key(PeerId.parse(rest.decode()))
            case b"owned":
                owner, slash, name = rest.decode().partition("/")
                if slash and not name:
                    raise InvalidRecord("an empty name")
                return owned.key_of(PeerId.parse(owner), name)
    except (InvalidPeerId, InvalidRecord, UnicodeEncodeError) as fault:
        raise InvalidRecord(f"no DHT key: {text[:160]!r} ({fault})") from None
    return text.encode()


def key_to_text(key: bytes) -> str:
    """Return what `key_from_text` reads.

    Bytes that have no such form are shown with escapes (`\\xff`), which it does not read.
    """
    try:
        if key.startswith(b"/pk/"):
            return f"/pk/{PeerId(key[4:])}"
        if key.startswith(ipns.PREFIX):
            return "/ipns/" + _base36(_CID_PREFIX + ipns.name_of(key).to_bytes())
        if key.startswith(owned.PREFIX):
            owner, name = owned.split_key(key)
            return f"/owned/{owner}" + (f"/{name}" if name else "")
    except (InvalidPeerId, InvalidRecord):
        pass
    return key.decode(errors="backslashreplace")


def _base36(data: bytes) -> str:
    """Multibase base36: `k` and the digits. (Leading zero bytes, which a CID has none of, would be lost.)"""
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return "k" + digits
